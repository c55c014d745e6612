import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { PartywallError } from '../errors.ts';
import type { DataKey, Subject } from './data-keys.ts';
import { keyBytes, seal, unseal } from './sealed.ts';
import type { KeySource } from './sources/key-source.ts';

/**
 * The keybook: one object that holds every data key, wrapped. `docs/formats/keybook.md` explains every member.
 *
 * Each write makes a book key, which the current key-encryption key wraps; what is derived from it seals every entry (the data key and the name of
 * its subject) and authenticates the whole. So the book names nobody, nothing in it can be changed, removed or added without the key-encryption
 * key, and a copy of it is as dead as that key.
 */
export const bookObject = 'keybook.json';
export const bookBytesMax = 256 * 1024 * 1024;

const format = 'partywall.keybook';
const bookVersion = 1;
/** Names of subjects are padded to this, so that their lengths tell nothing of them. */
const paddingBytes = 64;
const lengthBytes = 2;
const subjectBytesMax = 4096;

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));
const versionNumber = z.int().min(1);

const erasure = z.strictObject({
  at: z.iso.datetime(),
  generation: versionNumber,
  keks: z.array(versionNumber),
  keys: z.array(hex(16)),
  of: hex(32),
  ref: hex(16),
  salt: hex(16),
});

const entry = z.strictObject({
  createdAt: z.iso.datetime(),
  id: hex(16),
  ref: hex(16),
  state: z.enum(['active', 'retired']),
  wrapped: z.base64(),
});

const sealedBook = z.strictObject({
  book: z.strictObject({
    bookKey: z.base64(),
    destroyed: z.array(versionNumber),
    entries: z.array(entry),
    erased: z.array(erasure),
    format: z.literal(format),
    generation: versionNumber,
    kek: versionNumber,
    previous: hex(32).nullable(),
    version: z.literal(bookVersion),
  }),
  mac: hex(32),
});

type SealedBook = z.output<typeof sealedBook>['book'];

/** What an erasure left in the book: which keys are gone, and since when. Its subject is named only to those who know it. */
export type Erasure = z.output<typeof erasure>;

export interface BookEntry extends DataKey {
  readonly createdAt: string;
  /** New data is encrypted with the active one; every subject has one. */
  readonly state: 'active' | 'retired';
}

/** An open keybook. */
export interface KeyBook {
  /** Counts the writes. */
  readonly generation: number;
  /** SHA-256 of the book before, as it was stored. */
  readonly previous: string | null;
  /** Version of the key-encryption key. */
  readonly kek: number;
  /** Versions that must not be anywhere any more: whoever finds one destroys it. */
  readonly destroyed: readonly number[];
  readonly entries: readonly BookEntry[];
  readonly erased: readonly Erasure[];
}

/** What can be read without a key. */
export interface BookHeader {
  readonly generation: number;
  readonly previous: string | null;
  readonly kek: number;
  readonly destroyed: readonly number[];
}

/** What a book says of itself; believe it only after `openBook`. @throws PartywallError keyring_refused */
export function readHeader(stored: Buffer, place: string): BookHeader {
  const { generation, previous, kek, destroyed } = parse(stored, place).book;
  return { generation, previous, kek, destroyed };
}

/** @throws PartywallError keyring_refused: it is none, was changed, or the key-encryption key is missing or another one */
export async function openBook(stored: Buffer, source: KeySource, place: string): Promise<KeyBook> {
  const { book, mac } = parse(stored, place);
  const bookKey = await source.unwrap(book.kek, Buffer.from(book.bookKey, 'base64'), bookKeyContext(book));
  if (bookKey.length !== keyBytes || !timingSafeEqual(macOf(bookKey, book), Buffer.from(mac, 'hex')))
    throw damaged(place, 'it was changed after it was written');
  const entryKey = derived(bookKey, 'entries');
  const entries = book.entries.map(({ wrapped, ...plain }): BookEntry => {
    const opened = unseal(entryKey, Buffer.from(wrapped, 'base64'), entryContext(plain));
    if (!opened) throw damaged(place, `the entry of key ${plain.id} does not open`);
    return { ...plain, ...unpack(opened) };
  });
  const { generation, previous, kek, destroyed, erased } = book;
  return { generation, previous, kek, destroyed, entries, erased };
}

