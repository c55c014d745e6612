import { randomUUID } from 'node:crypto';
import { type BigIntStats, constants, type Dirent } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import { folderError, isMissing } from '../../store/folder-errors.ts';
import { folderSync } from '../../store/folder-sync.ts';
import { FileChanged, type FileListing, filesMax, type LiveFile, type LiveFiles } from './live-files.ts';

/**
 * A tenant's files in a folder. No symbolic link is followed, neither in reading nor in writing: it may lead to another tenant, or out of the folder. A
 * file is written as a draft beside its place, made durable, and renamed.
 */
const readBytes = 1024 ** 2;
/** A second change within this time may leave the times of a file as they are; some file systems count whole seconds, and clocks differ. */
const settleMs = 2_000;
const partBytesMax = 255;
const pathBytesMax = 4_096;
/** Whose draft that is was killed: no file takes that long. */
const draftAgeMaxMs = 3_600_000;
const draftPattern = /^\.partywall-[0-9a-f]{8}-[0-9a-f-]{27}$/;

export function folderFiles(root: string, prefix: string, { signal }: { readonly signal?: AbortSignal | undefined } = {}): LiveFiles {
  const folder = path.resolve(root, prefix);
  const description = `folder ${root}`;
  const sync = folderSync();
  const said = async <Result>(doing: string, work: () => Promise<Result>): Promise<Result> => {
    try {
      return await work();
    } catch (error) {
      throw folderError(error, `${doing} files in ${description}`);
    }
  };
  const placeOf = (name: string): string => {
    if (!isSafe(name)) throw new PartywallError('restore_refused', `writing files in ${description}: a path leads out of the tenant's prefix`);
    return path.join(folder, name);
  };

  const look = async (name: string): Promise<LiveFile | undefined> => {
    const file = placeOf(name);
    if (!(await isReal(root, path.dirname(file)))) return undefined;
    const found = await fs.lstat(file, { bigint: true }).catch(unlessMissing);
    return found?.isFile() ? liveFile(name, found) : undefined;
  };

  /** One level after the other: each might be a link that leads elsewhere. */
  const makeFolder = async (wanted: string): Promise<void> => {
    if (wanted === root || (await isReal(root, wanted))) return;
    await makeFolder(path.dirname(wanted));
    await fs.mkdir(wanted, { mode: 0o750 }).catch(async (error: unknown) => {
      if (sqlState(error) !== 'EEXIST' || !(await isReal(root, wanted))) throw error;
    });
    await sync(path.dirname(wanted));
  };

  return {
    list: () =>
      said('listing', async () => {
        // A disk that is not there holds no files either: an empty answer would be taken for none.
        await fs.access(root);
        const found: Found = { files: [], drafts: [], left: new Map(), signal };
        if (await isReal(root, folder)) await walk(folder, '', found);
        return { files: found.files.sort(byPath), left: found.left } satisfies FileListing;
      }),
    clear: () =>
      said('removing', async () => {
        await fs.access(root);
        // Links in it go as links.
        if (await isReal(root, folder)) await fs.rm(folder, { recursive: true, force: true });
      }),
    tidy: () =>
      said('looking through', async () => {
        const found: Found = { files: [], drafts: [], left: new Map(), signal };
        if (await isReal(root, folder)) await walk(folder, '', found);
        for (const draft of found.drafts) {
          const stat = await fs.lstat(draft).catch(unlessMissing);
          if (stat && stat.ctimeMs < Date.now() - draftAgeMaxMs) await fs.rm(draft, { force: true }); // against the file system's clock
        }
      }),
    look: (name) => said('looking for', () => look(name)),
    read: async function* (file) {
      yield* readWhole(root, placeOf(file.path), file, signal);
    },
    accepts: isSafe,
    write: (name, body, { modified, mode }) =>
      said('writing', async () => {
        const file = placeOf(name);
        await makeFolder(path.dirname(file));
        const draft = path.join(path.dirname(file), `.partywall-${randomUUID()}`);
        try {
          const handle = await fs.open(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
          try {
            for await (const piece of body) {
              signal?.throwIfAborted();
              for (let at = 0; at < piece.length; ) at += (await handle.write(piece, at)).bytesWritten;
            }
            if (mode !== null) await handle.chmod(mode & 0o777);
            await handle.utimes(modified / 1_000, modified / 1_000);
            await handle.sync();
          } finally {
            await handle.close();
          }
          await fs.rename(draft, file);
          await sync(path.dirname(file));
        } finally {
          await fs.rm(draft, { force: true });
        }
      }),
    remove: (name) =>
      said('removing', async () => {
        if (!(await look(name))) return;
        const file = placeOf(name);
        await fs.rm(file, { force: true });
        for (let above = path.dirname(file); above.length >= folder.length && above !== root; above = path.dirname(above)) {
          if (!(await fs.rmdir(above).then(() => true, unlessInUse))) break;
        }
      }),
  };
}

interface Found {
  readonly files: LiveFile[];
  /** Full paths of what restores were writing. */
  readonly drafts: string[];
  readonly left: Map<string, number>;
  readonly signal: AbortSignal | undefined;
}

async function walk(folder: string, base: string, found: Found): Promise<void> {
  const leave = (kind: string): void => void found.left.set(kind, (found.left.get(kind) ?? 0) + 1);
  const entries = await fs.readdir(folder, { withFileTypes: true, encoding: 'buffer' }).catch((error: unknown): Dirent<Buffer>[] => {
    if (isMissing(error)) return [];
    throw error;
  });
  for (const entry of entries) {
    found.signal?.throwIfAborted();
    const text = entry.name.toString('utf8');
    if (draftPattern.test(text)) {
      found.drafts.push(path.join(folder, text));
      continue;
    }
    const name = `${base}${text}`;
    if (!Buffer.from(text).equals(entry.name)) leave('with a name that is no UTF-8');
    else if (entry.isSymbolicLink()) leave('symbolic links, not followed');
    else if (!isSafe(name)) leave('with a path that is too long');
    else if (entry.isDirectory()) await walk(path.join(folder, text), `${name}/`, found);
    else if (!entry.isFile()) leave('neither files nor folders');
    else {
      const stat = await fs.lstat(path.join(folder, text), { bigint: true }).catch(unlessMissing);
      if (stat?.isFile()) found.files.push(liveFile(name, stat));
      if (found.files.length > filesMax) throw new PartywallError('backup_refused', `listing files: a tenant has more than ${filesMax} in one place`);
    }
  }
}

/** What was opened is the file that is asked for, and is the same when it was read. */
async function* readWhole(root: string, file: string, { tag, ...facts }: LiveFile, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  const changed = (): FileChanged => new FileChanged('a file was changed while it was read');
  if (!(await isReal(root, path.dirname(file)))) throw changed();
  // Without O_NONBLOCK a pipe that took the file's place would be waited for.
  const handle = await fs.open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error: unknown) => {
    throw isMissing(error) || sqlState(error) === 'ELOOP' ? changed() : folderError(error, `reading files in folder ${root}`);
  });
  try {
    const before = await handle.stat({ bigint: true });
    const named = await fs.lstat(file, { bigint: true }).catch(unlessMissing);
    const isIt = before.isFile() && named?.ino === before.ino && named.dev === before.dev && (await isReal(root, path.dirname(file)));
    if (!isIt || Number(before.size) !== facts.bytes || (tag !== '' && tag !== tagOf(before))) throw changed();
    for (let position = 0; position < facts.bytes; ) {
      signal?.throwIfAborted();
      const piece = Buffer.allocUnsafe(Math.min(readBytes, facts.bytes - position));
      const { bytesRead } = await handle.read(piece, 0, piece.length, position);
      if (bytesRead === 0) throw changed();
      position += bytesRead;
      yield piece.subarray(0, bytesRead);
    }
    if (tagOf(await handle.stat({ bigint: true })) !== tagOf(before)) throw changed();
  } finally {
    await handle.close();
  }
}

