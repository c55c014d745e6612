import { backupSource, type CloneReport, cloneTenant, findBackup, holdsTenant, liveSource, type Operation, type TenantSource } from '@partywall/engine';
import type { Command } from 'commander';
import { withArchive } from '../archive.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';
import { printable } from './tenants.ts';

interface CloneFlags {
  readonly name: string;
  readonly from: string;
  readonly plan?: string;
  readonly contactEmail?: string;
  readonly dryRun?: true;
}

export function registerClone(program: Command, start: Start): void {
  program
    .command('clone')
    .summary('Make a new tenant with the rows of another: new ids, references that follow.')
    .description(
      'Make a new tenant with the rows of another, as it is now or as a backup has it. Every row gets a new id where ids are shared by all tenants, and references follow; ' +
        'what may be there once is filled as `clone` of the config says. One transaction, which proves that all came and that no other tenant was touched. ' +
        'Asked for again it finds the clone that is there.',
    )
    .argument('<tenant>', 'key of the tenant that is copied')
    .requiredOption('--name <name>', 'name of the new tenant')
    .option('--from <backup>', 'live, a backup, latest, or a time (2026-11-21T02:00:00Z: the last backup before)', 'live')
    .option('--plan <name>', "plan of the new tenant (default: the source's)")
    .option('--contact-email <address>', "contact of the new tenant (default: the source's)")
    .option('--dry-run', 'only say how each column is filled, and what a person should look at')
    .addHelpText(
      'after',
      helpEnding({ 0: 'cloned, planned, or there already', 1: 'refused: undecided columns, or something in the way', 2: 'could not be asked' }, [
        "partywall clone <tenant> --name 'New Company' --dry-run",
        "partywall clone <tenant> --name 'New Company'",
        "partywall clone <tenant> --name 'Before The Accident' --from latest",
      ]),
    )
    .action((tenant: string, ...given: unknown[]) => start<CloneFlags>((ctx, flags) => clone(ctx, tenant, flags))(...given));
}

function clone(ctx: CommandContext, tenant: string, flags: CloneFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    if (flags.from === 'live') {
      const source = await liveSource(operation, tenant);
      return copy(ctx, operation, source, flags).finally(() => source.close());
    }
    return withArchive(ctx, async (archive) => {
      const backup = await findBackup(archive, flags.from, holdsTenant(archive, tenant));
      return copy(ctx, operation, await backupSource(archive, backup, tenant), flags);
    });
  });
}

async function copy(ctx: CommandContext, operation: Operation, source: TenantSource, { name, plan, contactEmail, dryRun }: CloneFlags): Promise<Answer> {
  const report = await cloneTenant(
    operation,
    source,
    { name, plan, contactEmail, dryRun },
    { onProgress: ({ step, table, rows }) => ctx.talk.progress({ label: `${step} ${table}`, done: rows, unit: 'rows' }) },
  );
  return { exit: 0, data: { dryRun: dryRun ?? false, ...report }, text: reportText(report, name) };
}

function reportText({ source, from, tenant, created, tables, notes, triggers }: CloneReport, name: string): string {
  const title =
    tenant === null
      ? `would clone tenant ${source}`
      : created
        ? `cloned tenant ${source} into ${printable(name)} (${tenant})`
        : `${printable(name)} (${tenant}) is there already`;
  const list = (heading: string, lines: readonly string[]): string[] => (lines.length === 0 ? [] : [heading, ...lines.map((line) => `  ${printable(line)}`)]);
  return [
    `${title}, from ${from}`,
    ...tables.flatMap(({ table, rows, filled }) => [`  ${table}: ${rows} rows`, ...filled.map(({ column, how }) => `    ${column}: ${how}`)]),
    ...list('look at these:', notes),
    ...list('triggers of the application that fire:', triggers),
  ].join('\n');
}
