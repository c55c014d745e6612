import { createCipheriv, createDecipheriv, createHmac, createSecretKey, type Hmac, hkdfSync, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { PartywallError } from '../../errors.ts';
import type { DataKey } from '../../keyring/data-keys.ts';
import { canonicalJson } from './canonical-json.ts';

/**
 * A segment: bytes of one subject and one table (or file), encrypted. `docs/formats/archive.md` has the layout byte by byte.
 *
 * `salt (32) ‖ commitment (32) ‖ chunk ‖ chunk ‖ …`, a chunk being `length (4, big endian) ‖ AES-256-GCM of a zstd frame ‖ tag (16)`.
 *
 * Key, nonce prefix and commitment come from the subject's data key and the salt by HKDF, so a nonce is never used twice, and a segment that
 * opens with one key opens with no other (GCM alone does not promise that). Nonces count the chunks and mark the last one, so that none
 * can be taken out, moved, or cut off (the STREAM construction). What the segment belongs to is associated data.
 */
export const segmentHeaderBytes = 64;
/** Plain bytes at which a chunk is closed; one row may be longer. */
export const chunkBytes = 1024 ** 2;
/** Plain bytes of the longest chunk: a row of PostgreSQL as text is shorter. */
export const chunkBytesMax = 2 ** 31 - 1;
const saltBytes = 32;
const commitmentBytes = 32;
const tagBytes = 16;
const lengthBytes = 4;
const noncePrefixBytes = 7;
const chunksMax = 2 ** 32 - 1;
/** Half to 0.85 of the time of level 3, for less bytes on rows of text: `docs/decisions/0012-archive.md`. */
const compressionLevel = 1;
/** Of the output of compression, allocated for every chunk, once more where that was not enough: rows become a tenth to a fifth. */
const compressedBytes = { min: 64, max: 256 * 1024 };
const compressedShare = 0.25;

export interface SegmentName {
  /** Backup that stored it. */
  readonly backup: string;
  /** `public.customers`. */
  readonly table: string;
  /** Number of the part of the table, or of the file. */
  readonly part: number;
}

/** What a finished segment is, for its page. */
export interface SegmentSum {
  readonly chunks: number;
  /** Plain bytes. */
  readonly plainBytes: number;
  /** Keyed hash of the plain bytes, hex: tells equal content without telling content. */
  readonly mac: string;
}

/** Encrypts one segment, piece by piece. Pieces are what a reader gets back, so rows are kept whole by whoever cuts them. */
export interface SegmentWriter {
  readonly header: Buffer;
  /** A chunk of the stored form. @param last whether it ends the segment */
  chunk(plain: Buffer, last: boolean): Buffer;
  /** After the last chunk. */
  sum(): SegmentSum;
}

export function writeSegment(key: DataKey, name: SegmentName): SegmentWriter {
  const salt = randomBytes(saltBytes);
  const { secret, prefix, commitment } = derive(key, salt);
  const associated = associatedData(key, name);
  const hmac = contentMac(key, name.table);
  let chunks = 0;
  let plainBytes = 0;
  let ended = false;
  return {
    header: Buffer.concat([salt, commitment]),
    chunk: (plain, last) => {
      if (ended) throw new Error('the segment has ended');
      if (chunks >= chunksMax) throw new Error('the segment has too many chunks');
      ended = last;
      hmac.update(plain);
      plainBytes += plain.length;
      const cipher = createCipheriv('aes-256-gcm', secret, nonce(prefix, chunks, last)).setAAD(associated);
      const body = cipher.update(compress(plain));
      cipher.final();
      chunks += 1;
      const length = Buffer.allocUnsafe(lengthBytes);
      length.writeUInt32BE(body.length + tagBytes);
      return Buffer.concat([length, body, cipher.getAuthTag()]);
    },
    sum: () => {
      if (!ended) throw new Error('the segment has not ended');
      return { chunks, plainBytes, mac: hmac.digest('hex') };
    },
  };
}

/**
 * The plain chunks of a stored segment, each checked before it is given out; the whole is checked against `sum` at the end.
 *
 * @param stored the segment's bytes, cut anyhow
 * @throws PartywallError archive_damaged, naming table, part and chunk
 */
export async function* readSegment(key: DataKey, name: SegmentName, sum: SegmentSum, stored: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const pieces = stored[Symbol.asyncIterator]();
  try {
    yield* openChunks(key, name, { sum, input: exact(pieces) });
  } finally {
    // Where somebody stops early, or it is damaged, the object would stay open.
    await pieces.return?.();
  }
}

interface StoredSegment {
  readonly sum: SegmentSum;
  readonly input: (bytes: number) => Promise<Buffer | undefined>;
}

async function* openChunks(key: DataKey, name: SegmentName, { sum, input }: StoredSegment): AsyncGenerator<Buffer> {
  const damaged = (what: string, cause?: unknown): PartywallError =>
    new PartywallError('archive_damaged', `reading ${name.table} part ${name.part} of backup ${name.backup}: ${what}`, { cause });
  const header = await input(segmentHeaderBytes);
  if (!header) throw damaged('it is cut short in its header');
  const { secret, prefix, commitment } = derive(key, header.subarray(0, saltBytes));
  if (!timingSafeEqual(commitment, header.subarray(saltBytes))) throw damaged(`it was not encrypted with key ${key.id}`);
  const associated = associatedData(key, name);
  const hmac = contentMac(key, name.table);
  let plainBytes = 0;
  for (let at = 0; at < sum.chunks; at += 1) {
    const length = (await input(lengthBytes))?.readUInt32BE() ?? 0;
    const sealed = length > tagBytes ? await input(length) : undefined;
    if (!sealed) throw damaged(`it is cut short in chunk ${at + 1} of ${sum.chunks}`);
    let plain: Buffer;
    try {
      const decipher = createDecipheriv('aes-256-gcm', secret, nonce(prefix, at, at === sum.chunks - 1), { authTagLength: tagBytes });
      decipher.setAAD(associated).setAuthTag(sealed.subarray(-tagBytes));
      const frame = decipher.update(sealed.subarray(0, -tagBytes));
      decipher.final();
      plain = zstdDecompressSync(frame, { maxOutputLength: Math.min(chunkBytesMax, Math.max(1, sum.plainBytes - plainBytes)) });
    } catch (cause) {
      throw damaged(`chunk ${at + 1} of ${sum.chunks} does not open`, cause);
    }
    hmac.update(plain);
    plainBytes += plain.length;
    yield plain;
  }
  if (await input(1)) throw damaged('something follows its last chunk');
  if (plainBytes !== sum.plainBytes || hmac.digest('hex') !== sum.mac) throw damaged('its content is not what its page says');
}

const compression = { [constants.ZSTD_c_compressionLevel]: compressionLevel };

function compress(plain: Buffer): Buffer {
  const chunkSize = Math.min(compressedBytes.max, Math.max(compressedBytes.min, Math.ceil(plain.length * compressedShare)));
  return zstdCompressSync(plain, { params: compression, chunkSize });
}

/** What Node makes of a secret once, instead of at each use: 2 µs for a MAC instead of 10. */
interface OpenedKey {
  readonly secret: KeyObject;
  readonly mac: KeyObject;
}

const openedKeys = new WeakMap<DataKey, OpenedKey>();

function opened(key: DataKey): OpenedKey {
  const known = openedKeys.get(key);
  if (known) return known;
  const secret = createSecretKey(key.secret);
  const mac = createSecretKey(Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), 'partywall/mac/1', 32)));
  openedKeys.set(key, { secret, mac });
  return { secret, mac };
}

