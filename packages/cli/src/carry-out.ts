import { backupSettings, type Durable, type Operation, openArchive, placementsOf, startDurable, systemDatabaseUrl, worksOf } from '@partywall/engine';
import { archiveSettings, hasArchive } from './archive.ts';
import type { CommandContext } from './context.ts';
import { serviceUrl } from './control.ts';

/**
 * Runs `work` with what carries long operations out. While it runs, this process also goes on with operations of processes that are gone, of whatever
 * kind the environment has the archive and the placements for.
 */
export async function withDurable<Result>(ctx: CommandContext, { database }: Operation, work: (durable: Durable) => Promise<Result>): Promise<Result> {
  const placements = placementsOf(ctx.env);
  const archive = hasArchive(ctx) ? { open: () => openArchive(archiveSettings(ctx)), settings: backupSettings(ctx.env) } : undefined;
  try {
    const durable = await startDurable({ database, systemDatabaseUrl: systemDatabaseUrl(serviceUrl(ctx)), works: worksOf({ archive, placements }) });
    try {
      return await work(durable);
    } finally {
      await durable.stop();
    }
  } finally {
    await placements.close();
  }
}
