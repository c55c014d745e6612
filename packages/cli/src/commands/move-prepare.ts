import { PartywallError, type PrepareReport, parseTableName, placementsOf, preparePlacement } from '@partywall/engine';
import type { Command } from 'commander';
import { type Answer, type CommandContext, connectionString, type Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';

interface PrepareFlags {
  readonly into: string;
  readonly also?: readonly string[];
  readonly dryRun?: true;
}

export function registerMovePrepare(move: Command, start: Start): void {
  move
    .command('prepare')
    .description(
      'Make an empty database ready for tenants that move there: schema, wall and control plane of this one, rows of shared tables, plans and rules. No tenant comes along. ' +
        'Refuses a database that holds anything but the same schema; what an interruption cuts off goes on when it is run again.',
    )
    .argument('<placement>', 'name of the placement')
    .requiredOption('--into <url>', 'connection string of its database, as a superuser')
    .option('--also <table...>', "more tables whose rows come along: the one that notes the application's migrations")
    .option('--dry-run', 'only say what would be made')
    .addHelpText(
      'after',
      helpEnding({ 0: 'ready, or planned', 1: 'refused, or the wall has findings there', 2: 'could not be asked' }, [
        'createdb --host db2 acme',
        'partywall move prepare acme --into postgresql://postgres@db2/acme --dry-run',
        'partywall move prepare acme --into postgresql://postgres@db2/acme --also public.schema_migrations',
      ]),
    )
    .action((placement: string, ...given: unknown[]) => start<PrepareFlags>((ctx, flags) => prepare(ctx, placement, flags))(...given));
}

function prepare(ctx: CommandContext, placement: string, { into, also = [], dryRun }: PrepareFlags): Promise<Answer> {
  const url = connectionString(into, '--into');
  const tables = also.map((text) => {
    const table = parseTableName(text);
    if (!table) throw new PartywallError('usage', `reading --also: ${JSON.stringify(text)} is no table; write it as public.name`);
    return table;
  });
  return withControl(ctx, async (operation) => {
    const report = await preparePlacement(
      operation,
      { into: url, also: tables, dryRun },
      { signal: ctx.signal, onProgress: ({ step, done, of }) => ctx.talk.progress({ label: step, done, total: of, unit: 'steps' }) },
    );
    const missing = report.applied ? await missingConnection(ctx, placement) : null;
    return {
      exit: (report.findings ?? []).length > 0 ? 1 : 0,
      data: { placement, ...report, missing },
      text: prepareText(placement, report, missing),
    };
  });
}

/** What is left to do before anybody can move: the service role's way in is in the operators' environment. */
async function missingConnection(ctx: CommandContext, placement: string): Promise<string | null> {
  const placements = placementsOf(ctx.env);
  try {
    await placements.open(placement);
    return null;
  } catch (error) {
    if (!(error instanceof PartywallError)) throw error;
    return `${error.message}; ${error.hint}`;
  } finally {
    await placements.close();
  }
}

function prepareText(placement: string, report: PrepareReport, missing: string | null): string {
  const { target, found, applied, statements, tables, roles, notes, findings } = report;
  const before = { empty: 'it was empty', begun: 'it held the beginning of a preparation', same: 'it had the schema' }[found];
  return [
    `${applied ? 'prepared' : 'would prepare'} placement ${placement} in ${target}: ${before}`,
    ...(found === 'same' ? [] : [`  ${statements} statements of the schema`]),
    ...tables.filter(({ rows }) => rows > 0).map(({ table, rows }) => `  ${table}: ${rows} rows`),
    ...roles.map(({ name, login }) => `  made role ${name}${login ? '; give it a password and LOGIN before anybody connects' : ''}`),
    ...notes.map((note) => `  not in it: ${note}`),
    ...(findings === null ? [] : [`  the wall: ${findings.length === 0 ? 'sound by its static rules' : `${findings.length} findings`}`]),
    ...(findings ?? []).map((line) => `    ${line}`),
    ...(missing === null ? [] : [`  left to do: ${missing}`]),
  ].join('\n');
}
