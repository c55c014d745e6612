import { randomBytes } from 'node:crypto';
import { type BookEntry, blindedSubject, type Erasure, type KeyBook } from './book.ts';
import type { Subject } from './data-keys.ts';
import { keyBytes } from './sealed.ts';

/** Changes of a keybook, each a value: what is stored next is decided here, and stored elsewhere. */

const idBytes = 16;
const saltBytes = 16;

/** The members of a book that a change gives; the number of the write is the writer's. */
export type Contents = Pick<KeyBook, 'kek' | 'destroyed' | 'entries' | 'erased'>;

export const emptyContents = (kek: number): Contents => ({ kek, destroyed: [], entries: [], erased: [] });

/** With an active key for each of these subjects that has none; undefined where each has one. */
export function withSubjects(book: Contents, subjects: readonly Subject[], at: Date): Contents | undefined {
  const known = new Set(activeEntries(book).map(({ subject }) => subject));
  const added = [...new Set(subjects)].filter((subject) => !known.has(subject));
  if (added.length === 0) return undefined;
  return { ...book, entries: [...book.entries, ...added.map((subject) => newKey(subject, randomId(), at))] };
}

/** With a new active key for the subject, whose other keys stay to read what they encrypted; undefined where it has none. */
export function withNewKey(book: Contents, subject: Subject, at: Date): Contents | undefined {
  const active = activeEntries(book).find((entry) => entry.subject === subject);
  if (!active) return undefined;
  const kept = book.entries.map((entry): BookEntry => (entry === active ? { ...entry, state: 'retired' } : entry));
  return { ...book, entries: [...kept, newKey(subject, active.ref, at)] };
}

/** Under another key-encryption key; `destroyed`: versions that are destroyed as soon as this is stored. */
export function withKek(book: Contents, kek: number, destroyed: readonly number[]): Contents {
  return { ...book, kek, destroyed: sorted([...book.destroyed, ...destroyed]) };
}

/** Without the subject, under another key-encryption key, with a note of what went; undefined where it has no key. */
export function withoutSubject(
  book: KeyBook,
  subject: Subject,
  next: { readonly kek: number; readonly destroyed: readonly number[]; readonly at: Date },
): Contents | undefined {
  const gone = book.entries.filter((entry) => entry.subject === subject);
  const [first] = gone;
  if (!first) return undefined;
  const salt = randomBytes(saltBytes).toString('hex');
  const note: Erasure = {
    at: next.at.toISOString(),
    generation: book.generation + 1,
    keks: sorted(next.destroyed),
    keys: gone.map(({ id }) => id),
    of: blindedSubject(subject, salt),
    ref: first.ref,
    salt,
  };
  return withKek({ ...book, entries: book.entries.filter((entry) => entry.subject !== subject), erased: [...book.erased, note] }, next.kek, next.destroyed);
}

export function activeEntries(book: Contents): readonly BookEntry[] {
  return book.entries.filter(({ state }) => state === 'active');
}

/** Notes of this subject's erasures: it may have come back between them. */
export function erasuresOf(book: Contents, subject: Subject): readonly Erasure[] {
  return book.erased.filter(({ of, salt }) => of === blindedSubject(subject, salt));
}

function newKey(subject: Subject, ref: string, at: Date): BookEntry {
  return { id: randomId(), ref, subject, secret: randomBytes(keyBytes), createdAt: at.toISOString(), state: 'active' };
}

function randomId(): string {
  return randomBytes(idBytes).toString('hex');
}

function sorted(versions: readonly number[]): number[] {
  return [...new Set(versions)].sort((a, b) => a - b);
}
