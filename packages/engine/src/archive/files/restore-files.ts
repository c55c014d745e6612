import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { Archive } from '../archive.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import { openBackup } from '../read/open-backup.ts';
import type { IndexedFile } from './file-index.ts';
import { folderFiles } from './folder-files.ts';
import { type KeptFiles, keptFiles } from './kept-files.ts';
import { closeFilePlaces, FileChanged, type FilePlace, type LiveFile, type LiveFiles, openFilePlaces } from './live-files.ts';

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

/** What becomes of the files of one place; paths are personal data, so these are counts. */
export interface FilesChange {
  readonly place: string;
  readonly added: number;
  readonly replaced: number;
  readonly deleted: number;
  readonly unchanged: number;
  /** There, not in the backup, and left alone. */
  readonly extra: number;
  /** Of the files that are added and replaced. */
  readonly bytes: number;
}

export interface RestoreFilesReport {
  readonly tenant: string;
  readonly backup: string;
  readonly dryRun: boolean;
  readonly places: readonly FilesChange[];
}

const filesAtOnce = 4;

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

/** Removes every file of a tenant, in all places of the model: what is left of it outside of the database. Can be repeated. Returns how many there were. */
export async function removeFiles({ database: { model }, signal }: Operation, tenant: string, { env }: Pick<Archive, 'env'> = {}): Promise<number> {
  const places = await openFilePlaces(model.archive.files, { env, signal });
  try {
    let removed = 0;
    for (const place of places) {
      const files = place.of(tenant);
      removed += (await files.list()).files.length;
      await files.clear();
      const left = (await files.list()).files.length;
      if (left > 0) throw new PartywallError('erasure_refused', `removing files of tenant ${tenant.slice(0, 100)}: ${left} are written while they are removed`);
    }
    return removed;
  } finally {
    closeFilePlaces(places);
  }
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

interface PlacePlan {
  readonly kept: KeptFiles;
  readonly target: LiveFiles;
  readonly written: readonly IndexedFile[];
  readonly deleted: readonly LiveFile[];
  readonly change: FilesChange;
}

async function planPlace(kept: KeptFiles, target: LiveFiles, { delete: deletes = false }: RestoreFilesInput): Promise<PlacePlan> {
  const refused = (what: string): PartywallError => new PartywallError('restore_refused', `restoring files of ${kept.place}: ${what}`);
  const outside = kept.files.filter(({ path }) => !target.accepts(path)).length;
  if (outside > 0) throw refused(`${outside} paths of the backup lead out of the tenant's prefix, or cannot be written there`);
  const { files } = await target.list();
  const there = new Map(files.map((file) => [file.path, file]));
  const wanted = new Set(kept.files.map(({ path }) => path));
  const others = files.filter(({ path }) => !wanted.has(path));
  const written: IndexedFile[] = [];
  for (const file of kept.files) {
    const live = there.get(file.path);
    if (!live || !(await isSame(kept, file, target, live))) written.push(file);
  }
  const inTheWay = deletes ? 0 : blocked(written, others);
  if (inTheWay > 0) throw refused(`${inTheWay} files are folders now, or the other way round; they can be restored where other files may be removed`);
  const replaced = written.filter(({ path }) => there.has(path)).length;
  const change: FilesChange = {
    place: kept.place,
    added: written.length - replaced,
    replaced,
    deleted: deletes ? others.length : 0,
    unchanged: kept.files.length - written.length,
    extra: deletes ? 0 : others.length,
    bytes: written.reduce((sum, { bytes }) => sum + bytes, 0),
  };
  return { kept, target, written, deleted: deletes ? others : [], change };
}

async function isSame(kept: KeptFiles, file: IndexedFile, target: LiveFiles, live: LiveFile): Promise<boolean> {
  if (live.bytes !== file.bytes) return false;
  try {
    return await kept.isContent(file, target.read(live));
  } catch (error) {
    if (error instanceof FileChanged) return false;
    throw error;
  }
}

/** Files whose path is a folder of the others, or that lie in what is a file. */
function blocked(written: readonly IndexedFile[], others: readonly LiveFile[]): number {
  const foldersOf = (path: string): string[] => {
    const parts = path.split('/');
    return parts.slice(1).map((_, at) => parts.slice(0, at + 1).join('/'));
  };
  const files = new Set(others.map(({ path }) => path));
  const folders = new Set(others.flatMap(({ path }) => foldersOf(path)));
  return written.filter(({ path }) => folders.has(path) || foldersOf(path).some((folder) => files.has(folder))).length;
}

async function applyPlace({ kept, target, written, deleted }: PlacePlan, signal: AbortSignal | undefined): Promise<void> {
  await target.tidy();
  // Before, because one may be where a folder is to be.
  await sideBySide(deleted, filesAtOnce, async ({ path }) => {
    signal?.throwIfAborted();
    await target.remove(path);
  });
  await sideBySide(written, filesAtOnce, async (file) => {
    signal?.throwIfAborted();
    await target.write(file.path, kept.read(file), file);
  });
}

async function record(operation: Operation, { tenant, backup, into }: RestoreFilesInput, { places }: RestoreFilesReport): Promise<void> {
  // A drill changes nothing of the platform's, and has a record of its own.
  if (into && 'folder' in into) return;
  const target = into?.tenant ?? tenant;
  const details = { backup, from: tenant, places: places.map((place) => ({ ...place })) };
  await transaction(operation.database.pool, (client) => appendAudit(client, operation, { tenant: target, action: 'tenant.restore_files', details }));
}