/** The object to store, under a book key of its own. @throws PartywallError keyring_refused: there is no such key-encryption key, or the book is too large */
export async function sealBook(open: KeyBook, source: KeySource): Promise<Buffer> {
  const bookKey = randomBytes(keyBytes);
  const entryKey = derived(bookKey, 'entries');
  const book: SealedBook = {
    bookKey: (await source.wrap(open.kek, bookKey, bookKeyContext(open))).toString('base64'),
    destroyed: [...open.destroyed],
    entries: open.entries.map(({ createdAt, id, ref, state, subject, secret }) => ({
      createdAt,
      id,
      ref,
      state,
      wrapped: seal(entryKey, pack(subject, secret), entryContext({ ref, id })).toString('base64'),
    })),
    erased: [...open.erased],
    format,
    generation: open.generation,
    kek: open.kek,
    previous: open.previous,
    version: bookVersion,
  };
  const stored = Buffer.from(JSON.stringify({ book: ordered(book), mac: macOf(bookKey, book).toString('hex') }), 'utf8');
  if (stored.length > bookBytesMax)
    throw new PartywallError('keyring_refused', `writing the keybook: ${stored.length} bytes exceed the limit of ${bookBytesMax}`);
  return stored;
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Names a subject to those who know it. */
export function blindedSubject(subject: Subject, salt: string): string {
  return createHmac('sha256', Buffer.from(salt, 'hex')).update(subject).digest('hex');
}

function parse(stored: Buffer, place: string): z.output<typeof sealedBook> {
  const text = stored.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // What the parser says quotes the object.
    throw damaged(place, 'it is cut short or no JSON');
  }
  if (isOtherVersion(value)) {
    throw new PartywallError('keyring_refused', `reading the keybook of ${place}: its version is not ${bookVersion}`, {
      hint: 'use the version of Partywall that wrote it, or a newer one',
    });
  }
  const parsed = sealedBook.safeParse(value);
  if (!parsed.success) throw damaged(place, 'it is not of this format');
  return parsed.data;
}

function isOtherVersion(value: unknown): boolean {
  const outer = z.object({ book: z.object({ format: z.literal(format), version: z.int() }) }).safeParse(value);
  return outer.success && outer.data.book.version !== bookVersion;
}

function damaged(place: string, what: string): PartywallError {
  return new PartywallError('keyring_refused', `reading the keybook of ${place}: ${what}`, {
    hint: 'put the copy in escrow in its place: `partywall keys escrow --restore`',
  });
}

function macOf(bookKey: Buffer, book: SealedBook): Buffer {
  return createHmac('sha256', derived(bookKey, 'mac'))
    .update(JSON.stringify(ordered(book)))
    .digest();
}

/**
 * Members in the order of their names: its JSON is canonical. What is authenticated is rebuilt from what was parsed, so nothing that the parser
 * passed over counts.
 */
function ordered(book: SealedBook): SealedBook {
  const { bookKey, destroyed, entries, erased, generation, kek, previous, version } = book;
  return {
    bookKey,
    destroyed,
    entries: entries.map(({ createdAt, id, ref, state, wrapped }) => ({ createdAt, id, ref, state, wrapped })),
    erased: erased.map(({ at, generation: erasedAt, keks, keys, of, ref, salt }) => ({ at, generation: erasedAt, keks, keys, of, ref, salt })),
    format,
    generation,
    kek,
    previous,
    version,
  };
}

function derived(bookKey: Buffer, purpose: 'entries' | 'mac'): Buffer {
  return Buffer.from(hkdfSync('sha256', bookKey, Buffer.alloc(0), `${format}/${bookVersion} ${purpose}`, keyBytes));
}

function bookKeyContext({ kek, generation }: { readonly kek: number; readonly generation: number }): string {
  return `${format}/${bookVersion} book key kek=${kek} generation=${generation}`;
}

function entryContext({ ref, id }: { readonly ref: string; readonly id: string }): string {
  return `${format}/${bookVersion} entry ref=${ref} id=${id}`;
}

/** Secret, length of the subject, subject, zeros. */
function pack(subject: Subject, secret: Buffer): Buffer {
  const name = Buffer.from(subject, 'utf8');
  if (name.length > subjectBytesMax) throw new PartywallError('input_invalid', `making a key: the key of a tenant is longer than ${subjectBytesMax} bytes`);
  const packed = Buffer.alloc(keyBytes + Math.ceil((lengthBytes + name.length) / paddingBytes) * paddingBytes);
  secret.copy(packed);
  packed.writeUInt16BE(name.length, keyBytes);
  name.copy(packed, keyBytes + lengthBytes);
  return packed;
}

function unpack(packed: Buffer): { readonly subject: Subject; readonly secret: Buffer } {
  const start = keyBytes + lengthBytes;
  const name = packed.toString('utf8', start, start + packed.readUInt16BE(keyBytes));
  // Authenticated: only what `pack` was given comes back.
  return { subject: name as Subject, secret: packed.subarray(0, keyBytes) };
}
