import {
  type Allowance,
  allowances,
  type BackupCheck,
  type BackupProgress,
  type BackupReport,
  backupIds,
  type DataClass,
  dataClasses,
  findBackup,
  openBackup,
  PartywallError,
  runBackup,
  verifyBackup,
} from '@partywall/engine';
import { type Command, Option } from 'commander';
import { withArchive } from '../archive.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { runSqliteBackup } from './backup-sqlite.ts';
import { backupCommand } from './backup-verb.ts';
import { helpEnding } from './help.ts';

interface RunFlags {
  readonly tenant?: readonly string[];
  readonly class?: readonly DataClass[];
  readonly reason: string;
  readonly allow?: readonly Allowance[];
  readonly sqlite?: string;
  readonly dryRun?: true;
}

interface ListFlags {
  readonly limit: string;
}

interface VerifyFlags {
  readonly readData?: true;
}

const listMax = 1_000;

/** Adds `run`, `list`, `show` and `verify` to the verbs of backups. */
export function registerBackup(program: Command, start: Start): void {
  const backup = backupCommand(program);

  backup
    .command('run')
    .description(
      'Back up one moment of the database, encrypted, every tenant apart. What did not change since the last backup is not read or stored again. The application goes on ' +
        'meanwhile. A run that fails leaves nothing that counts; run it again.',
    )
    .option('--tenant <tenant...>', 'only these tenants')
    .addOption(new Option('--class <class...>', 'only these data classes').choices([...dataClasses]))
    .option('--reason <text>', 'why, for the manifest and the audit log', 'by hand')
    .addOption(new Option('--allow <what...>', 'leave this out where it is found, instead of refusing').choices([...allowances]))
    .option('--sqlite <file>', 'instead of the database: every tenant of a SQLite file')
    .option('--dry-run', 'only say what would be read, and why')
    .addHelpText(
      'after',
      helpEnding({ 0: 'stored, or planned', 1: 'refused; nothing counts', 2: 'could not be asked or stored; nothing counts' }, [
        'partywall backup run',
        'partywall backup run --dry-run',
        'partywall backup run --tenant 2f1c9a4e-8f0b-4f6e-9a55-0d6a1f7f2b11 --reason "before the migration"',
        'partywall backup run --sqlite data/admin.db',
      ]),
    )
    .action(start<RunFlags>(run));

  backup
    .command('list')
    .description('Backups that are there, newest first.')
    .option('--limit <n>', `at most so many (up to ${listMax})`, '20')
    .addHelpText('after', helpEnding({ 0: 'listed', 2: 'could not be asked' }, ['partywall backup list --json']))
    .action(start<ListFlags>((ctx, flags) => list(ctx, flags)));

  backup
    .command('show')
    .description('What a backup holds: its moment, its tables with their rows, how many tenants, what was left out.')
    .argument('<backup>', 'its id, `latest`, or a time: the last one that is not later')
    .addHelpText('after', helpEnding({ 0: 'shown', 1: 'damaged', 2: 'there is none, or it could not be asked' }, ['partywall backup show latest']))
    .action((named: string, ...given: unknown[]) => start<object>((ctx) => show(ctx, named))(...given));

  backup
    .command('verify')
    .description(
      'Check a backup: signature, chain, every page, every pack by its size. With --read-data every byte is read and decrypted, and every row counted. All damage is listed.',
    )
    .argument('[backup]', 'its id, `latest`, or a time', 'latest')
    .option('--read-data', 'read and decrypt everything')
    .addHelpText(
      'after',
      helpEnding({ 0: 'whole', 1: 'damaged; the list says what', 2: 'there is none, or it could not be read' }, ['partywall backup verify --read-data']),
    )
    .action((named: string, ...given: unknown[]) => start<VerifyFlags>((ctx, flags) => check(ctx, named, flags))(...given));
}

function run(ctx: CommandContext, { tenant, class: classes, reason, allow, sqlite, dryRun }: RunFlags): Promise<Answer> {
  if (sqlite !== undefined) {
    if (tenant || classes || allow) throw new PartywallError('usage', 'reading the command line: --sqlite takes neither --tenant nor --class nor --allow');
    return runSqliteBackup(ctx, { file: sqlite, reason, dryRun });
  }
  return withArchive(ctx, (archive) =>
    withControl(ctx, async (operation) => {
      const onProgress = ({ step, done, total }: BackupProgress): void => ctx.talk.progress({ label: labels[step], done, total, unit: units[step] });
      const report = await runBackup(operation, archive, { reason, tenants: tenant, classes, allow, dryRun }, { onProgress });
      return { exit: 0, data: report, text: reportText(report) };
    }),
  );
}

const labels = { comparing: 'looking for changes', reading: 'reading', storing: 'storing' } as const;
const units = { comparing: 'ranges', reading: 'bytes', storing: 'tenants' } as const;

