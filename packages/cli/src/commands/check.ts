import { type CheckOptions, checkModel, type ModelDifference, PartywallError, parseTableName } from '@partywall/engine';
import type { Command } from 'commander';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { liveCatalog, refuseStranger } from '../database.ts';
import { helpEnding } from './help.ts';

interface CheckFlags {
  readonly expect?: readonly string[];
}

export function registerCheck(program: Command, start: Start): void {
  program
    .command('check')
    .summary('Compare the model with the database.')
    .description(
      'Compare the model with the database: tables it does not know, tables and columns that are not there, lines nobody has decided. ' +
        'With --expect, also what migrations should have made by now: a migration that "succeeded" elsewhere is named.',
    )
    .option('--expect <table...>', 'tables that must be there, with columns where they matter: public.orders:organization_id,state')
    .addHelpText(
      'after',
      helpEnding({ 0: 'they agree (warnings aside)', 1: 'they differ', 2: 'could not run' }, [
        'partywall check',
        'partywall check --json',
        'partywall check --expect public.orders:organization_id',
      ]),
    )
    .action(start<CheckFlags>(check));
}

async function check(ctx: CommandContext, flags: CheckFlags): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const expected = (flags.expect ?? []).map(parseExpected);
  const catalog = await liveCatalog(databaseUrl(ctx), 'check');
  refuseStranger(model, catalog);
  const differences = checkModel(model, catalog, { expected });
  const errors = differences.filter(({ severity }) => severity === 'error').length;
  const counts = `${model.tables.size + 1} tables in the model, ${errors} errors, ${differences.length - errors} warnings`;
  return {
    exit: errors === 0 ? 0 : 1,
    data: { ok: errors === 0, database: catalog.database, tables: model.tables.size + 1, differences },
    text: [...differences.flatMap((difference) => lines(ctx, difference)), `${catalog.database}: ${counts}`].join('\n'),
  };
}

function lines(ctx: CommandContext, { table, message, hint, severity }: ModelDifference): string[] {
  const mark = severity === 'error' ? ctx.style('red', 'error  ') : ctx.style('yellow', 'warning');
  return [`${mark}  ${table} ${message}`, ctx.style('dim', `         → ${hint}`)];
}

function parseExpected(text: string): NonNullable<CheckOptions['expected']>[number] {
  const at = text.lastIndexOf(':');
  const [name, columns] = at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1).split(',')];
  const table = parseTableName(name);
  if (!table) throw new PartywallError('usage', `reading --expect: not a table name: ${JSON.stringify(name)}`);
  return { table, ...(columns && { columns }) };
}
