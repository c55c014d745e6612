import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { type Keyring, type KeyringOptions, openKeys } from '../../../src/keyring/keyring.ts';
import { fileSource } from '../../../src/keyring/sources/file-source.ts';
import { openFolderStore } from '../../../src/store/folder.ts';
import type { Store } from '../../../src/store/store.ts';

export interface Places {
  readonly root: string;
  readonly keyring: string;
  readonly book: Store;
  readonly escrow: Store;
  /** Opens the keyring of these places as a new process would. */
  open(changed?: Partial<KeyringOptions>): Promise<Keyring>;
}

/** The time of every test. */
export const at = new Date('2026-11-21T02:00:00Z');

export async function objectNames(store: Store): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of store.list('')) names.push(key);
  return names;
}

/** A keyring folder, a store of the keybook and one of escrow for each test. */
export function keyringPlaces(): Places {
  let current: Omit<Places, 'open'> | undefined;
  const opened: Keyring[] = [];
  const places = (): Omit<Places, 'open'> => {
    if (!current) throw new Error('the places of a keyring exist inside a test only');
    return current;
  };
  beforeEach(async () => {
    const root = await mkdtemp(path.join(os.tmpdir(), 'partywall-keys-'));
    const store = (name: string): Promise<Store> => openFolderStore(path.join(root, name));
    current = { root, keyring: path.join(root, 'keyring'), book: await store('keys'), escrow: await store('escrow') };
  });
  afterEach(async () => {
    for (const keyring of opened.splice(0)) await keyring.close();
    await rm(places().root, { recursive: true, force: true });
  });
  return {
    get root() {
      return places().root;
    },
    get keyring() {
      return places().keyring;
    },
    get book() {
      return places().book;
    },
    get escrow() {
      return places().escrow;
    },
    open: async (changed = {}) => {
      const { keyring, book, escrow } = places();
      const keys = await openKeys({ keyring, book, escrow, source: fileSource(keyring), clock: () => at, ...changed });
      opened.push(keys);
      return keys;
    },
  };
}
