import { PartywallError } from '../errors.ts';
import { type BookHeader, bookObject, type KeyBook, openBook, readHeader } from './book.ts';
import { type Copy, readCopy, replaceCopy } from './copies.ts';
import { escrowStore, probeEscrow, verifyEscrowedFiles } from './escrow.ts';
import { unpackEscrowFiles } from './escrow-files.ts';
import type { BookPlaces } from './open-book.ts';

/**
 * What an operator decides when the keybook and its copy in escrow are not the same: which of the two stays. Neither is written over by an older
 * one, nor by one that lacks a key that the other has.
 */
export interface Repair {
  /** Whether the keybook was written over. */
  readonly book: 'written' | 'as it was';
  /** Files that were copied. */
  readonly files: readonly string[];
  readonly generation: number;
}

type Places = BookPlaces & { readonly escrow: NonNullable<BookPlaces['escrow']> };

/**
 * Puts back from escrow what is lost or wrong: files of the keyring folder, then the keybook.
 *
 * @throws PartywallError escrow_unverified: there is nothing to restore, or the keybook has what escrow lacks; keyring_refused
 */
export async function restoreFromEscrow(places: Places): Promise<Repair> {
  const { book, source, keyring } = places;
  const escrow = escrowStore(places.escrow);
  const copied = await readCopy(escrow);
  if (!copied) throw nothing(`restoring the keybook: there is no copy in escrow (${escrow.description})`);
  const files = await unpackEscrowFiles(escrow, keyring, readHeader(copied.stored, escrow.description).destroyed);
  const kept = await openBook(copied.stored, source, escrow.description);
  const own = await readCopy(book);
  if (own?.stored.equals(copied.stored)) return { book: 'as it was', files, generation: kept.generation };
  if (own) await refuseLoss(places, { kept, over: own, place: book.description });
  await replaceCopy(book, own, copied.stored);
  return { book: 'written', files, generation: kept.generation };
}

/**
 * Makes escrow what the keyring and the keybook are: a new place, or one that lost its copy.
 *
 * @throws PartywallError escrow_unverified: escrow has what the keybook lacks, or is no place of its own
 */
export async function renewEscrow(places: Places): Promise<Repair> {
  const { book, source, keyring, apart = [] } = places;
  const escrow = escrowStore(places.escrow);
  const own = await readCopy(book);
  if (!own) throw nothing(`copying the keybook to escrow: there is no ${bookObject} in ${book.description}`);
  const kept = await openBook(own.stored, source, book.description);
  await probeEscrow(escrow, [book, ...apart]);
  const copied = await readCopy(escrow);
  const same = copied?.stored.equals(own.stored) === true;
  if (copied && !same) await refuseLoss(places, { kept, over: copied, place: escrow.description });
  const files = await verifyEscrowedFiles(keyring, escrow, kept.destroyed);
  if (!same) await replaceCopy(escrow, copied, own.stored);
  return { book: same ? 'as it was' : 'written', files, generation: kept.generation };
}

/** @throws PartywallError escrow_unverified: what would be written over is newer, or has keys that what is kept has not */
async function refuseLoss({ source }: Places, { kept, over, place }: { readonly kept: KeyBook; readonly over: Copy; readonly place: string }): Promise<void> {
  const doing = `writing over the keybook of ${place}`;
  const header = headerOf(over, place);
  if (header && header.generation > kept.generation) {
    throw nothing(`${doing}: it is newer (write ${header.generation}) than what would take its place (write ${kept.generation})`);
  }
  // One that nothing opens has no key to lose.
  const opened = await openBook(over.stored, source, place).catch(onlyRefused);
  const known = new Set([...kept.entries.map(({ id }) => id), ...kept.erased.flatMap(({ keys }) => keys)]);
  const lost = (opened?.entries ?? []).filter(({ id }) => !known.has(id));
  if (lost.length > 0) throw nothing(`${doing}: ${lost.length} of its keys are not in what would take its place`);
}

function headerOf(copy: Copy, place: string): BookHeader | undefined {
  try {
    return readHeader(copy.stored, place);
  } catch (error) {
    return onlyRefused(error);
  }
}

function onlyRefused(error: unknown): undefined {
  if (!(error instanceof PartywallError) || error.code !== 'keyring_refused') throw error;
}

function nothing(message: string): PartywallError {
  return new PartywallError('escrow_unverified', message, {
    hint: 'docs/guide/keys.md says which one to keep; the other makes way when its keybook.json is moved elsewhere',
  });
}
