import { connect, createSystemDatabase, hasSystemDatabase, installControl, pendingMigrations, systemDatabaseName } from '@partywall/engine';
import type { Command } from 'commander';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { helpEnding } from './help.ts';

interface MigrateFlags {
  readonly dryRun?: true;
}

export function registerMigrate(program: Command, start: Start): void {
  program
    .command('migrate')
    .summary('Install the control plane in the database, or bring it up to date.')
    .description(
      'Install the control plane, or bring it up to date: its own schemas in the walled database, and a database beside it that remembers the steps ' +
        'of long operations. Connects as the role that raised the wall (--url, else DATABASE_URL). Run again, it changes nothing.',
    )
    .option('--dry-run', 'say what is missing, change nothing')
    .addHelpText(
      'after',
      helpEnding({ 0: 'up to date, or planned', 1: 'the database has no wall yet', 2: 'could not run, or another version installed it' }, [
        'partywall migrate --dry-run',
        'partywall migrate',
      ]),
    )
    .action(start<MigrateFlags>(migrate));
}

async function migrate(ctx: CommandContext, flags: MigrateFlags): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const client = await connect(databaseUrl(ctx), { purpose: 'migrate' });
  try {
    const { rows } = await client.query<{ name: string }>('select pg_catalog.current_database() as name');
    const systemDatabase = systemDatabaseName(rows[0]?.name ?? '');
    if (flags.dryRun) {
      const pending = (await pendingMigrations(client)).map(titleOf);
      return answer({ dryRun: true, migrations: pending, systemDatabase: { name: systemDatabase, created: !(await hasSystemDatabase(client)) } });
    }
    const { applied } = await installControl(client, model);
    const created = await createSystemDatabase(client, model.roles.service);
    return answer({ dryRun: false, migrations: applied.map(titleOf), systemDatabase: { name: systemDatabase, created } });
  } finally {
    await client.end();
  }
}

interface Outcome {
  readonly dryRun: boolean;
  readonly migrations: readonly string[];
  readonly systemDatabase: { readonly name: string; readonly created: boolean };
}

function answer(outcome: Outcome): Answer {
  const { dryRun, migrations, systemDatabase } = outcome;
  const done = dryRun ? 'to apply' : 'applied';
  const lines = [
    ...migrations.map((name) => `${done}: ${name}`),
    ...(systemDatabase.created ? [`${dryRun ? 'to create' : 'created'}: database ${systemDatabase.name}`] : []),
  ];
  return { exit: 0, data: outcome, text: lines.length === 0 ? 'the control plane is up to date' : lines.join('\n') };
}

function titleOf({ number, name }: { readonly number: number; readonly name: string }): string {
  return `${String(number).padStart(4, '0')}_${name}`;
}
