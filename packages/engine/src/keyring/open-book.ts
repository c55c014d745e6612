import { setTimeout as wait } from 'node:timers/promises';
import { PartywallError } from '../errors.ts';
import type { Store } from '../store/store.ts';
import { bookObject, type KeyBook, openBook, sealBook, sha256 } from './book.ts';
import type { Contents } from './change-book.ts';
import { type Copies, type CopiesState, type Copy, carryForward, isConflict, judgeCopies, readCopy, replaceCopy } from './copies.ts';
import { escrowStore, probeEscrow, verifyEscrowedFiles } from './escrow.ts';
import type { KeySource } from './sources/key-source.ts';

const attemptsMax = 50;
const pauseMaxMs = 40;

export interface BookPlaces {
  readonly book: Store;
  /** Undefined: there is none; keys can be read, and nothing else. */
  readonly escrow: Store | undefined;
  readonly source: KeySource;
  /** Folder of the keys that files are. */
  readonly keyring: string;
  /** Stores that escrow must not be in: the archive. */
  readonly apart?: readonly Store[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a change is made from: no book has been written yet, or this one. */
export type Change = (book: KeyBook | undefined) => Promise<Contents | undefined> | Contents | undefined;

/** The two copies of a keybook as one thing that is read and changed. */
export interface SharedBook {
  /** Reads it anew. Undefined where none has been written. @throws PartywallError keyring_refused, store_unavailable */
  read(): Promise<KeyBook | undefined>;
  /** How the copies are to each other, without changing anything. */
  state(): Promise<CopiesState>;
  /**
   * Stores what `change` makes of the book as it is, in escrow first. Where somebody else wrote meanwhile, asks it again. Nothing is written
   * where it answers undefined; escrow is verified in any case.
   *
   * @throws PartywallError escrow_unverified, store_conflict, keyring_refused
   */
  change(change: Change): Promise<KeyBook | undefined>;
}

export function sharedBook({ book: own, escrow: copyStore, source, keyring, apart = [], signal }: BookPlaces): SharedBook {
  const escrow = copyStore && escrowStore(copyStore);
  let opened: { readonly hash: string; readonly book: KeyBook } | undefined;
  let probed = false;

  const pause = () => wait(Math.random() * pauseMaxMs, undefined, { signal });

  const open = async (copy: Copy, place: Store): Promise<KeyBook> => {
    const hash = sha256(copy.stored);
    if (opened?.hash !== hash) opened = { hash, book: await unlessReplaced(place, copy, () => openBook(copy.stored, source, place.description)) };
    return opened.book;
  };

  /** Again, where somebody else wrote meanwhile. */
  const retried = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    for (let made = 1; ; made += 1) {
      signal?.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (!isConflict(error) || made === attemptsMax) throw error;
        await pause();
      }
    }
  };

  const copies = async (elsewhere: Store): Promise<Copies> => {
    for (let made = 1; ; made += 1) {
      const book = await readCopy(own);
      const copied = await readCopy(elsewhere);
      // Others write meanwhile. A book that stayed as it was is at most one write behind: nobody writes the next one before it has this one.
      if ((await own.head(bookObject))?.tag === book?.tag) return { book, escrow: copied };
      if (made === attemptsMax) throw new PartywallError('store_conflict', `reading the keybook of ${own.description}: others keep writing it`);
      await pause();
    }
  };

  /** Both copies, the same; a write that stopped between them is carried forward. */
  const settled = async (elsewhere: Store): Promise<{ readonly seen: Copies; readonly book: KeyBook | undefined }> => {
    const seen = await copies(elsewhere);
    const state = judgeCopies(seen);
    if (state.kind === 'differs') {
      throw new PartywallError('escrow_unverified', `comparing the keybook (${own.description}) with escrow (${elsewhere.description}): ${state.reason}`);
    }
    if (!seen.escrow) return { seen, book: undefined };
    const book = await open(seen.escrow, elsewhere);
    if (state.kind === 'same') return { seen, book };
    await carryForward(own, seen.book, seen.escrow.stored);
    return { seen: { escrow: seen.escrow, book: await readCopy(own) }, book };
  };

  const attempt = async (elsewhere: Store, change: Change): Promise<KeyBook | undefined> => {
    const { seen, book } = await settled(elsewhere);
    const contents = await change(book);
    await verifyEscrowedFiles(keyring, elsewhere, book?.destroyed ?? []);
    if (!contents) return book;
    const next: KeyBook = { ...contents, generation: (book?.generation ?? 0) + 1, previous: seen.escrow ? sha256(seen.escrow.stored) : null };
    const stored = await unlessReplaced(elsewhere, seen.escrow, () => sealBook(next, source));
    await replaceCopy(elsewhere, seen.escrow, stored);
    await carryForward(own, seen.book, stored);
    opened = { hash: sha256(stored), book: next };
    return next;
  };

  const changed = async (elsewhere: Store, change: Change): Promise<KeyBook | undefined> => {
    if (!probed) await probeEscrow(elsewhere, [own, ...apart]);
    probed = true;
    return retried(() => attempt(elsewhere, change));
  };

  const read = async (): Promise<KeyBook | undefined> => {
    const copy = await readCopy(own);
    if (copy) return open(copy, own);
    // The first write reached escrow and nothing else.
    const copied = escrow && (await readCopy(escrow));
    return copied && judgeCopies({ book: copy, escrow: copied }).kind === 'interrupted' ? open(copied, escrow) : undefined;
  };

  return {
    read: () => retried(read),
    state: async () => {
      if (!escrow) return { kind: 'differs', reason: 'there is no escrow: PARTYWALL_ESCROW is not set' };
      return judgeCopies(await copies(escrow));
    },
    change: async (change) => {
      if (!escrow)
        throw new PartywallError('escrow_unverified', 'making keys: there is no escrow', { hint: 'set PARTYWALL_ESCROW to where the copy is to be kept' });
      return changed(escrow, change);
    },
  };
}

/**
 * Key-encryption keys are destroyed once both copies of the keybook do without them. Whoever misses one has read a copy that is not there any more, or has
 * lost it for good: the copy that is there now tells which.
 */
async function unlessReplaced<Result>(place: Store, copy: Copy | undefined, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PartywallError) || error.code !== 'keyring_refused' || (await place.head(bookObject))?.tag === copy?.tag) throw error;
    throw new PartywallError('store_conflict', `reading the keybook of ${place.description}: another one was put in its place meanwhile`, { cause: error });
  }
}
