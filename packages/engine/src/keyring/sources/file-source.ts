import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import { createKeyFile, destroyKeyFile, openFolder, readKeyFile } from '../folder.ts';
import { keyBytes, seal, unseal } from '../sealed.ts';
import type { KeySource } from './key-source.ts';

const filePattern = /^kek-([1-9]\d{0,8})\.key$/;

/** Key-encryption keys in the keyring folder, `kek-<version>.key`: 32 random bytes each, read when they are used. */
export function fileSource(keyring: string): KeySource {
  const versions = async (): Promise<number[]> => {
    await openFolder(keyring);
    return (await fs.readdir(keyring))
      .flatMap((file) => filePattern.exec(file)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  };
  const read = async (version: number): Promise<Buffer> => {
    const file = kekFile(keyring, version);
    const key = await readKeyFile(file).catch((error: unknown) => {
      if (sqlState(error) !== 'ENOENT') throw error;
      throw new PartywallError('keyring_refused', `reading ${file}: there is no such key-encryption key`, {
        hint: 'use the keyring folder that the keybook was written with, or put it back from escrow: `partywall keys escrow --restore`',
      });
    });
    if (key.length !== keyBytes) throw new PartywallError('keyring_refused', `reading ${file}: not a key of ${keyBytes} bytes`);
    return key;
  };
  return {
    description: `folder ${keyring}`,
    versions,
    wrap: async (version, plain, context) => seal(await read(version), plain, context),
    unwrap: async (version, wrapped, context) => {
      const plain = unseal(await read(version), wrapped, context);
      if (plain) return plain;
      throw new PartywallError('keyring_refused', `opening a keybook with ${kekFile(keyring, version)}: it was written with another key, or was changed`);
    },
    create: async (above) => {
      const highest = Math.max(above, ...(await versions()));
      if (highest > above) return highest;
      // Of many processes that come at once one makes it, and all use it.
      await createKeyFile(kekFile(keyring, above + 1), randomBytes(keyBytes));
      return above + 1;
    },
    destroy: async (version) => {
      await destroyKeyFile(kekFile(keyring, version));
      return 'destroyed';
    },
    close: async () => {},
  };
}

function kekFile(keyring: string, version: number): string {
  return path.join(keyring, kekFileName(version));
}

/** Its name in the keyring folder and in escrow. */
export function kekFileName(version: number): string {
  return `kek-${version}.key`;
}
