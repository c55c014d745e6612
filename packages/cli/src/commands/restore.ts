import {
  awaitOperation,
  backupSource,
  beginRestore,
  type FinishedRestore,
  type ForgottenRow,
  findBackup,
  holdsTenant,
  type LongOperation,
  type OpenArchive,
  type Operation,
  openBackup,
  PartywallError,
  parseTableName,
  planRestore,
  type RestoreFilesReport,
  type RestoreInput,
  type RestorePlan,
  type RestoreRequest,
  readRestore,
  restoreFiles,
  restoreFromArchive,
  undoReason,
} from '@partywall/engine';
import { type Command, Option } from 'commander';
import { withArchive } from '../archive.ts';
import { withDurable } from '../carry-out.ts';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';
import { type FileFlags, writeForCustomer } from './restore-file.ts';
import { restoreSqlite } from './restore-sqlite.ts';

interface RestoreFlags extends FileFlags {
  readonly from?: string;
  readonly fromSqlite?: string;
  readonly undo?: string;
  readonly dryRun?: true;
  readonly yes?: true;
  readonly prove?: 'counters' | 'hash';
  readonly tables?: readonly string[];
  readonly leave?: readonly string[];
  readonly rename?: readonly string[];
  readonly forget?: readonly string[];
  readonly reason?: string;
  readonly classes?: readonly string[];
  readonly deleteFiles?: true;
}

const progressMs = 250;

export function registerRestore(program: Command, start: Start): void {
  program
    .command('restore')
    .summary('Restore one tenant from a backup, into the live database or into a file.')
    .description(
      'Make the rows of one tenant those of a backup: backs up what is there, lets nobody in, applies the difference in one transaction, and proves that no other ' +
        "tenant's row changed. Prints the plan and asks first. What an interruption cuts off goes on when it is run again. With --to-file it changes nothing and writes " +
        'the tenant into one file, encrypted to its customer.',
    )
    .argument('[tenant]', 'key of the tenant')
    .option('--from <backup>', 'the backup: its id, latest, or a time (2026-11-21T02:00:00Z: the last one before)')
    .option('--from-sqlite <file>', 'instead of a backup: a SQLite file that holds the tenant')
    .option('--undo <restore>', 'instead of a backup: what was there before this restore')
    .option('--dry-run', 'only say what would change')
    .option('--yes', 'do not ask')
    .addOption(new Option('--prove <how>', 'hash: also compare what every other tenant has, before and after').choices(['counters', 'hash']))
    .option('--tables <names>', 'only these tables, separated by commas', list)
    .option('--leave <names>', 'tables that stay as they are, and columns of the backup that nothing takes', list)
    .option('--rename <columns>', 'columns that have another name since: public.t.old=new', list)
    .option('--forget <rows>', 'rows that were erased since and must not come back: public.users:id=7', list)
    .option('--classes <names>', 'what is restored: database, or database,files; files needs a backup that has them (default: database)', list)
    .option('--delete-files', 'with files, also remove those that the backup does not have')
    .option('--reason <text>', 'why, for the operation')
    .option('--to-file <file>', 'write the tenant into this file, and change nothing')
    .option('--recipient <keys>', 'with --to-file, public keys of age that can open it', list)
    .option('--plain', 'with --to-file, not encrypted')
    .option('--force', 'with --to-file, write over a file that is there')
    .addHelpText(
      'after',
      helpEnding({ 0: 'restored, planned or written', 1: 'refused, or conflicts; nothing has changed', 2: 'not confirmed, or could not be asked' }, [
        'partywall restore <tenant> --from latest --dry-run',
        'partywall restore <tenant> --from 2026-11-21T02:00:00Z --yes',
        'partywall restore --undo <restore>',
        'partywall restore <tenant> --from latest --to-file out.age --recipient age1...',
      ]),
    )
    .action((tenant: string | undefined, ...given: unknown[]) => start<RestoreFlags>((ctx, flags) => run(ctx, tenant, flags))(...given));
}

