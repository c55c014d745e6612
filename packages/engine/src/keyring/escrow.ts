import { randomBytes } from 'node:crypto';
import { PartywallError } from '../errors.ts';
import type { Store } from '../store/store.ts';
import { compareKeyFiles, deleteEscrowedKeks, escrowKeyFilesNamed } from './escrow-files.ts';

/**
 * Copies to escrow what its copy of the keyring folder lacks, and proves that both are the same then. Returns the names of what it copied.
 *
 * @param destroyed versions of key-encryption keys that must not be anywhere any more: what is left of them in escrow is deleted
 * @throws PartywallError escrow_unverified
 */
export async function verifyEscrowedFiles(keyring: string, escrow: Store, destroyed: readonly number[]): Promise<readonly string[]> {
  await deleteEscrowedKeks(escrow, destroyed);
  const before = await compareKeyFiles(keyring, escrow, destroyed);
  await escrowKeyFilesNamed(keyring, escrow, before.missingInEscrow);
  const after = before.missingInEscrow.length === 0 ? before : await compareKeyFiles(keyring, escrow, destroyed);
  const details = [
    ...after.different.map((name) => `${name} is not the same`),
    ...after.missingInEscrow.map((name) => `${name} is missing in escrow`),
    ...after.missingInFolder.map((name) => `${name} is missing in ${keyring}`),
  ];
  if (details.length === 0) return before.missingInEscrow;
  throw new PartywallError('escrow_unverified', `comparing the keyring ${keyring} with escrow (${escrow.description}): ${details.join(', ')}`, {
    details,
    hint: 'what the folder lost comes back by `partywall keys escrow --restore`; where both are there and differ, find out which one is right',
  });
}

/**
 * Proves that escrow can be written, and is not the very place that it is a copy of.
 *
 * @throws PartywallError escrow_unverified
 */
export async function probeEscrow(escrow: Store, others: readonly Store[]): Promise<void> {
  const probe = `probe-${randomBytes(16).toString('hex')}`;
  await escrow.put(probe, Buffer.from(probe), { ifAbsent: true });
  try {
    for (const other of others) {
      if (isWithin(escrow.description, other.description) || isWithin(other.description, escrow.description) || (await other.head(probe))) {
        throw new PartywallError('escrow_unverified', `escrow (${escrow.description}) is in the same place as ${other.description}`, {
          hint: 'set PARTYWALL_ESCROW to a store that is lost or stolen separately: another machine, account or provider',
        });
      }
    }
  } finally {
    await escrow.delete(probe);
  }
}

/** Whether one store lies in another, by their names: `folder /keys/escrow` in `folder /keys`. */
function isWithin(inner: string, outer: string): boolean {
  const folder = outer.endsWith('/') ? outer : `${outer}/`;
  return inner === outer || inner.startsWith(folder);
}

/** The store of escrow, whose trouble is a reason to go on with nothing that needs it. */
export function escrowStore(store: Store): Store {
  const said = (error: unknown): unknown => {
    const isTrouble = error instanceof PartywallError && (error.code === 'store_unavailable' || error.code === 'store_refused' || error.code === 'store_full');
    if (!isTrouble) return error;
    return new PartywallError('escrow_unverified', `checking escrow (${store.description}): ${error.message}`, { cause: error, hint: error.hint });
  };
  const each = async function* <Item>(items: AsyncIterable<Item>): AsyncGenerator<Item> {
    try {
      yield* items;
    } catch (error) {
      throw said(error);
    }
  };
  const orSaid = <Result>(answer: Promise<Result>): Promise<Result> =>
    answer.catch((error: unknown) => {
      throw said(error);
    });
  return {
    ...store,
    put: (key, body, options) => orSaid(store.put(key, body, options)),
    get: (key, range) => each(store.get(key, range)),
    head: (key) => orSaid(store.head(key)),
    list: (prefix) => each(store.list(prefix)),
    delete: (key) => orSaid(store.delete(key)),
  };
}
