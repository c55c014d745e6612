import { planWall } from '@partywall/engine';
import { type Command, Option } from 'commander';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { modelledCatalog } from '../database.ts';
import { onlyPhase, planData, planSummary, planText } from '../plan-text.ts';
import { helpEnding } from './help.ts';

interface DiffOptions {
  readonly phase?: 'expand' | 'switch' | 'contract';
}

export function registerDiff(program: Command, start: Start): void {
  program
    .command('diff')
    .summary('Show the SQL between the live database and the wall.')
    .description('Show the SQL between the live database and the wall that the model asks for, phase by phase. Changes nothing.')
    .addOption(new Option('--phase <phase>', 'only this phase').choices(['expand', 'switch', 'contract']))
    .addHelpText(
      'after',
      helpEnding({ 0: 'no steps remain', 1: 'steps remain, or something blocks them', 2: 'could not run' }, [
        'partywall diff',
        'partywall diff --phase contract',
        "partywall diff --json | jq '.steps[].title'",
      ]),
    )
    .action(start<DiffOptions>(diff));
}

async function diff(ctx: CommandContext, options: DiffOptions): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const catalog = await modelledCatalog(databaseUrl(ctx), model, 'diff');
  const whole = planWall(model, catalog);
  const plan = options.phase === undefined ? whole : onlyPhase(whole, options.phase);
  const open = plan.steps.length > 0 || plan.blockers.length > 0;
  ctx.talk.line(`${catalog.database}: ${plan.blockers.length > 0 ? `${plan.blockers.length} blockers` : planSummary(plan)}`);
  return { exit: open ? 1 : 0, data: { database: catalog.database, ...planData(plan) }, text: planText(plan, ctx) };
}