function reportText(report: BackupReport): string {
  const read = report.tables.filter(({ reading }) => reading !== 'nothing');
  const unread = report.tables.length - read.length;
  const who = report.scope === 'all' ? `${report.tenants} tenants, ${report.unchanged} of them unchanged` : `${report.tenants} tenants by name`;
  const { stored } = report;
  return [
    report.dryRun ? `would back up ${who}` : `backup ${report.id}: ${who}`,
    `  ${report.rows} rows in ${report.tables.length} tables, as of ${report.at}`,
    report.base === null ? '  everything is read: no earlier backup of this database to compare with' : `  compared with backup ${report.base}`,
    ...read.map(({ table, reading, changed }) => `  ${table}: ${reading === 'whole' ? 'read whole' : 'read by tenant'}, changed for ${changed}`),
    ...(unread > 0 ? [`  ${unread} tables without a change`] : []),
    ...report.left.map((line) => `  not in it: ${line}`),
    ...(stored ? [`  stored ${stored.objects} objects, ${stored.bytes} bytes`] : []),
  ].join('\n');
}

function list(ctx: CommandContext, flags: ListFlags): Promise<Answer> {
  const limit = Number(flags.limit);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > listMax) throw new PartywallError('usage', `reading --limit: not a number from 1 to ${listMax}`);
  return withArchive(ctx, async (archive) => {
    const ids = (await backupIds(archive)).reverse();
    const items = [];
    for (const id of ids.slice(0, limit)) {
      const { manifest, subjects } = await openBackup(archive, id);
      const rows = [...subjects.values()].reduce((sum, subject) => sum + subject.rows, 0);
      items.push({ id, at: manifest.at, scope: manifest.scope, classes: manifest.classes, reason: manifest.reason, subjects: subjects.size, rows });
    }
    const text = items.map(({ id, at, scope, reason, subjects, rows }) => `${id}  ${at}  ${scope.padEnd(7)}  ${subjects} subjects  ${rows} rows  ${reason}`);
    return { exit: 0, data: { items, total: ids.length }, text: text.length > 0 ? text.join('\n') : 'no backups' };
  });
}

function show(ctx: CommandContext, named: string): Promise<Answer> {
  return withArchive(ctx, async (archive) => {
    const { manifest, sha256, subjects } = await findBackup(archive, named);
    const { subjects: _subjects, ...data } = manifest;
    const held = [...subjects.values()];
    const packs = held.flatMap((subject) => subject.packs);
    const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
    const sizes = {
      subjects: held.length,
      rows: sum(held.map(({ rows }) => rows)),
      plainBytes: sum(held.map(({ bytes }) => bytes)),
      packs: packs.length,
      packBytes: sum(packs.map(({ bytes }) => bytes)),
    };
    const text = [
      `backup ${manifest.id} of ${manifest.at}: ${manifest.reason}`,
      `  ${manifest.scope === 'all' ? 'all tenants' : 'some tenants'}, ${manifest.classes.join(', ')}; ${sourceText(manifest.source)}`,
      `  ${sizes.subjects} subjects, ${sizes.rows} rows, ${sizes.plainBytes} bytes; ${sizes.packs} packs of ${sizes.packBytes} bytes`,
      `  manifest ${sha256}, after ${manifest.previous?.id ?? 'none'}`,
      ...manifest.tables.filter(({ rows }) => rows > 0).map(({ name, rows, class: dataClass }) => `  ${name}: ${rows} rows (${dataClass})`),
      ...manifest.left.map((line) => `  not in it: ${line}`),
    ];
    return { exit: 0, data: { ...data, sha256, ...sizes }, text: text.join('\n') };
  });
}

function sourceText({ engine, version, lsn }: { readonly engine: string; readonly version: string; readonly lsn: string }): string {
  return engine === 'sqlite' ? `a SQLite file, read by SQLite ${version}` : `PostgreSQL ${version}, log position ${lsn}`;
}

function check(ctx: CommandContext, named: string, { readData }: VerifyFlags): Promise<Answer> {
  return withArchive(ctx, async (archive) => {
    // An id is not opened here: what is wrong with its manifest belongs on the list.
    const id = named === 'latest' ? (await backupIds(archive)).at(-1) : named.includes('z-') ? named : (await findBackup(archive, named)).manifest.id;
    if (id === undefined) throw new PartywallError('backup_unknown', 'looking for the latest backup: there is none');
    const onProgress = ({ done, total }: { readonly done: number; readonly total: number }): void =>
      ctx.talk.progress({ label: readData ? 'reading' : 'looking', done, total, unit: 'packs' });
    const found = await verifyBackup(archive, id, { readData, onProgress, signal: ctx.signal });
    return { exit: found.whole ? 0 : 1, data: found, text: checkText(ctx, found) };
  });
}

function checkText(ctx: CommandContext, found: BackupCheck): string {
  const how = found.readData ? 'every byte read' : 'sizes and pages; --read-data reads every byte';
  const erased = found.sealed > 0 ? `, ${found.sealed} of them erased` : '';
  return [
    ...found.damage.map((line) => `${ctx.style('red', 'damaged')}  ${line}`),
    `backup ${found.id} ${found.whole ? ctx.style('green', 'is whole') : ctx.style('red', 'is damaged')} (${how})`,
    `  ${found.subjects} subjects${erased}, ${found.packs} packs, ${found.segments} segments, ${found.rows} rows, ${found.bytes} bytes`,
  ].join('\n');
}