function run(ctx: CommandContext, tenant: string | undefined, flags: RestoreFlags): Promise<Answer> {
  if (flags.toFile !== undefined) return toFile(ctx, tenant, flags);
  if (flags.fromSqlite !== undefined) return fromSqlite(ctx, tenant, flags.fromSqlite, flags);
  return withControl(ctx, (operation) =>
    withArchive(ctx, async (archive) => {
      const request = await requested(operation, archive, tenant, flags);
      const source = await restoreFromArchive(archive).source(operation, request);
      const onProgress = ({ table, rows }: { table: string; rows: number }) => ctx.talk.progress({ label: `reading ${table}`, done: rows, unit: 'rows' });
      const plan = await planRestore(operation, source, request, { onProgress });
      const { tenant: restored, backup, files: choice } = request;
      const files = choice ? await restoreFiles(operation, archive, { tenant: restored, backup, delete: choice === 'delete', dryRun: true }) : null;
      const text = [planText(plan), ...filesText(files)].join('\n');
      if (flags.dryRun) return { exit: plan.conflicts.length > 0 ? 1 : 0, data: { dryRun: true, ...plan, files }, text };
      ctx.talk.line(text);
      if (plan.conflicts.length > 0)
        throw new PartywallError('restore_conflict', `restoring tenant ${request.tenant}: ${plan.conflicts[0]}`, { details: plan.conflicts });
      await confirmed(ctx, flags, `restore tenant ${request.tenant} to ${plan.at}`);
      return finished(await carryOut(ctx, operation, request));
    }),
  );
}

function fromSqlite(ctx: CommandContext, tenant: string | undefined, file: string, flags: RestoreFlags): Promise<Answer> {
  if (tenant === undefined || flags.from !== undefined || flags.undo !== undefined)
    throw new PartywallError('usage', 'reading the command line: --from-sqlite takes a tenant, and neither --from nor --undo');
  return restoreSqlite(ctx, { tenant, file, input: inputOf(flags), flags, text: planText });
}

/** @throws PartywallError usage */
function filesChoice({ classes = ['database'], deleteFiles }: RestoreFlags): RestoreRequest['files'] {
  const known = classes.every((name) => name === 'database' || name === 'files');
  if (!known || !classes.includes('database')) throw new PartywallError('usage', 'reading --classes: it is database, or database,files');
  if (classes.includes('files')) return deleteFiles ? 'delete' : 'keep';
  if (deleteFiles) throw new PartywallError('usage', 'reading the command line: --delete-files goes with --classes database,files');
  return undefined;
}

function inputOf({ prove, tables, leave, rename, forget }: RestoreFlags): RestoreInput {
  return {
    ...(prove && { prove }),
    ...(tables && { tables }),
    ...(leave && { leave }),
    ...(rename && { rename: Object.fromEntries(rename.map(pair)) }),
    ...(forget && { forget: forget.map(forgotten) }),
  };
}

async function requested(operation: Operation, archive: OpenArchive, tenant: string | undefined, flags: RestoreFlags): Promise<RestoreRequest> {
  const { from, undo, reason } = flags;
  if ((from === undefined) === (undo === undefined) || (undo === undefined && tenant === undefined))
    throw new PartywallError('usage', 'reading the command line: a restore takes a tenant and --from, or --undo with the restore to take back');
  const files = filesChoice(flags);
  const choices = { ...inputOf(flags), ...(reason !== undefined && { reason }), ...(files && { files }) };
  if (undo !== undefined) {
    const done = await readRestore(operation, undo);
    if (tenant !== undefined && tenant !== done.tenant)
      throw new PartywallError('usage', `reading the command line: restore ${undo} was of tenant ${done.tenant}, not of ${tenant}`);
    return { ...choices, tenant: done.tenant, backup: done.undo };
  }
  const key = tenant ?? '';
  const holds = holdsTenant(archive, key);
  // What an earlier restore put aside is not what anybody means by the latest backup.
  const found = await findBackup(archive, from ?? '', (backup) => holds(backup) && backup.manifest.reason !== undoReason);
  return { ...choices, tenant: key, backup: found.manifest.id };
}

async function carryOut(ctx: CommandContext, operation: Operation, request: RestoreRequest): Promise<FinishedRestore> {
  return withDurable(ctx, operation, async (durable) => {
    const { id } = await beginRestore(operation, durable, request);
    const ended = await watch(ctx, operation, id);
    if (ended.state === 'failed')
      throw new PartywallError('restore_refused', ended.error ?? 'the restore failed', { hint: 'nothing has changed, and the tenant is let in' });
    return readRestore(operation, id);
  });
}

