import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { measureBackup } from './archive/backup.ts';
import { generate } from './archive/database.ts';
import { measureRestore } from './archive/restore.ts';
import type { BenchContext } from './harness.ts';
import type { BenchResult } from './report.ts';

export const about = 'backups and restores of 1,000 tenants and 5 million rows beside pg_dump, on PostgreSQL 15';
/** What Debian has: its pg_dump is what a user would otherwise run. */
export const major = 15;

export async function run(context: BenchContext): Promise<BenchResult> {
  const url = await context.createDatabase('archive');
  context.say('generating the database');
  const database = await generate(url, context.quick ? { tenants: 100, scale: 0.02 } : { tenants: 1_000, scale: 1 });
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-bench-archive-'));
  try {
    const restored = await measureRestore(context, database, folder);
    const backedUp = await measureBackup(context, database, folder);
    return {
      checks: [...backedUp.checks, ...restored.checks],
      figures: [...(backedUp.figures ?? []), ...(restored.figures ?? [])],
      series: { ...backedUp.series, ...restored.series },
    };
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
}
