import {
  backupSource,
  type CloneReport,
  cloneTenant,
  copyFiles,
  type FilesChange,
  type FirstAdmin,
  findBackup,
  holdsTenant,
  liveSource,
  type Operation,
  PartywallError,
  restoreFiles,
  type TenantSource,
} from '@partywall/engine';
import type { Command } from 'commander';
import { withArchive } from '../archive.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { passwordOf, passwordVariable } from './admin.ts';
import { helpEnding } from './help.ts';
import { printable } from './tenants.ts';

interface CloneFlags {
  readonly name: string;
  readonly from: string;
  readonly plan?: string;
  readonly contactEmail?: string;
  readonly adminEmail?: string;
  readonly adminName?: string;
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
    .option('--admin-email <address>', `first admin of the new tenant; their password is ${passwordVariable}, else generated and printed once`)
    .option('--admin-name <name>', 'what the admin is called (default: the address)')
    .option('--dry-run', 'only say how each column is filled, and what a person should look at')
    .addHelpText(
      'after',
      helpEnding({ 0: 'cloned, planned, or there already', 1: 'refused: undecided columns, or something in the way', 2: 'could not be asked' }, [
        "partywall clone <tenant> --name 'New Company' --dry-run",
        "partywall clone <tenant> --name 'New Company'",
        "partywall clone <tenant> --name 'Before The Accident' --from latest",
        "partywall clone <tenant> --name 'New Company' --admin-email ann@example.com",
      ]),
    )
    .action((tenant: string, ...given: unknown[]) => start<CloneFlags>((ctx, flags) => clone(ctx, tenant, flags))(...given));
}

function clone(ctx: CommandContext, tenant: string, flags: CloneFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    if (flags.from === 'live') {
      const source = await liveSource(operation, tenant);
      const copied = await copy(ctx, operation, source, flags).finally(() => source.close());
      return withFiles(copied, operation, (into) => copyFiles(operation, { from: tenant, into }, { env: ctx.env }));
    }
    return withArchive(ctx, async (archive) => {
      const backup = await findBackup(archive, flags.from, holdsTenant(archive, tenant));
      const copied = await copy(ctx, operation, await backupSource(archive, backup, tenant), flags);
      if (!backup.manifest.classes.includes('files')) return copied.answer;
      const { id } = backup.manifest;
      return withFiles(copied, operation, async (into) => (await restoreFiles(operation, archive, { tenant, backup: id, into: { tenant: into } })).places);
    });
  });
}

interface Copied {
  /** Null where it is only planned. */
  readonly tenant: string | null;
  readonly answer: Answer;
}

/** The clone's files, where the model says that tenants have some. A run that is cut off here is finished by the same command. */
async function withFiles(
  { tenant, answer }: Copied,
  { database: { model } }: Operation,
  work: (into: string) => Promise<readonly FilesChange[]>,
): Promise<Answer> {
  if (tenant === null || model.archive.files.size === 0) return answer;
  const files = await work(tenant);
  const lines = files.map(({ place, added, replaced, unchanged }) => `  files ${place}: ${added + replaced} copied, ${unchanged} there already`);
  return { ...answer, data: { ...(typeof answer.data === 'object' && answer.data), files }, text: [answer.text, ...lines].join('\n') };
}

async function copy(ctx: CommandContext, operation: Operation, source: TenantSource, flags: CloneFlags): Promise<Copied> {
  const { name, plan, contactEmail, dryRun } = flags;
  const first = await firstAdmin(ctx, flags);
  const report = await cloneTenant(
    operation,
    source,
    { name, plan, contactEmail, dryRun, admin: first?.admin },
    { onProgress: ({ step, table, rows }) => ctx.talk.progress({ label: `${step} ${table}`, done: rows, unit: 'rows' }) },
  );
  const password = first?.generated();
  const answer: Answer = {
    exit: 0,
    data: { dryRun: dryRun ?? false, ...report, ...(password !== undefined && { password }) },
    text: [reportText(report, name), ...(password === undefined ? [] : [`password of ${flags.adminEmail}, shown this once: ${password}`])].join('\n'),
  };
  return { tenant: report.tenant, answer };
}

/** Who can sign in already keeps their password; then none is shown. */
async function firstAdmin(
  ctx: CommandContext,
  { adminEmail, adminName }: CloneFlags,
): Promise<{ admin: FirstAdmin; generated(): string | undefined } | undefined> {
  if (adminEmail === undefined) {
    if (adminName !== undefined) throw new PartywallError('usage', 'reading the command line: --admin-name goes with --admin-email');
    return undefined;
  }
  if (!/^[^\s@\0]+@[^\s@\0]+$/.test(adminEmail)) {
    throw new PartywallError('input_invalid', `reading --admin-email: ${JSON.stringify(adminEmail)} is no e-mail address`);
  }
  const { hashPassword, passwordLength } = await import('@partywall/server');
  const generate = !ctx.env[passwordVariable];
  const password = passwordOf(ctx, generate ? { generate } : {}, passwordLength);
  let used = false;
  return {
    admin: {
      adminEmail,
      adminName: adminName ?? adminEmail,
      hashPassword: () => {
        used = true;
        return hashPassword(password);
      },
    },
    generated: () => (generate && used ? password : undefined),
  };
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
