import fs from 'node:fs/promises';
import path from 'node:path';
import {
  type DrillInput,
  type DrillPreview,
  type DrillReport,
  type DrillSelection,
  drillBackup,
  drillDue,
  drillMarkdown,
  drillSteps,
  type OpenArchive,
  openEscrowedArchive,
  PartywallError,
  previewDrill,
  stepTitles,
} from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { archiveSettings, withArchive } from '../archive.ts';
import { type Answer, type CommandContext, connectionString, type Start } from '../context.ts';
import { withControl } from '../control.ts';
import { keyringSettings } from '../keys-settings.ts';
import { backupCommand } from './backup-verb.ts';
import { helpEnding } from './help.ts';

interface DrillFlags {
  readonly dryRun?: true;
  readonly tenant?: readonly string[];
  readonly sample?: number;
  readonly all?: true;
  readonly due?: true;
  readonly from?: string;
  readonly into?: string;
  readonly appUrl?: string;
  readonly escrow?: true;
  readonly seed?: string;
  readonly report?: string;
  readonly keep?: true;
}

const sampleMax = 10_000;

export function registerBackupDrill(program: Command, start: Start): void {
  backupCommand(program)
    .command('drill')
    .summary('Restore a backup into a scratch database, and prove that it can be.')
    .description(
      'Restore a backup into a scratch database to see whether it can be: schema, rows of some tenants, keys. Compares every row with the backup, probes each sequence, attacks ' +
        'the wall, asks the smoke queries of the model, and measures the time against the tier. The scratch database is made on a server that the drill starts, or beside the ' +
        'database that --into names, and dropped in any case. The production database gets the report, and is only read otherwise.',
    )
    .option('--dry-run', 'only say what would be restored, and where')
    .addOption(new Option('--tenant <tenant...>', 'these tenants').conflicts(['sample', 'all', 'due']))
    .addOption(
      new Option('--sample <n>', 'so many tenants: one of each tier first, who waited longest first (default: 4)').argParser(count).conflicts(['all', 'due']),
    )
    .addOption(new Option('--all', 'every tenant').conflicts('due'))
    .option('--due', 'tenants whose tier says that it is time; nobody may be')
    .option('--from <backup>', 'the backup: its id, latest, or a time (2026-11-21T02:00:00Z: the last one before)')
    .option('--into <url>', 'a database of a staging server, as a superuser (default: STAGING_DATABASE_URL)')
    .option('--app-url <url>', 'the application’s connection string on that server, where its role is there already (default: STAGING_APP_URL)')
    .option('--escrow', 'with the keys of escrow alone, as after the loss of the keyring')
    .option('--seed <text>', 'chooses among tenants who waited equally long')
    .option('--report <file>', 'write the report as Markdown')
    .option('--keep', 'leave the scratch database there until the next drill')
    .addHelpText(
      'after',
      helpEnding({ 0: 'passed, planned, or nobody is due', 1: 'failed or refused; the report says why', 2: 'could not be asked' }, [
        'partywall backup drill --dry-run',
        'partywall backup drill --all --report drill.md',
        'STAGING_DATABASE_URL=postgresql://postgres@staging/postgres partywall backup drill',
        'partywall backup drill --escrow --sample 10 --json',
      ]),
    )
    .action(start<DrillFlags>(drill));
}