async function watch(ctx: CommandContext, operation: Operation, id: string): Promise<LongOperation> {
  let said = '';
  for (;;) {
    ctx.signal.throwIfAborted();
    const now = await awaitOperation(operation, id, { timeoutMs: progressMs });
    if (now.step !== said) ctx.talk.line(now.step);
    said = now.step;
    if (now.state !== 'running') return now;
  }
}

async function toFile(ctx: CommandContext, tenant: string | undefined, flags: RestoreFlags): Promise<Answer> {
  const { from } = flags;
  if (tenant === undefined || from === undefined) throw new PartywallError('usage', 'reading the command line: --to-file takes a tenant and --from');
  return withArchive(ctx, async (archive) => {
    const found = await findBackup(archive, from, holdsTenant(archive, tenant));
    return writeForCustomer(ctx, await backupSource(archive, await openBackup(archive, found.manifest.id), tenant), flags);
  });
}

function planText({ tenant, source, at, tables, notes, triggers, conflicts, forgotten }: RestorePlan): string {
  const changed = tables.filter(({ inserted, updated, deleted }) => inserted + updated + deleted > 0);
  const unchanged = tables.reduce((sum, table) => sum + table.unchanged, 0);
  return [
    `tenant ${tenant} would become what it was at ${at}, from ${source}`,
    ...changed.map(({ table, inserted, updated, deleted }) => `  ${table}: ${inserted} inserted, ${updated} updated, ${deleted} deleted`),
    `  ${unchanged} rows stay as they are`,
    ...(forgotten > 0 ? [`  ${forgotten} rows were erased since and stay away`] : []),
    ...notes.map((note) => `  ${note}`),
    ...(triggers.length > 0 ? ['triggers of the application that fire, with partywall.restoring on:', ...triggers.map((trigger) => `  ${trigger}`)] : []),
    ...(conflicts.length > 0 ? ['conflicts, which stop it:', ...conflicts.map((conflict) => `  ${conflict}`)] : []),
  ].join('\n');
}

function finished(done: FinishedRestore): Answer {
  const { id, tenant, backup, undo, report, files, elapsedMs, rtoSeconds } = done;
  const { proof } = report;
  const count = (kind: 'inserted' | 'updated' | 'deleted'): number => report.tables.reduce((sum, table) => sum + table[kind], 0);
  const promised = rtoSeconds === null ? 'its tier promises no time' : `its tier promises ${rtoSeconds / 60} min`;
  return {
    exit: 0,
    data: done,
    text: [
      `restored tenant ${tenant} to ${report.at} from backup ${backup}: ${count('inserted')} rows inserted, ${count('updated')} updated, ${count('deleted')} deleted`,
      `  its rows are those of the backup; no other row of ${proof.tables} tables changed, by the counters of the transaction`,
      ...(proof.neighbours ? [`  and by the hashes of ${proof.neighbours.tenants} other tenants in ${proof.neighbours.tables} tables`] : []),
      ...(report.corrected > 0 ? [`  ${report.corrected} further changes put right what triggers and cascades had changed`] : []),
      ...filesText(files),
      `  took ${(elapsedMs / 1000).toFixed(1)} s; ${promised}`,
      `  what was there is in backup ${undo}: partywall restore --undo ${id}`,
    ].join('\n'),
  };
}

function filesText(files: RestoreFilesReport | null): string[] {
  return (files?.places ?? []).map(
    ({ place, added, replaced, deleted, unchanged, extra }) =>
      `  files ${place}: ${added} added, ${replaced} replaced, ${deleted} deleted, ${unchanged} unchanged${extra > 0 ? `, ${extra} not in the backup and left alone` : ''}`,
  );
}

function list(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), ...text.split(',').filter((part) => part !== '')];
}

function pair(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at <= 0) throw new PartywallError('usage', `reading ${JSON.stringify(text)}: a column that was renamed is public.t.old=new`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function forgotten(text: string): ForgottenRow {
  const [, name = '', column = '', value = ''] = /^([^:]+):([^=]+)=(.*)$/s.exec(text) ?? [];
  const table = parseTableName(name);
  if (!table || column === '') throw new PartywallError('usage', `reading ${JSON.stringify(text)}: a row that was erased is public.users:id=7`);
  return { table, key: { [column]: value } };
}