function derive(key: DataKey, salt: Buffer): { secret: KeyObject; prefix: Buffer; commitment: Buffer } {
  const bytes = Buffer.from(hkdfSync('sha256', opened(key).secret, salt, 'partywall/segment/1', 32 + noncePrefixBytes + commitmentBytes));
  return {
    secret: createSecretKey(bytes.subarray(0, 32)),
    prefix: bytes.subarray(32, 32 + noncePrefixBytes),
    commitment: bytes.subarray(32 + noncePrefixBytes),
  };
}

function nonce(prefix: Buffer, at: number, last: boolean): Buffer {
  const bytes = Buffer.alloc(12);
  prefix.copy(bytes);
  bytes.writeUInt32BE(at, noncePrefixBytes);
  bytes[11] = last ? 1 : 0;
  return bytes;
}

function associatedData(key: DataKey, { backup, table, part }: SegmentName): Buffer {
  return Buffer.from(canonicalJson({ format: 'partywall.segment/1', backup, subject: key.ref, table, part, key: key.id }));
}

/** The keyed hash of a segment's content, to be updated with that. */
export function contentMac(key: DataKey, table: string): Hmac {
  return createHmac('sha256', opened(key).mac).update(`${table}\0`);
}

/** Reads exact numbers of bytes; undefined where the input ends before. */
function exact(input: AsyncIterator<Buffer>): StoredSegment['input'] {
  let held: Buffer = Buffer.alloc(0);
  return async (bytes) => {
    const parts = [held];
    let have = held.length;
    while (have < bytes) {
      const { done, value } = await input.next();
      if (done) return undefined;
      parts.push(value);
      have += value.length;
    }
    const all = parts.length === 1 ? held : Buffer.concat(parts);
    held = all.subarray(bytes);
    return all.subarray(0, bytes);
  };
}
