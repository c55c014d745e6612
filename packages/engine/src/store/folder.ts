import { randomUUID } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { sqlState } from '../db/connect.ts';
import { PartywallError } from '../errors.ts';
import { folderError, isMissing } from './folder-errors.ts';
import { withFolderLock } from './folder-lock.ts';
import { folderSync } from './folder-sync.ts';
import { walkFolder } from './folder-walk.ts';
import { checkKey, checkPrefix } from './key.ts';
import type { ByteRange, PutOptions, Store, StoredObject } from './store.ts';

/**
 * A store in a folder. An object is written as a draft in the same file system, made durable, and linked or renamed into place; then its
 * folder is made durable. What begins with a dot is the store's own: `.drafts`, `.locks`. Below the folder no symbolic link is followed.
 */
const draftsFolder = '.drafts';
const locksFolder = '.locks';
/** Longer than any upload: whose draft that is has ended without a word. */
const draftAgeMaxMs = 48 * 3_600_000;
const draftsCleanedMax = 10_000;
const readBytes = 256 * 1024;
/** Folders come and go while others delete the last object in them. */
const placeAttemptsMax = 10;
const statsAtOnce = 32;

export interface FolderOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Makes the folder where there is none.
 *
 * @param folder - absolute path
 * @throws PartywallError store_refused, store_full
 */
export async function openFolderStore(folder: string, { signal }: FolderOptions = {}): Promise<Store> {
  const root = await said(`opening the folder ${folder}`, async () => {
    await fs.mkdir(path.join(folder, draftsFolder), { recursive: true, mode: 0o700 });
    const real = await fs.realpath(folder);
    await cleanDrafts(path.join(real, draftsFolder));
    return real;
  });
  const description = `folder ${folder}`;
  const sync = folderSync();

  const pathOf = (key: string): string => path.join(root, ...key.split('/'));
  const naming = (doing: string, key: string): string => `${doing} ${key} in ${description}`;

  const head = async (key: string): Promise<StoredObject | undefined> => {
    checkKey(key);
    return await said(naming('looking for', key), () => lookAt(root, key));
  };

  const put = async (key: string, body: Buffer | AsyncIterable<Buffer>, options: PutOptions = {}): Promise<StoredObject> => {
    checkKey(key);
    return await said(naming('writing', key), async () => {
      const draft = path.join(root, draftsFolder, randomUUID());
      try {
        await writeDraft(draft, body, signal);
        if (options.ifMatch === undefined) await place(draft, key, options.ifAbsent === true);
        else await replace(draft, key, options.ifMatch);
      } finally {
        await fs.rm(draft, { force: true });
      }
      const stored = await lookAt(root, key);
      if (!stored) throw new PartywallError('store_conflict', `${naming('writing', key)}: somebody deleted it meanwhile`);
      return stored;
    });
  };

  /** Links or renames the draft to its name, and makes that durable. */
  const place = async (draft: string, key: string, ifAbsent: boolean): Promise<void> => {
    const target = pathOf(key);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await makeFolder(path.dirname(target));
        if (ifAbsent) await fs.link(draft, target);
        else await fs.rename(draft, target);
        return await sync(path.dirname(target));
      } catch (error) {
        if (ifAbsent && sqlState(error) === 'EEXIST') throw new PartywallError('store_conflict', `${naming('writing', key)}: there is one already`);
        if (sqlState(error) !== 'ENOENT' || attempt === placeAttemptsMax) throw error;
      }
    }
  };

  const replace = async (draft: string, key: string, tag: string): Promise<void> => {
    await withFolderLock(path.join(root, locksFolder), key.replaceAll('/', '+').slice(-200), async (assertHeld) => {
      const current = await statOf(root, key);
      if (!current || tagOf(current) !== tag) throw new PartywallError('store_conflict', `${naming('replacing', key)}: it is another one now`);
      await advanceTime(draft, current);
      await assertHeld();
      await place(draft, key, false);
    });
  };

  /** One level after the other, for each might be a link that leads elsewhere. */
  const makeFolder = async (folder: string): Promise<void> => {
    if (await isInside(root, folder)) return;
    await makeFolder(path.dirname(folder));
    await fs.mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
      if (sqlState(error) !== 'EEXIST') throw error;
    });
    await sync(path.dirname(folder));
  };

  return {
    description,
    can: { lock: false },
    put,
    get: (key, range) => read(root, key, { range, signal, doing: naming('reading', key) }),
    head,
    list: (prefix) => list(root, prefix, { signal, doing: `listing ${description}` }),
    delete: async (key) => {
      checkKey(key);
      await said(naming('deleting', key), async () => {
        const file = pathOf(key);
        if (!(await lookAt(root, key))) return;
        await fs.rm(file, { force: true });
        await sync(path.dirname(file)).catch(unlessMissing);
        await removeEmpty(root, path.dirname(file));
      });
    },
    extendLock: async (key) => checkKey(key),
    close: async () => undefined,
  };
}

