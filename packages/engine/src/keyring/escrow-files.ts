import fs from 'node:fs/promises';
import path from 'node:path';
import { PartywallError } from '../errors.ts';
import { readObject } from '../store/read-object.ts';
import type { Store } from '../store/store.ts';
import { createKeyFile, openFolder, readKeyFile } from './folder.ts';
import { kekFileName } from './sources/file-source.ts';

/**
 * What escrow keeps beside the keybook: the files of the keyring folder that a backup cannot be used without (key-encryption keys, signing keys,
 * keys of sealed secrets), under `keyring/`, as they are.
 */
const escrowFolder = 'keyring/';
const keyFilePattern = /^(?:kek-[1-9]\d{0,8}\.key|secrets-[1-9]\d{0,8}\.key|signing-[1-9]\d{0,8}\.pem)$/;
const keyFileBytesMax = 64 * 1024;
/** A keyring has a handful; a listing that goes on and on is of another place. */
const keyFilesMax = 10_000;

export interface FilesState {
  /** Names that are in both and the same. */
  readonly same: readonly string[];
  readonly missingInEscrow: readonly string[];
  /** Keys that the folder lost; they are needed for what they signed or encrypted. */
  readonly missingInFolder: readonly string[];
  readonly different: readonly string[];
}

/** Compares by content, reading each. `destroyed`: versions of key-encryption keys that do not count, wherever they are. */
export async function compareKeyFiles(keyring: string, escrow: Store, destroyed: readonly number[]): Promise<FilesState> {
  const left = new Set(destroyed.map(kekFileName));
  const own = (await folderKeyFiles(keyring)).filter((name) => !left.has(name));
  const copied = (await escrowKeyFiles(escrow)).filter((name) => !left.has(name));
  const both = own.filter((name) => copied.includes(name));
  const same: string[] = [];
  for (const name of both) {
    const [here, there] = await Promise.all([readKeyFile(path.join(keyring, name)), readEscrowedFile(escrow, name)]);
    if (here.equals(there)) same.push(name);
  }
  return {
    same,
    missingInEscrow: own.filter((name) => !copied.includes(name)),
    missingInFolder: copied.filter((name) => !own.includes(name)),
    different: both.filter((name) => !same.includes(name)),
  };
}

/** Copies files to escrow. One that is there stays as it is: who comes at the same time copies the same. */
export async function escrowKeyFilesNamed(keyring: string, escrow: Store, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const content = await readKeyFile(path.join(keyring, name));
    try {
      await escrow.put(escrowFolder + name, content, { ifAbsent: true });
    } catch (error) {
      if (!(error instanceof PartywallError) || error.code !== 'store_conflict') throw error;
    }
  }
}

/** Writes what escrow has and the folder lacks, but for destroyed versions. An existing file stays. Returns the names. */
export async function unpackEscrowFiles(escrow: Store, keyring: string, destroyed: readonly number[]): Promise<readonly string[]> {
  const own = new Set([...(await folderKeyFiles(keyring)), ...destroyed.map(kekFileName)]);
  const names = (await escrowKeyFiles(escrow)).filter((name) => !own.has(name));
  for (const name of names) await createKeyFile(path.join(keyring, name), await readEscrowedFile(escrow, name));
  return names;
}

/** Deletes the copies of these versions. That the store keeps nothing of what was deleted is the operator's part: no old versions, no locks. */
export async function deleteEscrowedKeks(escrow: Store, versions: readonly number[]): Promise<void> {
  const there = new Set(await escrowKeyFiles(escrow));
  for (const name of versions.map(kekFileName)) if (there.has(name)) await escrow.delete(escrowFolder + name);
}

function readEscrowedFile(escrow: Store, name: string): Promise<Buffer> {
  return readObject(escrow, escrowFolder + name, keyFileBytesMax);
}

async function folderKeyFiles(keyring: string): Promise<string[]> {
  await openFolder(keyring);
  return (await fs.readdir(keyring)).filter((name) => keyFilePattern.test(name)).sort();
}

async function escrowKeyFiles(escrow: Store): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of escrow.list(escrowFolder)) {
    const name = key.slice(escrowFolder.length);
    if (!keyFilePattern.test(name)) continue;
    if (names.push(name) > keyFilesMax) throw new PartywallError('escrow_unverified', `listing the keys of ${escrow.description}: more than ${keyFilesMax}`);
  }
  return names.sort();
}
