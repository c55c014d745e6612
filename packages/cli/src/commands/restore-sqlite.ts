import path from 'node:path';
import {
  allowances,
  type Catalog,
  type Operation,
  openSqlite,
  planRestore,
  type RestoreInput,
  type RestorePlan,
  type RestoreReport,
  readCatalog,
  restoreFrom,
  runBackup,
  sqliteSource,
  type TenantSource,
  undoReason,
  unownedRows,
  unownedText,
} from '@partywall/engine';
import { withArchive } from '../archive.ts';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext } from '../context.ts';
import { withControl } from '../control.ts';
import { stateFolder } from '../embedded.ts';

export interface SqliteRestore {
  readonly tenant: string;
  readonly file: string;
  readonly input: RestoreInput;
  readonly flags: { readonly dryRun?: true; readonly yes?: true };
  /** The plan in words. */
  readonly text: (plan: RestorePlan) => string;
}

/**
 * Makes the rows of a tenant those of a SQLite file. An interruption leaves the tenant as it was or as it should be; unlike a restore of a backup it is
 * asked for again rather than gone on with, because the file is nobody's but this command's.
 */
export function restoreSqlite(ctx: CommandContext, restore: SqliteRestore): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const { model, clock } = operation.database;
    const workFolder = path.resolve(ctx.cwd, ctx.env['PARTYWALL_WORK'] ?? path.join(stateFolder, 'work'));
    const file = await openSqlite(path.resolve(ctx.cwd, restore.file), { model, workFolder, clock });
    try {
      for (const line of unownedText(unownedRows(file))) ctx.talk.line(`left out: ${line}`);
      return await carryOut(ctx, operation, sqliteSource(file, restore.tenant, { into: await controlledCatalog(operation) }), restore);
    } finally {
      await file.close();
    }
  });
}

async function carryOut(ctx: CommandContext, operation: Operation, source: TenantSource, { input, flags, text }: SqliteRestore): Promise<Answer> {
  const onProgress = ({ table, rows }: { table: string; rows: number }) => ctx.talk.progress({ label: `reading ${table}`, done: rows, unit: 'rows' });
  const plan = await planRestore(operation, source, input, { onProgress });
  if (flags.dryRun) return { exit: plan.conflicts.length > 0 ? 1 : 0, data: { dryRun: true, ...plan }, text: text(plan) };
  ctx.talk.line(text(plan));
  await confirmed(ctx, flags, `restore tenant ${source.tenant} to ${plan.at}`);
  return withArchive(ctx, async (archive) => {
    const undo = async (tenant: string): Promise<string> =>
      (await runBackup(operation, archive, { reason: undoReason, tenants: [tenant], allow: allowances })).id;
    const report = await restoreFrom(operation, source, { ...input, undo }, { onProgress });
    return { exit: 0, data: report, text: reportText(report) };
  });
}

/** What the catalogs of the database under the control plane say. */
export async function controlledCatalog({ database }: Operation): Promise<Catalog> {
  const client = await database.pool.connect();
  try {
    return await readCatalog(client);
  } finally {
    client.release();
  }
}

function reportText({ tenant, source, tables, undo }: RestoreReport & { readonly undo: string }): string {
  const count = (kind: 'inserted' | 'updated' | 'deleted'): number => tables.reduce((sum, table) => sum + table[kind], 0);
  return [
    `restored tenant ${tenant} from ${source}`,
    `  ${count('inserted')} rows inserted, ${count('updated')} updated, ${count('deleted')} deleted; no other tenant's row changed`,
    `  as it was before: partywall restore ${tenant} --from ${undo}`,
  ].join('\n');
}
