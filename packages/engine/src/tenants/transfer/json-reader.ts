import { PartywallError } from '../../errors.ts';
import { documentBytesMax, nestingMax } from './layout.ts';

/**
 * Reads a JSON text from a stream of bytes, one piece at a time: punctuation by `expect`, a whole value by `value`. No more than a chunk and
 * a value are in memory, and every value has a limit before it is parsed.
 */
export interface JsonReader {
  /** The next byte that is no white space, as a character; undefined at the end. It is not consumed. */
  peek(): Promise<string | undefined>;
  /** Consumes the next byte that is no white space, which must be this character. */
  expect(character: string): Promise<void>;
  /** Consumes a string or an object of at most so many bytes. Keys are unique. */
  value(bytesMax: number): Promise<unknown>;
}

const quote = 0x22;
const backslash = 0x5c;
const colon = 0x3a;

/** @throws PartywallError export_invalid, from every method */
export function jsonReader(source: AsyncIterable<Uint8Array>): JsonReader {
  const chunks = source[Symbol.asyncIterator]();
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let chunk: Uint8Array = new Uint8Array();
  let at = 0;
  let consumed = 0;

  const refuse = (what: string, cause?: unknown): PartywallError => invalidExport(`byte ${consumed + at}: ${what}`, cause);

  const more = async (): Promise<boolean> => {
    const next = await chunks.next();
    if (next.done) return false;
    consumed += chunk.length;
    if (consumed > documentBytesMax) throw refuse(`it is longer than ${documentBytesMax} bytes`);
    chunk = next.value;
    at = 0;
    return true;
  };

  const next = async (): Promise<number | undefined> => {
    do {
      for (; at < chunk.length; at += 1) {
        const byte = chunk[at];
        if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      }
    } while (await more());
    return undefined;
  };

  const value = async (bytesMax: number): Promise<unknown> => {
    const first = await next();
    if (first !== quote && first !== 0x7b) throw refuse('an object or a string should begin here');
    const parts: Uint8Array[] = [];
    let bytes = 0;
    let depth = 0;
    let colons = 0;
    let inString = false;
    let escaped = false;
    let ended = false;
    do {
      const from = at;
      while (!ended && at < chunk.length) {
        const byte = chunk[at];
        at += 1;
        if (inString) {
          if (escaped) escaped = false;
          else if (byte === backslash) escaped = true;
          else if (byte === quote) {
            inString = false;
            ended = depth === 0;
          }
        } else if (byte === quote) inString = true;
        else if (byte === colon) colons += 1;
        else if (byte === 0x7b || byte === 0x5b) {
          depth += 1;
          if (depth > nestingMax) throw refuse(`it is nested deeper than ${nestingMax}`);
        } else if (byte === 0x7d || byte === 0x5d) {
          depth -= 1;
          ended = depth === 0;
        }
      }
      parts.push(chunk.subarray(from, at));
      bytes += at - from;
      if (bytes > bytesMax) throw refuse(`a value is longer than ${bytesMax} bytes`);
    } while (!ended && (await more()));
    if (!ended) throw refuse('it ends in the middle of a value: the export was cut short');
    let parsed: unknown;
    try {
      parsed = JSON.parse(decoder.decode(parts.length === 1 ? parts[0] : Buffer.concat(parts)));
    } catch (cause) {
      throw refuse('what ends here is not JSON in UTF-8', cause);
    }
    // JSON.parse keeps the last of equal keys, and another reader may keep the first.
    if (keysIn(parsed) !== colons) throw refuse('a key occurs twice in what ends here');
    return parsed;
  };

  return {
    peek: async () => {
      const byte = await next();
      return byte === undefined ? undefined : String.fromCharCode(byte);
    },
    expect: async (character) => {
      const byte = await next();
      if (byte === undefined) throw refuse(`it ends where ${JSON.stringify(character)} should be: the export was cut short`);
      if (byte !== character.charCodeAt(0)) throw refuse(`${JSON.stringify(character)} should be here`);
      at += 1;
    },
    value,
  };
}

export function invalidExport(what: string, cause?: unknown, details: readonly string[] = []): PartywallError {
  return new PartywallError('export_invalid', `reading the export: ${what}`, { details, ...(cause !== undefined && { cause }) });
}

function keysIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const members: readonly unknown[] = Object.values(value);
  const inside = members.reduce<number>((sum, member) => sum + keysIn(member), 0);
  return Array.isArray(value) ? inside : inside + members.length;
}
