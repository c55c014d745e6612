import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { Archive } from '../archive.ts';
import { closeFilePlaces, type LiveFiles, openFilePlaces } from './live-files.ts';

/** How many files a tenant has, in all places of the model. @throws PartywallError usage, store_unavailable, store_refused */
export async function countFiles(operation: Operation, tenant: string, { env }: Pick<Archive, 'env'> = {}): Promise<number> {
  let count = 0;
  await inPlaces(operation, tenant, env, async (files) => {
    count += (await files.list()).files.length;
  });
  return count;
}

/**
 * Removes everything that a tenant has in the places of the model: what is left of it outside of the database. Can be repeated.
 *
 * @throws PartywallError erasure_refused (somebody writes meanwhile), usage, store_unavailable, store_refused
 */
export async function removeFiles(operation: Operation, tenant: string, { env }: Pick<Archive, 'env'> = {}): Promise<void> {
  await inPlaces(operation, tenant, env, async (files) => {
    await files.clear();
    const left = (await files.list()).files.length;
    if (left > 0) throw new PartywallError('erasure_refused', `removing files of tenant ${tenant.slice(0, 100)}: ${left} were written meanwhile`);
  });
}

async function inPlaces(
  { database: { model }, signal }: Operation,
  tenant: string,
  env: Archive['env'],
  work: (files: LiveFiles) => Promise<void>,
): Promise<void> {
  const places = await openFilePlaces(model.archive.files, { env, signal });
  try {
    for (const place of places) await work(place.of(tenant));
  } finally {
    closeFilePlaces(places);
  }
}