function liveFile(name: string, found: BigIntStats): LiveFile {
  const lately = Number(found.ctimeMs) > Date.now() - settleMs; // against the file system's clock, not that of an operation
  return { path: name, bytes: Number(found.size), modified: Number(found.mtimeMs), mode: Number(found.mode) & 0o777, tag: lately ? '' : tagOf(found) };
}

/** The time of the last change of any kind cannot be set back, as that of the content can. */
function tagOf({ ino, ctimeNs, mtimeNs, size }: BigIntStats): string {
  return `${ino.toString(36)}-${ctimeNs.toString(36)}-${mtimeNs.toString(36)}-${size.toString(36)}`;
}

/** A path below the tenant's prefix, whatever wrote it. */
function isSafe(name: string): boolean {
  const parts = name.split('/');
  return (
    name.isWellFormed() &&
    !name.includes('\0') &&
    Buffer.byteLength(name) <= pathBytesMax &&
    parts.every((part) => part !== '' && part !== '.' && part !== '..' && !draftPattern.test(part) && Buffer.byteLength(part) <= partBytesMax)
  );
}

/** Whether the folder is there, and no symbolic link is on the way to it below the root. */
async function isReal(root: string, folder: string): Promise<boolean> {
  const real = await fs.realpath(folder).catch(unlessMissing);
  if (real === undefined) return false;
  const wanted = path.join(await fs.realpath(root), path.relative(root, folder));
  if (real === wanted) return (await fs.lstat(real)).isDirectory();
  throw new PartywallError('store_refused', `looking for files in folder ${root}: a symbolic link is on the way to a tenant's files`, {
    hint: 'links are not followed: they may lead to the files of another tenant',
  });
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
  return undefined;
}

function unlessInUse(error: unknown): false {
  if (!['ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY'].includes(sqlState(error) ?? '')) throw error;
  return false;
}

function byPath(left: LiveFile, right: LiveFile): number {
  return left.path < right.path ? -1 : left.path > right.path ? 1 : 0;
}
