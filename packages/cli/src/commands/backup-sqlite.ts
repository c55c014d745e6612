import path from 'node:path';
import { appendAudit, backupSqlite, type Operation, openSqlite, PartywallError, type SqliteBackup, type TenancyModel } from '@partywall/engine';
import { withArchive } from '../archive.ts';
import { loadConfig } from '../config-file.ts';
import type { Answer, CommandContext } from '../context.ts';
import { withControl } from '../control.ts';
import { controlledCatalog } from './restore-sqlite.ts';

export interface SqliteRun {
  readonly file: string;
  readonly reason: string;
  readonly dryRun?: true | undefined;
}

/**
 * Backs up the tenants of a SQLite file. Where there is a control plane, values take the types of its database, which they may be restored into, and the
 * run is in its audit log; none is needed.
 */
export function runSqliteBackup(ctx: CommandContext, run: SqliteRun): Promise<Answer> {
  if (ctx.options.url !== undefined)
    throw new PartywallError('usage', 'reading the command line: --sqlite takes no --url', {
      hint: 'leave --url out; PARTYWALL_SERVICE_URL is for the audit log',
    });
  if (!ctx.env['PARTYWALL_SERVICE_URL']) return loadConfig(ctx).then(({ model }) => backUp(ctx, run, { model, operation: undefined }));
  return withControl(ctx, (operation) => backUp(ctx, run, { model: operation.database.model, operation }));
}

interface Surroundings {
  readonly model: TenancyModel;
  readonly operation: Operation | undefined;
}

function backUp(ctx: CommandContext, { file, reason, dryRun }: SqliteRun, { model, operation }: Surroundings): Promise<Answer> {
  return withArchive(ctx, async (archive) => {
    const clock = (): Date => new Date();
    const opened = await openSqlite(path.resolve(ctx.cwd, file), { model, workFolder: archive.workFolder, clock });
    try {
      const into = operation && (await controlledCatalog(operation));
      const onProgress = ({ step, done, total }: { readonly step: string; readonly done: number; readonly total: number }): void =>
        ctx.talk.progress({ label: step, done, total, unit: 'tenants' });
      const report = await backupSqlite(archive, opened, { reason, clock, into, dryRun, signal: ctx.signal, onProgress });
      if (operation && !report.dryRun) await record(operation, reason, report);
      return { exit: 0, data: report, text: reportText(report, opened.file) };
    } finally {
      await opened.close();
    }
  });
}

function record(operation: Operation, reason: string, { id, rows, tenants, stored }: SqliteBackup): Promise<unknown> {
  const details = { backup: id, engine: 'sqlite', rows, tenants, stored };
  return appendAudit(operation.database.pool, operation, { tenant: null, action: 'backup.run', target: `backup:${id}`, reason, details });
}

function reportText({ id, dryRun, at, base, tenants, unchanged, rows, tables, left, stored }: SqliteBackup, file: string): string {
  const who = `${tenants} tenants of ${file}, ${unchanged} of them unchanged`;
  const changed = tables.filter((table) => table.changed > 0);
  return [
    dryRun ? `would back up ${who}` : `backup ${id}: ${who}`,
    `  ${rows} rows in ${tables.length} tables, as of ${at}`,
    base === null ? '  everything is stored: no earlier backup of this file' : `  compared with backup ${base}`,
    ...changed.map((table) => `  ${table.table}: ${table.rows} rows, changed for ${table.changed}`),
    ...(changed.length < tables.length ? [`  ${tables.length - changed.length} tables without a change`] : []),
    ...left.map((line) => `  not in it: ${line}`),
    ...(stored ? [`  stored ${stored.objects} objects, ${stored.bytes} bytes`] : []),
  ].join('\n');
}