async function writeDraft(draft: string, body: Buffer | AsyncIterable<Buffer>, signal: AbortSignal | undefined): Promise<void> {
  const handle = await fs.open(draft, 'wx', 0o600);
  try {
    for await (const chunk of Buffer.isBuffer(body) ? [body] : body) {
      signal?.throwIfAborted();
      await writeAll(handle, chunk);
    }
    signal?.throwIfAborted();
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: FileHandle, chunk: Buffer): Promise<void> {
  for (let done = 0; done < chunk.length; ) done += (await handle.write(chunk, done)).bytesWritten;
}

/**
 * A tag holds the time of writing, which a file system counts in steps of milliseconds, and the inode, which is used again. So that no two
 * contents of a key ever have one tag, a replacement is later than what it replaces.
 */
async function advanceTime(draft: string, current: BigIntStats): Promise<void> {
  const { mtimeNs } = await fs.stat(draft, { bigint: true });
  if (mtimeNs > current.mtimeNs) return;
  const later = Number(current.mtimeNs / 1_000_000n + 1n) / 1_000; // seconds, in whole milliseconds
  await fs.utimes(draft, later, later);
}

interface Reading {
  readonly range?: ByteRange | undefined;
  readonly signal: AbortSignal | undefined;
  readonly doing: string;
}

async function* read(root: string, key: string, { range, signal, doing }: Reading): AsyncGenerator<Buffer> {
  checkKey(key);
  const handle = await said(doing, () => openObject(root, key));
  try {
    const { size } = await said(doing, () => handle.stat());
    const from = range?.offset ?? 0;
    const until = range ? range.offset + range.length : size;
    if (until > size) throw new PartywallError('archive_damaged', `${doing}: it has ${size} bytes, and those up to ${until} are asked for`);
    for (let position = from; position < until; ) {
      signal?.throwIfAborted();
      const chunk = Buffer.allocUnsafe(Math.min(readBytes, until - position));
      const at = position;
      const { bytesRead } = await said(doing, () => handle.read(chunk, 0, chunk.length, at));
      if (bytesRead === 0) throw new PartywallError('store_unavailable', `${doing}: the file ends at byte ${position} of ${until}`);
      position += bytesRead;
      yield chunk.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

async function openObject(root: string, key: string): Promise<FileHandle> {
  const file = path.join(root, key);
  const missing = (): PartywallError => new PartywallError('store_object_missing', `there is no ${key} in folder ${root}`);
  if (!(await statOf(root, key))) throw missing();
  try {
    return await fs.open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    throw isMissing(error) ? missing() : error;
  }
}

async function* list(root: string, prefix: string, { signal, doing }: Reading): AsyncGenerator<StoredObject> {
  checkPrefix(prefix);
  let page: string[] = [];
  const stats = async (): Promise<StoredObject[]> => {
    signal?.throwIfAborted();
    const found = await said(doing, () => Promise.all(page.map((key) => lookAt(root, key))));
    page = [];
    return found.filter((object) => object !== undefined);
  };
  try {
    for await (const key of walkFolder(root, prefix)) {
      page.push(key);
      if (page.length === statsAtOnce) yield* await stats();
    }
  } catch (error) {
    throw folderError(error, doing);
  }
  yield* await stats();
}

async function lookAt(root: string, key: string): Promise<StoredObject | undefined> {
  const found = await statOf(root, key);
  return found && { key, bytes: Number(found.size), tag: tagOf(found), modifiedAt: found.mtime };
}

/** Undefined where there is no file of that name, a symbolic link included. */
async function statOf(root: string, key: string): Promise<BigIntStats | undefined> {
  const file = path.join(root, key);
  if (!(await isInside(root, path.dirname(file)))) return undefined;
  const found = await fs.lstat(file, { bigint: true }).catch(unlessMissing);
  return found?.isFile() ? found : undefined;
}

function tagOf({ ino, mtimeNs, size }: BigIntStats): string {
  return `${ino.toString(36)}-${mtimeNs.toString(36)}-${size.toString(36)}`;
}

/** @throws PartywallError store_refused: a symbolic link is on the way */
async function isInside(root: string, folder: string): Promise<boolean> {
  if (folder === root) return true;
  const real = await fs.realpath(folder).catch(unlessMissing);
  if (real === undefined || real === folder) return real !== undefined;
  throw new PartywallError('store_refused', `${folder} leads out of the store, to ${real}`, { hint: 'a store has no symbolic links in it' });
}

async function removeEmpty(root: string, from: string): Promise<void> {
  for (let folder = from; folder !== root; folder = path.dirname(folder)) {
    try {
      await fs.rmdir(folder);
    } catch (error) {
      // EEXIST is what some systems say for a folder that is not empty.
      if (['ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY'].includes(sqlState(error) ?? '')) return;
      throw error;
    }
  }
}

async function cleanDrafts(folder: string): Promise<void> {
  const oldest = Date.now() - draftAgeMaxMs; // against the file system's clock, not that of an operation
  for (const name of (await fs.readdir(folder)).slice(0, draftsCleanedMax)) {
    const draft = path.join(folder, name);
    const found = await fs.lstat(draft).catch(unlessMissing);
    if (found && found.mtimeMs < oldest) await fs.rm(draft, { force: true });
  }
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
  return undefined;
}

async function said<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw folderError(error, doing);
  }
}
