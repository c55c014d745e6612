import { PartywallError } from '../../errors.ts';

/**
 * Tar as POSIX.1-2001 has it: `ustar` headers, and before a header what does not fit into it as a `pax` record (names over 100 bytes or beyond
 * ASCII, sizes over 8 GiB). Every tar reads it.
 */
const blockBytes = 512;
const nameBytesMax = 100;
const octalSizeMax = 8 ** 11 - 1;
/** Readable by whoever unpacks it, and nobody else. */
const fileMode = 0o600;
const paxBytesMax = 64 * 1024;

export interface TarEntry {
  readonly name: string;
  readonly bytes: number;
  readonly modifiedAt: Date;
}

/** What precedes the bytes of an entry. */
export function tarHeader({ name, bytes, modifiedAt }: TarEntry): Buffer {
  const records: string[] = [];
  if (!/^[\x20-\x7e]+$/.test(name) || name.length > nameBytesMax) records.push(paxRecord('path', name));
  if (bytes > octalSizeMax) records.push(paxRecord('size', String(bytes)));
  const short = asciiName(name);
  if (records.length === 0) return header(short, { bytes, modifiedAt, type: '0' });
  const pax = Buffer.from(records.join(''));
  return Buffer.concat([
    header(asciiName(`pax/${name}`), { bytes: pax.length, modifiedAt, type: 'x' }),
    pax,
    tarPadding(pax.length),
    header(short, { bytes: Math.min(bytes, octalSizeMax), modifiedAt, type: '0' }),
  ]);
}

/** What follows the bytes of an entry. */
export function tarPadding(bytes: number): Buffer {
  return Buffer.alloc((blockBytes - (bytes % blockBytes)) % blockBytes);
}

export const tarEnd: Buffer = Buffer.alloc(2 * blockBytes);

/** An entry that is read; its body must be read to its end before the next one is asked for. */
export interface ReadEntry {
  readonly name: string;
  readonly bytes: number;
  readonly body: AsyncIterable<Buffer>;
}

/**
 * The files of a tar, one after the other, as their bytes come.
 *
 * @throws PartywallError export_invalid: cut short, a header that does not add up, anything but plain files
 */
export async function* readTar(pieces: AsyncIterable<Buffer>): AsyncGenerator<ReadEntry> {
  const input = reader(pieces);
  let records = new Map<string, string>();
  while (true) {
    const block = await input.exactly(blockBytes);
    if (block.every((byte) => byte === 0)) break;
    const head = parseHeader(block);
    if (head.type === 'x') {
      if (head.bytes > paxBytesMax) throw invalid('a record before a header is too long');
      records = parsePax(await input.exactly(head.bytes));
      await input.exactly(tarPadding(head.bytes).length);
      continue;
    }
    if (head.type !== '0' && head.type !== '\0') throw invalid('it holds something other than plain files');
    const bytes = records.has('size') ? Number(records.get('size')) : head.bytes;
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw invalid('a size is no number');
    const state = { left: bytes };
    yield { name: records.get('path') ?? head.name, bytes, body: input.upTo(state) };
    if (state.left > 0) throw new Error('the body of an entry was not read to its end');
    await input.exactly(tarPadding(bytes).length);
    records = new Map();
  }
  await input.onlyZeros();
}

function header(name: string, { bytes, modifiedAt, type }: Omit<TarEntry, 'name'> & { readonly type: string }): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(name, 0, nameBytesMax, 'latin1');
  octal(block, { at: 100, digits: 7, value: fileMode });
  octal(block, { at: 108, digits: 7, value: 0 });
  octal(block, { at: 116, digits: 7, value: 0 });
  octal(block, { at: 124, digits: 11, value: bytes });
  octal(block, { at: 136, digits: 11, value: Math.max(0, Math.floor(modifiedAt.getTime() / 1000)) });
  block.write(type, 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(block, { at: 329, digits: 7, value: 0 });
  octal(block, { at: 337, digits: 7, value: 0 });
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function octal(block: Buffer, { at, digits, value }: { readonly at: number; readonly digits: number; readonly value: number }): void {
  block.write(value.toString(8).padStart(digits, '0'), at, 'latin1');
}

/** The sum of the bytes with blanks where the sum itself stands. */
function checksum(block: Buffer): number {
  return block.reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 0x20 : byte), 0);
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  const bytes = Buffer.byteLength(rest);
  // The length counts its own digits.
  let length = bytes + 1;
  while (length !== bytes + String(length).length) length = bytes + String(length).length;
  return `${length}${rest}`;
}

/** For readers that know no pax: something of the name. */
function asciiName(name: string): string {
  return name.replaceAll(/[^\x20-\x7e]/g, '_').slice(0, nameBytesMax);
}

function parseHeader(block: Buffer): { name: string; bytes: number; type: string } {
  const text = (at: number, length: number): string => block.toString('latin1', at, at + length).replace(/\0.*$/s, '');
  if (Number.parseInt(text(148, 8), 8) !== checksum(block)) throw invalid('a header does not add up');
  const size = text(124, 12).trim();
  if (!/^[0-7]+$/.test(size)) throw invalid('a size is no number');
  const prefix = text(257, 5) === 'ustar' ? text(345, 155) : '';
  return {
    name: prefix === '' ? text(0, nameBytesMax) : `${prefix}/${text(0, nameBytesMax)}`,
    bytes: Number.parseInt(size, 8),
    type: block.toString('latin1', 156, 157),
  };
}

function parsePax(bytes: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  let rest = bytes;
  while (rest.length > 0) {
    const blank = rest.indexOf(0x20);
    const length = Number(rest.toString('latin1', 0, Math.max(0, blank)));
    const record = rest.toString('utf8', blank + 1, length - 1);
    const equals = record.indexOf('=');
    if (blank < 1 || !Number.isSafeInteger(length) || length <= blank || length > rest.length || equals < 1)
      throw invalid('a record before a header does not add up');
    records.set(record.slice(0, equals), record.slice(equals + 1));
    rest = rest.subarray(length);
  }
  return records;
}

function invalid(what: string): PartywallError {
  return new PartywallError('export_invalid', `reading a tenant's file: ${what}`);
}

interface Reader {
  exactly(bytes: number): Promise<Buffer>;
  /** Counts `left` down. */
  upTo(state: { left: number }): AsyncIterable<Buffer>;
  onlyZeros(): Promise<void>;
}

function reader(pieces: AsyncIterable<Buffer>): Reader {
  const input = pieces[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);
  const more = async (): Promise<boolean> => {
    const { done, value } = await input.next();
    if (done) return false;
    held = held.length === 0 ? value : Buffer.concat([held, value]);
    return true;
  };
  return {
    exactly: async (bytes) => {
      while (held.length < bytes) if (!(await more())) throw invalid('it is cut short');
      const taken = held.subarray(0, bytes);
      held = held.subarray(bytes);
      return taken;
    },
    upTo: async function* (state) {
      while (state.left > 0) {
        if (held.length === 0 && !(await more())) throw invalid('it is cut short');
        const taken = held.subarray(0, state.left);
        held = held.subarray(taken.length);
        state.left -= taken.length;
        yield taken;
      }
    },
    onlyZeros: async () => {
      do {
        if (held.some((byte) => byte !== 0)) throw invalid('something follows its end');
        held = Buffer.alloc(0);
      } while (await more());
    },
  };
}
