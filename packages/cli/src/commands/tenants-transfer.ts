import { createReadStream } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { exportTenant, type ImportReport, importTenant, PartywallError, sqlState } from '@partywall/engine';
import type { Command } from 'commander';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';
import { tenantsCommand } from './tenants.ts';

const defaultFile = 'tenant-export.json';
/** Everything that a tenant has: nobody else on the machine reads it. */
const fileMode = 0o600;

interface ExportFlags {
  readonly output?: string;
  readonly force?: true;
}

interface ImportFlags {
  readonly dryRun?: true;
  readonly yes?: true;
}

/** Adds `export` and `import` to the verbs of tenants. */
export function registerTenantTransfer(program: Command, start: Start): void {
  const tenants = tenantsCommand(program);

  tenants
    .command('export')
    .description('Write everything that a tenant has into a JSON file: one moment, with hashes. The application goes on meanwhile.')
    .argument('<tenant>', 'key of the tenant')
    .option('-o, --output <file>', `the file (default: ${defaultFile})`)
    .option('--force', 'write over a file that is there')
    .addHelpText(
      'after',
      helpEnding({ 0: 'written', 1: 'could not be written to its end; nothing is left behind', 2: 'could not be asked' }, [
        'partywall tenants export 2f1c9a4e-8f0b-4f6e-9a55-0d6a1f7f2b11 -o tenant-export.json',
      ]),
    )
    .action((tenant: string, ...given: unknown[]) => start<ExportFlags>((ctx, flags) => write(ctx, tenant, flags))(...given));

  tenants
    .command('import')
    .description(
      'Make the rows of a tenant those of its export: rows are inserted, updated and deleted where they differ, in one transaction. Nobody enters the ' +
        'tenant meanwhile. Prints the plan and asks first.',
    )
    .argument('<file>', 'what `partywall tenants export` or the API wrote')
    .option('--dry-run', 'only say what would change')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      helpEnding({ 0: 'restored, or planned', 1: 'refused; nothing has changed', 2: 'could not be asked, or is no export' }, [
        'partywall tenants import tenant-export.json --dry-run',
        'partywall tenants import tenant-export.json --yes',
      ]),
    )
    .action((file: string, ...given: unknown[]) => start<ImportFlags>((ctx, flags) => restore(ctx, file, flags))(...given));
}

function write(ctx: CommandContext, tenant: string, flags: ExportFlags): Promise<Answer> {
  const file = path.resolve(ctx.cwd, flags.output ?? defaultFile);
  return withControl(ctx, async (operation) => {
    if (!flags.force && (await exists(file)))
      throw new PartywallError('usage', `writing ${file}: it is there already`, { hint: 'choose another name, or pass --force' });
    const partial = `${file}.${process.pid}.partial`;
    const document = exportTenant(
      operation,
      { tenant },
      { onProgress: ({ table, rows }) => ctx.talk.progress({ label: `exporting ${table}`, done: rows, unit: 'rows' }) },
    );
    let summary: { rows: number; sha256: string } | undefined;
    try {
      const handle = await fs.open(partial, 'wx', fileMode);
      await pipeline(
        Readable.from(
          (async function* () {
            summary = yield* document;
          })(),
        ),
        handle.createWriteStream(),
        { signal: ctx.signal },
      );
      await fs.rename(partial, file);
    } catch (error) {
      await fs.rm(partial, { force: true });
      throw notWritten(error, file);
    }
    const { rows = 0, sha256 = '' } = summary ?? {};
    return { exit: 0, data: { file, tenant, rows, sha256 }, text: `${file}\n  ${rows} rows of tenant ${tenant}, SHA-256 ${sha256}` };
  });
}

function restore(ctx: CommandContext, name: string, flags: ImportFlags): Promise<Answer> {
  const file = path.resolve(ctx.cwd, name);
  return withControl(ctx, async (operation) => {
    if (!(await exists(file))) throw new PartywallError('usage', `reading ${file}: there is no such file`);
    const run = (dryRun: boolean): Promise<ImportReport> =>
      importTenant(
        operation,
        { source: createReadStream(file), dryRun },
        { onProgress: ({ table, rows }) => ctx.talk.progress({ label: `reading ${table}`, done: rows, unit: 'rows' }) },
      );
    if (flags.dryRun || !flags.yes) {
      const plan = await run(true);
      if (flags.dryRun) return { exit: 0, data: plan, text: reportText(plan) };
      ctx.talk.line(reportText(plan));
      await confirmed(ctx, flags, `restore tenant ${plan.tenant} to ${plan.exportedAt}`);
    }
    const report = await run(false);
    return { exit: 0, data: report, text: reportText(report) };
  });
}

function reportText(report: ImportReport): string {
  const changed = report.tables.filter(({ inserted, updated, deleted }) => inserted + updated + deleted > 0);
  const unchanged = report.tables.reduce((sum, table) => sum + table.unchanged, 0);
  const did = report.applied ? 'restored' : 'would restore';
  return [
    `${did} tenant ${report.tenant} to ${report.exportedAt}`,
    ...changed.map(({ table, inserted, updated, deleted }) => `  ${table}: ${inserted} inserted, ${updated} updated, ${deleted} deleted`),
    `  ${unchanged} rows are as they were`,
    ...(report.triggers.length > 0 ? ['triggers of the application that fire:', ...report.triggers.map((trigger) => `  ${trigger}`)] : []),
    ...(report.corrected > 0 ? [`${report.corrected} further changes put right what triggers and cascades had changed`] : []),
    ...(report.applied ? [`its rows hash to what the export states: ${report.sha256}`] : []),
  ].join('\n');
}

async function exists(file: string): Promise<boolean> {
  return fs.access(file).then(
    () => true,
    () => false,
  );
}

function notWritten(error: unknown, file: string): unknown {
  const code = sqlState(error) ?? '';
  return /^E[A-Z]+$/.test(code) && error instanceof Error && 'path' in error
    ? new PartywallError('usage', `writing ${file}: ${error.message}`, { cause: error })
    : error;
}
