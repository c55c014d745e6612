import { PartywallError } from '../errors.ts';
import { readObject } from '../store/read-object.ts';
import type { Store } from '../store/store.ts';
import { bookBytesMax, bookObject, readHeader, sha256 } from './book.ts';

/**
 * The keybook is in two places, and what is in them tells what happened. A write goes to escrow first, where it counts, and then to the book's
 * own store; the book names its predecessor's hash. So escrow is the same, or exactly one write ahead where a writer was killed or is between
 * the two; anyone who finds it ahead carries the write forward. Everything else was not this program: an old copy that was put back, another
 * place, a lost object.
 */
export interface Copy {
  readonly stored: Buffer;
  /** Of the object, for `ifMatch`. */
  readonly tag: string;
}

export interface Copies {
  readonly book: Copy | undefined;
  readonly escrow: Copy | undefined;
}

export type CopiesState =
  | { readonly kind: 'none' | 'same' }
  /** A write that reached escrow only. */
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'differs'; readonly reason: string };

/** Judges two copies by what they say of themselves; that they are authentic is for `openBook` to find out. */
export function judgeCopies({ book, escrow }: Copies): CopiesState {
  if (!book && !escrow) return { kind: 'none' };
  if (book && escrow?.stored.equals(book.stored)) return { kind: 'same' };
  if (!escrow) return { kind: 'differs', reason: 'escrow has no copy of the keybook' };
  const copied = readHeader(escrow.stored, 'escrow');
  if (!book) {
    if (copied.previous === null) return { kind: 'interrupted' };
    return { kind: 'differs', reason: `the keybook is missing, and escrow has write ${copied.generation} of it` };
  }
  if (copied.previous === sha256(book.stored)) return { kind: 'interrupted' };
  const own = readHeader(book.stored, 'the keybook');
  if (own.generation < copied.generation) {
    return {
      kind: 'differs',
      reason: `the keybook is older than its copy in escrow (write ${own.generation} of ${copied.generation}): an old one was put back`,
    };
  }
  if (own.generation > copied.generation) {
    return {
      kind: 'differs',
      reason: `escrow is older than the keybook (write ${copied.generation} of ${own.generation}): an old copy was put back, or it is another place`,
    };
  }
  return { kind: 'differs', reason: `the keybook and its copy in escrow are both write ${own.generation} and not the same` };
}

/** Undefined where there is none. */
export async function readCopy(store: Store): Promise<Copy | undefined> {
  // The tag first: where somebody writes between the two, it is too old, and a write that builds on it is refused.
  const found = await store.head(bookObject);
  if (!found) return undefined;
  try {
    return { stored: await readObject(store, bookObject, bookBytesMax), tag: found.tag };
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'store_object_missing') return undefined;
    throw error;
  }
}

/** @throws PartywallError store_conflict: it is not the one that was read any more */
export async function replaceCopy(store: Store, seen: Copy | undefined, stored: Buffer): Promise<void> {
  await store.put(bookObject, stored, seen ? { ifMatch: seen.tag } : { ifAbsent: true });
}

/**
 * The second half of a write: the book's own store. Others may have carried it forward meanwhile, and written on: then it is done.
 *
 * @throws PartywallError store_conflict: somebody put something else there
 */
export async function carryForward(store: Store, seen: Copy | undefined, stored: Buffer): Promise<void> {
  try {
    await replaceCopy(store, seen, stored);
  } catch (error) {
    if (!isConflict(error)) throw error;
    const now = await readCopy(store);
    if (!now || readHeader(now.stored, store.description).generation < readHeader(stored, 'escrow').generation) throw error;
  }
}

export function isConflict(error: unknown): boolean {
  return error instanceof PartywallError && error.code === 'store_conflict';
}
