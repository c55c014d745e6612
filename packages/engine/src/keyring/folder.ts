import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { sqlState } from '../db/connect.ts';
import { PartywallError } from '../errors.ts';

/**
 * The folder of the keys, outside every database: 0700, each file 0600, written whole or not at all. Threat: another user of the machine, and a
 * process that starts at the same time. Modes mean nothing on Windows, where the folder's own access list decides.
 */
const othersMask = 0o077;
const checksModes = process.platform !== 'win32';

/**
 * Makes the folder where there is none.
 *
 * @throws PartywallError keyring_refused: it is no folder, or others may look into it
 */
export async function openFolder(keyring: string): Promise<void> {
  await fs.mkdir(keyring, { recursive: true, mode: 0o700 });
  const found = await fs.stat(keyring);
  if (!found.isDirectory()) throw new PartywallError('keyring_refused', `opening the keyring ${keyring}: it is no folder`);
  refuseExposed(keyring, found, 'chmod 700');
}

/**
 * Reads a key.
 *
 * @throws PartywallError keyring_refused: others than its owner can read it
 */
export async function readKeyFile(file: string): Promise<Buffer> {
  // One handle for both, so that what is checked is what is read.
  const handle = await fs.open(file, 'r');
  try {
    refuseExposed(file, await handle.stat(), 'chmod 600');
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** Written beside, made durable, and linked into place: of many processes one makes the key, and all find it whole. An existing file stays. */
export async function createKeyFile(file: string, content: string | Buffer): Promise<void> {
  const folder = path.dirname(file);
  const draft = path.join(folder, `.draft-${randomUUID()}`);
  const handle = await fs.open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    await fs.link(draft, file);
    await syncFolder(folder);
  } catch (error) {
    if (sqlState(error) !== 'EEXIST') throw error;
  } finally {
    await fs.rm(draft, { force: true });
  }
}

/** Overwrites a key where it lies, which reaches a draft of it that a killed process left (the same file under another name), and unlinks it. */
export async function destroyKeyFile(file: string): Promise<void> {
  const handle = await fs.open(file, 'r+').catch((error: unknown) => {
    if (sqlState(error) !== 'ENOENT') throw error;
  });
  if (!handle) return;
  try {
    const { size } = await handle.stat();
    await handle.write(randomBytes(size), 0, size, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fs.rm(file, { force: true });
  await syncFolder(path.dirname(file));
}

/** A name survives a power cut only when its folder is on disk too. */
async function syncFolder(folder: string): Promise<void> {
  if (!checksModes) return;
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function refuseExposed(name: string, { mode, uid }: { readonly mode: number; readonly uid: number }, remedy: string): void {
  if (!checksModes) return;
  if (uid !== process.getuid?.()) throw new PartywallError('keyring_refused', `opening ${name}: it belongs to another user`);
  if ((mode & othersMask) !== 0) {
    throw new PartywallError('keyring_refused', `opening ${name}: others than its owner may use it`, { hint: `${remedy} ${name}` });
  }
}
