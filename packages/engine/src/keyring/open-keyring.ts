import fs from 'node:fs/promises';
import path from 'node:path';
import { PartywallError } from '../errors.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { readHeader } from './book.ts';
import { readCopy } from './copies.ts';
import { unpackEscrowFiles } from './escrow-files.ts';
import { openFolder } from './folder.ts';
import { type Keyring, openKeys } from './keyring.ts';
import type { BookPlaces } from './open-book.ts';
import { type Repair, renewEscrow, restoreFromEscrow } from './repair.ts';
import { commandSource } from './sources/command-source.ts';
import { envSource } from './sources/env-source.ts';
import { fileSource } from './sources/file-source.ts';
import type { KeySource } from './sources/key-source.ts';

/** Where the key-encryption keys are: PARTYWALL_KEK. */
export type KekSetting = { readonly kind: 'file' | 'env' } | { readonly kind: 'command'; readonly command: string };

export interface KeyringSettings {
  /** Folder of the keys that files are. */
  readonly keyring: string;
  /** Store of the keybook, as a URL. Default the folder `keys` in the keyring. */
  readonly book?: string | undefined;
  /** Store of the escrow copy, as a URL. Without one keys can be read, and nothing else. */
  readonly escrow?: string | undefined;
  readonly kek: KekSetting;
  /** Where key-encryption keys of `env` and credentials of stores come from. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: () => Date;
  readonly signal?: AbortSignal | undefined;
}

const bookFolder = 'keys';

/**
 * Opens a keyring and its stores by their settings. `apart`: stores that escrow must not be in, such as the archive.
 *
 * @throws PartywallError what `openKeys` and `openStore` throw
 */
export async function openKeyring(settings: KeyringSettings, apart: readonly Store[] = []): Promise<Keyring> {
  const { places, close } = await openPlaces(settings, apart);
  try {
    return { ...(await openKeys({ ...places, clock: settings.clock })), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Repairs a keyring of which one copy is lost or wrong, whether or not it opens. `restore`: from escrow; `renew`: escrow.
 *
 * @throws PartywallError what `restoreFromEscrow` and `renewEscrow` throw
 */
export async function repairKeyring(settings: KeyringSettings, what: 'restore' | 'renew', apart: readonly Store[] = []): Promise<Repair> {
  const { places, close } = await openPlaces(settings, apart);
  try {
    const { escrow } = places;
    if (!escrow)
      throw new PartywallError('escrow_unverified', 'repairing the keyring: there is no escrow', { hint: 'set PARTYWALL_ESCROW to where the copy is' });
    return await (what === 'restore' ? restoreFromEscrow : renewEscrow)({ ...places, escrow });
  } finally {
    await close();
  }
}

interface OpenPlaces {
  readonly places: BookPlaces;
  close(): Promise<void>;
}

async function openPlaces(settings: KeyringSettings, apart: readonly Store[]): Promise<OpenPlaces> {
  const { keyring, env, signal } = settings;
  await openFolder(keyring);
  const opened: { close(): Promise<void> }[] = [];
  const closeAll = async (): Promise<void> => {
    for (const each of opened.splice(0).reverse()) await each.close();
  };
  const keep = <Opened extends { close(): Promise<void> }>(each: Opened): Opened => {
    opened.push(each);
    return each;
  };
  try {
    const book = keep(await openStore(settings.book ?? path.join(keyring, bookFolder), { env, signal }));
    const escrow = settings.escrow === undefined ? undefined : keep(await openStore(settings.escrow, { env, signal }));
    const source = keep(openSource(settings));
    return { places: { book, escrow, source, keyring, apart, signal }, close: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

export interface Escrow {
  /** What escrow holds; nothing can be added to it from here. */
  readonly keys: Keyring;
  /** Folder that its files were unpacked to. */
  readonly keyring: string;
}

/**
 * Opens what is in escrow without the keyring and the keybook: what a drill and a new machine restore with.
 *
 * @param settings.keyring an empty folder to unpack into; its owner deletes it
 * @throws PartywallError escrow_unverified: there is no keybook in it; keyring_refused: the folder holds keys already
 */
export async function openEscrow(settings: Omit<KeyringSettings, 'book' | 'escrow'>, escrow: Store): Promise<Escrow> {
  const { keyring, clock, signal } = settings;
  await openFolder(keyring);
  if ((await fs.readdir(keyring)).length > 0) throw new PartywallError('keyring_refused', `unpacking escrow into ${keyring}: the folder is not empty`);
  const copy = await readCopy(escrow);
  if (!copy) {
    throw new PartywallError('escrow_unverified', `opening escrow (${escrow.description}): there is no keybook in it`, {
      hint: 'set PARTYWALL_ESCROW to where the copy is',
    });
  }
  await unpackEscrowFiles(escrow, keyring, readHeader(copy.stored, escrow.description).destroyed);
  const source = openSource(settings);
  return { keys: await openKeys({ book: escrow, escrow: undefined, source, keyring, clock, signal }), keyring };
}

/** @throws PartywallError keyring_refused: a variable is no key */
export function openSource({ kek, keyring, env }: Pick<KeyringSettings, 'kek' | 'keyring' | 'env'>): KeySource {
  switch (kek.kind) {
    case 'file':
      return fileSource(keyring);
    case 'env':
      return envSource(env);
    case 'command':
      return commandSource(kek.command, { env });
  }
}
