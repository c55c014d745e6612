import { describeTarget, type RollbackReport, rollbackWall } from '@partywall/engine';
import { type Command, Option } from 'commander';
import { loadConfig } from '../config-file.ts';
import { confirmed } from '../confirm.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { stepData, stepsText } from '../plan-text.ts';
import { helpEnding } from './help.ts';
import { showStep } from './progress-of.ts';

interface RollbackFlags {
  readonly to: 'expanded' | 'nothing';
  readonly dryRun?: true;
  readonly yes?: true;
}

export function registerRollback(program: Command, start: Start): void {
  program
    .command('rollback')
    .summary('Take the wall down in order, and say what stays.')
    .description(
      'Take the wall down in order, and say what stays. Enforcement ends first, then what contract replaced comes back; ' +
        'with --to nothing the columns, keys, triggers and schema partywall go too.',
    )
    .addOption(
      new Option('--to <state>', 'expanded: the state before contract; nothing: as if Partywall had never been there')
        .choices(['expanded', 'nothing'])
        .default('expanded'),
    )
    .option('--dry-run', 'print the steps and what stays, change nothing')
    .option('--yes', 'go on without asking')
    .addHelpText(
      'after',
      helpEnding({ 0: 'the wall is down as far as asked', 1: 'refused: data has come to depend on the wall', 2: 'could not run, or not confirmed' }, [
        'partywall rollback --dry-run',
        'partywall rollback --yes',
        'partywall rollback --to nothing --yes',
      ]),
    )
    .action(start<RollbackFlags>(rollback));
}

async function rollback(ctx: CommandContext, flags: RollbackFlags): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const url = databaseUrl(ctx);
  const { to } = flags;
  const plan = await rollbackWall({ url, model, to, dryRun: true });
  if (flags.dryRun) return dryAnswer(ctx, plan, to);
  if (plan.steps.length > 0) {
    if (!flags.yes) {
      ctx.talk.line(stepsText(plan.steps, { style: ctx.talk.style }));
      for (const line of plan.stays) ctx.talk.line(`-- stays: ${line}`);
    }
    await confirmed(ctx, flags, `take the wall of ${describeTarget(url)} down in ${plan.steps.length} steps`);
  }
  const report = await rollbackWall({ url, model, to, signal: ctx.signal, onProgress: (step, at, of) => showStep(ctx, step, at, of) });
  const done = report.applied.length === 0 ? 'rollback: nothing to do' : `rollback: ${report.applied.length} steps applied`;
  return {
    exit: 0,
    data: { to, dryRun: false, applied: report.applied, stays: report.stays },
    text: [done, ...report.stays.map((line) => `  stays: ${line}`)].join('\n'),
  };
}

function dryAnswer(ctx: CommandContext, plan: RollbackReport, to: RollbackFlags['to']): Answer {
  const steps = plan.steps.length === 0 ? '-- rollback: nothing to do' : stepsText(plan.steps, ctx);
  return {
    exit: 0,
    data: { to, dryRun: true, steps: plan.steps.map(stepData), stays: plan.stays },
    text: [steps, '', ...plan.stays.map((line) => `-- stays: ${line}`)].join('\n'),
  };
}