function drill(ctx: CommandContext, flags: DrillFlags): Promise<Answer> {
  const staging = { into: given(ctx, flags.into, '--into', 'STAGING_DATABASE_URL'), appUrl: given(ctx, flags.appUrl, '--app-url', 'STAGING_APP_URL') };
  return withControl(ctx, (operation) =>
    withDrilledArchive(ctx, flags, async (archive) => {
      const selection = selected(flags, operation.database.clock());
      const input: DrillInput = {
        ...staging,
        from: flags.from,
        seed: flags.seed,
        keep: flags.keep,
        keysFrom: flags.escrow ? 'escrow' : 'keyring',
        ...selection,
      };
      if (flags.dryRun) {
        const plan = await previewDrill(operation, archive, input);
        return { exit: 0, data: { dryRun: true, ...plan }, text: planText(plan) };
      }
      const onStep = ({ step }: { readonly step: (typeof drillSteps)[number] }): void =>
        ctx.talk.progress({ label: stepTitles[step], done: drillSteps.indexOf(step), total: drillSteps.length, unit: 'steps' });
      const report = flags.due ? await drillDue(operation, archive, input, { onStep }) : await drillBackup(operation, archive, input, { onStep });
      if (!report) return { exit: 0, data: { due: false }, text: 'nobody is due' };
      if (flags.report !== undefined) await fs.writeFile(path.resolve(ctx.cwd, flags.report), `${drillMarkdown(report)}\n`);
      return { exit: report.outcome === 'passed' ? 0 : 1, data: report, text: reportText(ctx, report) };
    }),
  );
}

function selected({ tenant, sample, all, due }: DrillFlags, now: Date): { readonly selection?: DrillSelection } {
  if (tenant) return { selection: { kind: 'tenants', tenants: tenant } };
  if (sample !== undefined) return { selection: { kind: 'sample', count: sample } };
  if (all) return { selection: { kind: 'all' } };
  return due ? { selection: { kind: 'due', now } } : {};
}

async function withDrilledArchive<Result>(ctx: CommandContext, { escrow }: DrillFlags, work: (archive: OpenArchive) => Promise<Result>): Promise<Result> {
  if (!escrow) {
    return withArchive(ctx, work).catch((error: unknown) => {
      if (!(error instanceof PartywallError) || error.code !== 'keyring_refused') throw error;
      throw new PartywallError(error.code, error.message, { cause: error, hint: 'where the keyring is lost, drill with the copy alone: pass --escrow' });
    });
  }
  const archive = await openEscrowedArchive({ ...archiveSettings(ctx), kek: keyringSettings(ctx).kek });
  try {
    return await work(archive);
  } finally {
    await archive.close();
  }
}

function given(ctx: CommandContext, flag: string | undefined, option: string, variable: string): string | undefined {
  const url = flag ?? ctx.env[variable];
  return url ? connectionString(url, flag === undefined ? variable : option) : undefined;
}

function planText({ backup, at, target, seed, tenants, leftOut, smokeQueries }: DrillPreview): string {
  return [
    `would restore backup ${backup} of ${at} into ${target}`,
    ...tenants.map(({ tenant, rows, why }) => `  ${tenant}: ${rows} rows; ${why}`),
    `${tenants.length} of ${tenants.length + leftOut} tenants, seed ${seed}, ${smokeQueries} smoke queries`,
  ].join('\n');
}

function reportText(ctx: CommandContext, report: DrillReport): string {
  const { outcome, backup, at, target, visited, held, rows, readySeconds, seed, notes, kept } = report;
  return [
    ...report.steps.flatMap(({ step, outcome: ended, seconds, said, problems }) => [
      `${ctx.style(ended === 'passed' ? 'green' : ended === 'failed' ? 'red' : 'yellow', ended.padEnd(7))}  ${stepTitles[step]}, ${seconds} s${said === '' ? '' : `: ${said}`}`,
      ...problems.map((problem) => `  ${problem.replaceAll(/\p{C}+/gu, ' ')}`),
    ]),
    ...notes.map((note) => `  not proved: ${note}`),
    `${ctx.style(outcome === 'passed' ? 'green' : 'red', outcome)}: backup ${backup} of ${at}, ${visited} of ${held} tenants, ${rows} rows, seed ${seed}, into ${target}`,
    ...(readySeconds === null ? [] : [`usable after ${readySeconds} s; all of it at this rate: ${report.projectedSeconds?.toFixed(0)} s`]),
    ...(kept === null ? [] : [`the scratch database stays until the next drill: ${kept}`]),
  ].join('\n');
}

function count(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < 1 || number > sampleMax) throw new InvalidArgumentError(`a number from 1 to ${sampleMax}`);
  return number;
}
