import path from 'node:path';
import { type ArchiveSettings, type OpenArchive, openArchive, PartywallError } from '@partywall/engine';
import type { CommandContext } from './context.ts';
import { keyringFolder } from './control.ts';
import { stateFolder } from './embedded.ts';

/**
 * Runs `work` on the archive that the environment names: PARTYWALL_ARCHIVE, PARTYWALL_KEYS, PARTYWALL_ESCROW, PARTYWALL_KEYRING, and
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
  const store = ctx.env['PARTYWALL_ARCHIVE'];
  if (!store) {
    throw new PartywallError('usage', 'opening the archive: none given', {
      hint: 'set PARTYWALL_ARCHIVE to where backups are kept: file:///path, or s3://bucket/prefix',
    });
  }
  return {
    store: storeUrl(ctx, store),
    keys: optionalStore(ctx, 'PARTYWALL_KEYS'),
    escrow: optionalStore(ctx, 'PARTYWALL_ESCROW'),
    keyring: keyringFolder(ctx),
    workFolder: path.resolve(ctx.cwd, ctx.env['PARTYWALL_WORK'] ?? path.join(stateFolder, 'work')),
    env: ctx.env,
    clock: () => new Date(),
    signal: ctx.signal,
  };
}

function optionalStore(ctx: CommandContext, name: string): string | undefined {
  const url = ctx.env[name];
  return url ? storeUrl(ctx, url) : undefined;
}

/** A path is taken from where the command runs. */
function storeUrl(ctx: CommandContext, url: string): string {
  return URL.canParse(url) ? url : path.resolve(ctx.cwd, url);
}
