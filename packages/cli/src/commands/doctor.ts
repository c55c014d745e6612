import {
  adviseIndexes,
  type Catalog,
  connect,
  describeTarget,
  type IndexAdvice,
  missingRights,
  PartywallError,
  readCatalog,
  type TenancyModel,
} from '@partywall/engine';
import type { Command } from 'commander';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import type { Connection } from '../database.ts';
import { appConnectionLine } from '../doctor/app-connection.ts';
import { indexLines } from '../doctor/indexes.ts';
import { fail, type Line, pass, skip } from '../doctor/line.ts';
import { findMigrations, type MigrationFolder, migrationLine } from '../doctor/migrations.ts';
import { schemaLine } from '../doctor/schema.ts';
import { driftLine, phaseLine, privilegesLine, rolesLine } from '../doctor/standing.ts';
import { helpEnding } from './help.ts';

interface DoctorFlags {
  readonly indexes?: true;
}

export function registerDoctor(program: Command, start: Start): void {
  program
    .command('doctor')
    .summary('Check what the other commands depend on.')
    .description('Check what the other commands depend on: the config, the database it points at, privileges, roles, the state of the wall.')
    .option('--indexes', 'also advise on indexes of walled tables: missing, unused, slow queries')
    .addHelpText(
      'after',
      helpEnding({ 0: 'every line passes', 1: 'at least one line fails', 2: 'bad usage' }, [
        'partywall doctor',
        'partywall doctor --indexes',
        'PARTYWALL_APP_URL=postgresql://app@db/crm partywall doctor --json',
      ]),
    )
    .action(start<DoctorFlags>(doctor));
}

async function doctor(ctx: CommandContext, flags: DoctorFlags): Promise<Answer> {
  let advice: IndexAdvice | undefined;
  const lines: Line[] = [pass('node', `Node.js ${process.versions.node}`), pass('directory', ctx.cwd)];
  const config = await attempt('config', lines, () => loadConfig(ctx));
  if (config) lines.push(pass('config', config.file));
  const migrations = await findMigrations(ctx.cwd);
  const url = await attempt('database', lines, async () => databaseUrl(ctx));
  const client = url === undefined ? undefined : await attempt('database', lines, () => connect(url, { purpose: 'doctor' }));
  if (url !== undefined && client) {
    try {
      const catalog = await readCatalog(client);
      const version = `${Math.floor(catalog.serverVersion / 10_000)}.${catalog.serverVersion % 10_000}`;
      lines.push(pass('database', `PostgreSQL ${version}, ${describeTarget(url)}`));
      lines.push(...(await databaseLines({ ctx, client, url }, catalog, config?.model)));
      lines.push(...(await migrationLines(migrations, catalog, client)));
      if (flags.indexes && config) advice = await adviseIndexes(client, config.model);
    } finally {
      await client.end();
    }
  } else {
    lines.push(skip('wall', 'not looked at: the database was not reached'));
    lines.push(...(await migrationLines(migrations, undefined, undefined)));
  }
  return answer(ctx, lines, advice);
}

async function databaseLines(
  { ctx, client, url }: { ctx: CommandContext; client: Connection; url: string },
  catalog: Catalog,
  model: TenancyModel | undefined,
): Promise<Line[]> {
  if (!model) return [privilegesLine(catalog, undefined), phaseLine(catalog)];
  return [
    privilegesLine(catalog, await missingRights(client, catalog, model)),
    rolesLine(catalog, model),
    phaseLine(catalog),
    await schemaLine(url, catalog, model),
    driftLine(catalog, model),
    await appConnectionLine(ctx.env['PARTYWALL_APP_URL'], client, catalog, model),
  ];
}

function migrationLines(folders: readonly MigrationFolder[], catalog: Catalog | undefined, client: Connection | undefined): Promise<Line[]> {
  const query = client && (async (sql: string) => (await client.query<{ mark: string }>(sql)).rows);
  return Promise.all(folders.map((folder) => migrationLine(folder, catalog, query)));
}

/** An expected error becomes a failed line. */
async function attempt<T>(id: string, lines: Line[], work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PartywallError)) throw error;
    lines.push(fail(id, error.message, error.hint));
    return undefined;
  }
}

function answer(ctx: CommandContext, lines: readonly Line[], advice: IndexAdvice | undefined): Answer {
  const failed = lines.filter((line) => line.status === 'fail').length;
  const marks = { pass: ctx.style('green', 'pass'), fail: ctx.style('red', 'FAIL'), skip: ctx.style('dim', 'skip') };
  const width = Math.max(...lines.map((line) => line.id.length));
  const text = lines.flatMap((line) => [
    `${marks[line.status]}  ${line.id.padEnd(width)}  ${line.message}`,
    ...(line.hint === undefined ? [] : [ctx.style('dim', `      ${' '.repeat(width)}  → ${line.hint}`)]),
  ]);
  const passed = lines.filter((line) => line.status === 'pass').length;
  return {
    exit: failed === 0 ? 0 : 1,
    data: { ok: failed === 0, lines, ...(advice && { indexes: advice }) },
    text: [...text, '', `${passed} passed, ${failed} failed, ${lines.length - passed - failed} skipped`, ...(advice ? indexLines(advice) : [])].join('\n'),
  };
}
