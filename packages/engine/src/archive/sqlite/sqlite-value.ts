import { isUtf8 } from 'node:buffer';

/** What `typeof()` says of a value, and the value; texts come as the bytes that are stored. */
export type Storage = 'null' | 'integer' | 'real' | 'text' | 'blob';
export type StoredValue = null | bigint | number | string | Uint8Array;

/** How texts are stored, as `pragma encoding` names it. */
export type TextEncoding = 'UTF-8' | 'UTF-16le' | 'UTF-16be';

/** A value that has no form in the type; `message` says why, without the value. */
export class ValueRefused extends Error {
  override readonly name = 'ValueRefused';
}

/** Text forms that PostgreSQL reads, under `DateStyle = ISO` and `TimeZone = UTC`. @throws ValueRefused */
export type ToText = (storage: Storage, value: StoredValue, encoding: TextEncoding) => string | null;

/** How values of a column of this type of PostgreSQL (as `format_type` prints it) are written. */
export function converter(type: string): ToText {
  const write = families.find(([pattern]) => pattern.test(type))?.[1] ?? asText;
  return (storage, value, encoding) => {
    if (storage === 'null' || value === null) return null;
    if (storage === 'text') return write('text', decoded(value, encoding));
    return write(storage, value);
  };
}

type Write = (storage: Exclude<Storage, 'null'>, value: Exclude<StoredValue, null>) => string;

/** Unix times from here on are milliseconds: as seconds they would be after the year 5138. */
const millisecondsFrom = 100_000_000_000n;
/** What SQLite's own `auto` modifier takes for a Julian day; a larger REAL is a Unix time. */
const julianDayMax = 5_373_484.5;
const unixEpochJulian = 2_440_587.5;
const dayMs = 86_400_000;

const integerRanges: Readonly<Record<string, bigint>> = { smallint: 2n ** 15n, integer: 2n ** 31n, bigint: 2n ** 63n };

const families: readonly (readonly [RegExp, Write])[] = [
  [/^boolean$/, asBoolean],
  [/^smallint$/, (storage, value) => asInteger(storage, value, 'smallint')],
  [/^integer$/, (storage, value) => asInteger(storage, value, 'integer')],
  [/^bigint$/, (storage, value) => asInteger(storage, value, 'bigint')],
  [/^numeric(\(|$)/, asNumber],
  [/^(real|double precision)$/, asNumber],
  [/^timestamp(\(\d\))? with time zone$/, (storage, value) => asTimestamp(storage, value, '+00')],
  [/^timestamp/, (storage, value) => asTimestamp(storage, value, '')],
  [/^date$/, asDate],
  [/^jsonb?$/, asJson],
  [/^bytea$/, asBytes],
];

function asBoolean(storage: string, value: unknown): string {
  if (value === 0n || value === 0) return 'f';
  if (value === 1n || value === 1) return 't';
  if (storage === 'text' && typeof value === 'string' && /^(t|f|true|false|0|1)$/i.test(value)) return /^[t1]/i.test(value) ? 't' : 'f';
  throw new ValueRefused(`${kindOf(storage)} that is neither 0 nor 1 for a boolean`);
}

function asInteger(storage: string, value: unknown, type: string): string {
  const integer = integerOf(value);
  if (integer === undefined) throw new ValueRefused(`${kindOf(storage)} for ${type}`);
  const range = integerRanges[type] ?? 0n;
  if (integer < -range || integer >= range) throw new ValueRefused(`an integer that is outside of ${type}`);
  return integer.toString();
}

function integerOf(value: unknown): bigint | undefined {
  if (typeof value === 'bigint') return value;
  // A REAL beyond 2^53 is rounded already: which integer was meant is not known.
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  return typeof value === 'string' && /^-?\d{1,19}$/.test(value) ? BigInt(value) : undefined;
}

function asNumber(storage: string, value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return realText(value);
  if (typeof value === 'string' && /^-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?$/.test(value)) return value;
  throw new ValueRefused(`${kindOf(storage)} for a number`);
}

/** The shortest text that reads as the same double. SQLite stores NaN as NULL, and -0 as 0. */
function realText(value: number): string {
  return String(value);
}

function asTimestamp(storage: string, value: unknown, zone: string): string {
  if (typeof value === 'string') {
    const match = /^\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?( ?Z| ?[+-]\d{2}(?::?\d{2})?)?$/.exec(value);
    if (!match) throw new ValueRefused('a text that is no date and time');
    // SQLite's functions write UTC and no zone.
    if (match[1] === undefined) return `${value}${zone}`;
    if (zone === '') throw new ValueRefused('a time with a zone for a type without one');
    return value;
  }
  return `${momentOf(storage, value).toISOString().slice(0, -1)}${zone}`;
}

function asDate(storage: string, value: unknown): string {
  if (typeof value === 'string') {
    const match = /^(\d{4}-\d{2}-\d{2})(?:[ T]00:00(?::00(?:\.0+)?)?Z?)?$/.exec(value);
    if (!match?.[1]) throw new ValueRefused('a text that is no day');
    return match[1];
  }
  const moment = momentOf(storage, value);
  if (moment.getTime() % dayMs !== 0) throw new ValueRefused('a number that is no whole day');
  return moment.toISOString().slice(0, 10);
}

function momentOf(storage: string, value: unknown): Date {
  const ms =
    typeof value === 'bigint'
      ? Number(value > -millisecondsFrom && value < millisecondsFrom ? value * 1000n : value)
      : typeof value === 'number'
        ? value >= 0 && value < julianDayMax
          ? (value - unixEpochJulian) * dayMs
          : value * 1000
        : Number.NaN;
  const moment = new Date(Math.round(ms));
  if (Number.isNaN(moment.getTime()) || moment.getUTCFullYear() < 1 || moment.getUTCFullYear() > 9999)
    throw new ValueRefused(`${kindOf(storage)} that is no time`);
  return moment;
}

function asJson(storage: string, value: unknown): string {
  const text = asText(storage, value);
  try {
    JSON.parse(text);
  } catch {
    throw new ValueRefused('a text that is no JSON');
  }
  return text;
}

function asBytes(storage: string, value: unknown): string {
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  if (typeof value === 'string') return `\\x${Buffer.from(value, 'utf8').toString('hex')}`;
  throw new ValueRefused(`${kindOf(storage)} for bytes`);
}

function asText(storage: string, value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'bigint') return value.toString();
  // As SQLite itself prints it: 3.0 is not 3.
  if (typeof value === 'number') return Number.isInteger(value) && Math.abs(value) < 1e15 ? `${realText(value)}.0` : realText(value);
  throw new ValueRefused(`${kindOf(storage)} for a text`);
}

function decoded(value: StoredValue, encoding: TextEncoding): string {
  if (!(value instanceof Uint8Array)) throw new ValueRefused('a text that was not read as bytes');
  const text = encoding === 'UTF-8' ? utf8(value) : utf16(value, encoding);
  if (text === undefined) throw new ValueRefused(`a text that is no ${encoding}`);
  if (text.includes('\0')) throw new ValueRefused('a text with a NUL character');
  return text;
}

function utf8(bytes: Uint8Array): string | undefined {
  return isUtf8(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8') : undefined;
}

function utf16(bytes: Uint8Array, encoding: TextEncoding): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function kindOf(storage: string): string {
  return storage === 'integer' ? 'an integer' : `a ${storage}`;
}
