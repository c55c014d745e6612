import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Keyring, openKeys } from '../keyring/keyring.ts';
import { fileSource } from '../keyring/sources/file-source.ts';
import type { KeySource } from '../keyring/sources/key-source.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import type { Archive } from './archive.ts';

/** Where an archive and its keys are, as an operator says it. */
export interface ArchiveSettings {
  /** URL of the store of the backups. */
  readonly store: string;
  /** URL of the store of the keybook. Default: the folder `keys` of the keyring. */
  readonly keys?: string | undefined;
  /** URL of the store of the escrow copy. Without one backups can be read, and none can be made. */
  readonly escrow?: string | undefined;
  readonly keyring: string;
  /** Default: files of the keyring. */
  readonly source?: KeySource | undefined;
  readonly workFolder: string;
  /** Where credentials of stores come from. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: () => Date;
  readonly signal?: AbortSignal | undefined;
}

export interface OpenArchive extends Archive {
  readonly keys: Keyring;
  close(): Promise<void>;
}

/**
 * Opens an archive with its keys, for as long as `close` is not called.
 *
 * @throws PartywallError store_refused, store_unavailable, keyring_refused
 */
export async function openArchive(settings: ArchiveSettings): Promise<OpenArchive> {
  const { keyring, workFolder, env, clock, signal } = settings;
  const opened: Store[] = [];
  const open = async (url: string): Promise<Store> => {
    const store = await openStore(url, { env, signal });
    opened.push(store);
    return store;
  };
  const source = settings.source ?? fileSource(keyring);
  const close = async (): Promise<void> => {
    await Promise.allSettled([source.close(), ...opened.map((store) => store.close())]);
  };
  try {
    await mkdir(keyring, { recursive: true, mode: 0o700 });
    await mkdir(workFolder, { recursive: true, mode: 0o700 });
    const store = await open(settings.store);
    const book = await open(settings.keys ?? pathToFileURL(path.join(keyring, 'keys')).href);
    const escrow = settings.escrow === undefined ? undefined : await open(settings.escrow);
    const keys = await openKeys({ book, escrow, source, keyring, apart: [store], clock, signal });
    return { store, keys, keyring, workFolder, env, close };
  } catch (error) {
    await close();
    throw error;
  }
}
