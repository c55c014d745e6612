import path from 'node:path';
import { type ArchiveSettings, type OpenArchive, openArchive, openSource, PartywallError } from '@partywall/engine';
import type { CommandContext } from './context.ts';
import { stateFolder } from './embedded.ts';
import { keyringSettings } from './keys-settings.ts';
import { storeUrl } from './store-url.ts';

/**
 * Runs `work` on the archive that the environment names: PARTYWALL_ARCHIVE, PARTYWALL_KEYS, PARTYWALL_ESCROW, PARTYWALL_KEYRING, PARTYWALL_KEK, and
 * PARTYWALL_WORK for what is written before it is uploaded.
 *
 * @throws PartywallError usage, store_refused, store_unavailable, keyring_refused
 */
export async function withArchive<Result>(ctx: CommandContext, work: (archive: OpenArchive) => Promise<Result>): Promise<Result> {
  const archive = await openArchive(archiveSettings(ctx));
  try {
    return await work(archive);
  } finally {
    await archive.close();
  }
}

/** @throws PartywallError usage */
export function archiveSettings(ctx: CommandContext): ArchiveSettings {
  const store = storeUrl(ctx, 'PARTYWALL_ARCHIVE');
  if (store === undefined) {
    throw new PartywallError('usage', 'opening the archive: none given', {
      hint: 'set PARTYWALL_ARCHIVE to where backups are kept: file:///path, or s3://bucket/prefix',
    });
  }
  const keys = keyringSettings(ctx);
  return {
    store,
    keys: keys.book,
    escrow: keys.escrow,
    keyring: keys.keyring,
    source: openSource(keys),
    workFolder: path.resolve(ctx.cwd, ctx.env['PARTYWALL_WORK'] ?? path.join(stateFolder, 'work')),
    env: ctx.env,
    clock: () => new Date(),
    signal: ctx.signal,
  };
}

/** Whether the environment names an archive; without one a database that was never backed up can be erased from. */
export function hasArchive({ env }: Pick<CommandContext, 'env'>): boolean {
  return Boolean(env['PARTYWALL_ARCHIVE']);
}

/** Runs `work` on the archive, where there is one. */
export async function withArchiveIfAny<Result>(ctx: CommandContext, work: (archive: OpenArchive) => Promise<Result>): Promise<Result | undefined> {
  return hasArchive(ctx) ? withArchive(ctx, work) : undefined;
}
