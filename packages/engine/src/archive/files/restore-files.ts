import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { Archive } from '../archive.ts';
import { openBackup } from '../read/open-backup.ts';
import { applyPlace, type FilesChange, type PlacePlan, planPlace } from './change-files.ts';
import { folderFiles } from './folder-files.ts';
import { keptFiles } from './kept-files.ts';
import { closeFilePlaces, type FilePlace, type LiveFiles, openFilePlaces } from './live-files.ts';

export interface RestoreFilesInput {
  readonly tenant: string;
  /** Id of the backup. */
  readonly backup: string;
  /** Only the plan. */
  readonly dryRun?: boolean | undefined;
  /** Removes files that the backup does not have. Default false: they stay. */
  readonly delete?: boolean | undefined;
  /** Another tenant's prefix (a clone), or `<folder>/<place>/` (a drill). Default the tenant's own. */
  readonly into?: { readonly tenant: string } | { readonly folder: string } | undefined;
}

export interface RestoreFilesReport {
  readonly tenant: string;
  readonly backup: string;
  readonly dryRun: boolean;
  readonly places: readonly FilesChange[];
}

/**
 * Makes the files of a tenant those of a backup, by difference: a file whose content is the same is not touched. Each file is replaced whole, so that whoever
 * reads meanwhile sees the old one or the new one; a run that was cut off is finished by the same run again.
 *
 * @throws PartywallError restore_refused (no files in the backup, a place that the model does not name, paths that lead out of the prefix; nothing has
 * changed), key_missing, archive_damaged, store_full, store_unavailable, store_refused
 */
export async function restoreFiles(operation: Operation, archive: Archive, input: RestoreFilesInput): Promise<RestoreFilesReport> {
  const { tenant, backup, dryRun = false, into } = input;
  const kept = await keptFiles(archive, await openBackup(archive, backup), tenant);
  const report = await withTargets(operation, archive, into ?? { tenant }, async (targetOf) => {
    const plans: PlacePlan[] = [];
    for (const files of kept) plans.push(await planPlace(files, targetOf(files.place), input));
    // All of it is known to be possible before the first file changes.
    if (!dryRun) for (const plan of plans) await applyPlace(plan, operation.signal);
    return { tenant, backup, dryRun, places: plans.map(({ change }) => change) };
  });
  if (!dryRun) await record(operation, input, report);
  return report;
}

async function withTargets<Result>(
  { database: { model }, signal }: Operation,
  { env }: Archive,
  into: NonNullable<RestoreFilesInput['into']>,
  work: (targetOf: (place: string) => LiveFiles) => Promise<Result>,
): Promise<Result> {
  if ('folder' in into) return await work((place) => folderFiles(into.folder, `${place}/`, { signal }));
  const places = await openFilePlaces(model.archive.files, { env, signal });
  try {
    return await work((name) => placeNamed(places, name).of(into.tenant));
  } finally {
    closeFilePlaces(places);
  }
}

function placeNamed(places: readonly FilePlace[], name: string): FilePlace {
  const found = places.find((place) => place.name === name);
  if (found) return found;
  throw new PartywallError('restore_refused', `restoring files: the backup has files of ${name}, and the model names no such place`);
}

async function record(operation: Operation, { tenant, backup, into }: RestoreFilesInput, { places }: RestoreFilesReport): Promise<void> {
  // A drill changes nothing of the platform's, and has a record of its own.
  if (into && 'folder' in into) return;
  const target = into?.tenant ?? tenant;
  const details = { backup, from: tenant, places: places.map((place) => ({ ...place })) };
  await transaction(operation.database.pool, (client) => appendAudit(client, operation, { tenant: target, action: 'tenant.restore_files', details }));
}
