import { PartywallError } from '../../errors.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import type { IndexedFile } from './file-index.ts';
import type { KeptFiles } from './kept-files.ts';
import { FileChanged, type LiveFile, type LiveFiles } from './live-files.ts';

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

const filesAtOnce = 4;

/** What is to be done in one place. */
export interface PlacePlan {
  readonly kept: KeptFiles;
  readonly target: LiveFiles;
  readonly written: readonly IndexedFile[];
  readonly deleted: readonly LiveFile[];
  readonly change: FilesChange;
}

/** Compares by content; changes nothing. @throws PartywallError restore_refused, archive_damaged, store_unavailable, store_refused */
export async function planPlace(
  kept: KeptFiles,
  target: LiveFiles,
  { delete: deletes = false }: { readonly delete?: boolean | undefined },
): Promise<PlacePlan> {
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

/** Can be repeated: what is written already is written again, whole. */
export async function applyPlace({ kept, target, written, deleted }: PlacePlan, signal: AbortSignal | undefined): Promise<void> {
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
