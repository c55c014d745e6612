import { createHash } from 'node:crypto';
import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import type { Archive } from '../archive.ts';
import { applyPlace, type FilesChange, planPlace } from './change-files.ts';
import type { KeptFiles } from './kept-files.ts';
import { closeFilePlaces, type FilePlace, openFilePlaces } from './live-files.ts';

export interface CopyFilesInput {
  readonly from: string;
  readonly into: string;
  /** Only the plan. */
  readonly dryRun?: boolean | undefined;
}

/**
 * Copies a tenant's files as they are now into the prefix of another, place by place: what a clone of the live database takes along. Ids that are part of a
 * path stay as they are. Can be repeated; a file that is changed meanwhile stops it.
 *
 * @throws PartywallError usage, store_full, store_unavailable, store_refused, restore_refused; FileChanged
 */
export async function copyFiles(
  operation: Operation,
  { from, into, dryRun = false }: CopyFilesInput,
  { env }: Pick<Archive, 'env'> = {},
): Promise<FilesChange[]> {
  const { database, signal } = operation;
  const places = await openFilePlaces(database.model.archive.files, { env, signal });
  try {
    const changes: FilesChange[] = [];
    for (const place of places) {
      const plan = await planPlace(await liveNow(place, from), place.of(into), {});
      if (!dryRun) await applyPlace(plan, signal);
      changes.push(plan.change);
    }
    if (!dryRun && changes.length > 0) {
      const details = { from, places: changes };
      await transaction(database.pool, (client) => appendAudit(client, operation, { tenant: into, action: 'tenant.copy_files', details }));
    }
    return changes;
  } finally {
    closeFilePlaces(places);
  }
}

/** What a tenant has now, as if it had been kept. */
async function liveNow(place: FilePlace, tenant: string): Promise<KeptFiles> {
  const live = place.of(tenant);
  const { files } = await live.list();
  return {
    place: place.name,
    files: files.map((file) => ({ ...file, part: 0 })),
    read: (file) => live.read(file),
    isContent: async (file, content) => (await hashOf(live.read(file))) === (await hashOf(content)),
  };
}

async function hashOf(content: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of content) hash.update(piece);
  return hash.digest('hex');
}
