import { stepSql, type WallPlan, type WallStep } from '@partywall/engine';
import type { CommandContext } from './context.ts';

const phases = ['expand', 'switch', 'contract'] as const;

const locks: Readonly<Record<WallStep['lock'], string>> = {
  none: 'no lock',
  brief: 'locks the table for an instant, with retries',
  online: 'long, beside readers and writers',
};

/** A plan as SQL that can be read, with the reason of each step; what `diff` and every dry run print. */
export function planText(plan: WallPlan, ctx: Pick<CommandContext, 'style'>): string {
  const lines: string[] = [];
  for (const blocker of plan.blockers) lines.push(ctx.style('red', `-- blocked: ${blocker.table}: ${blocker.message}`));
  for (const phase of phases) {
    const steps = plan.steps.filter((step) => step.phase === phase);
    if (steps.length === 0) continue;
    lines.push('', ctx.style('bold', `-- ${phase}: ${steps.length} ${steps.length === 1 ? 'step' : 'steps'}`));
    lines.push('', stepsText(steps, ctx));
  }
  if (plan.residuals.length > 0) lines.push('', '-- what stays open when all is done:');
  for (const residual of plan.residuals) lines.push(`--   ${residual.table}: ${residual.message}`);
  return lines.join('\n').replace(/^\n/, '');
}

/** Steps in the order they are carried out. */
export function stepsText(steps: readonly WallStep[], ctx: Pick<CommandContext, 'style'>): string {
  return steps.map((step) => stepText(step, ctx).join('\n')).join('\n\n');
}

export interface StepData {
  readonly id: string;
  readonly phase: WallStep['phase'];
  readonly table: string | null;
  readonly title: string;
  readonly reason: string;
  readonly lock: WallStep['lock'];
  readonly sql: readonly string[];
}

/** The same plan for --json. */
export function planData(plan: WallPlan): { blockers: WallPlan['blockers']; steps: readonly StepData[]; residuals: WallPlan['residuals'] } {
  return {
    blockers: plan.blockers,
    steps: plan.steps.map(stepData),
    residuals: plan.residuals,
  };
}

export function stepData(step: WallStep): StepData {
  const { id, phase, table, title, reason, lock } = step;
  return { id, phase, table: table ?? null, title, reason, lock, sql: stepSql(step) };
}

/** The part of a plan that belongs to one phase. */
export function onlyPhase(plan: WallPlan, phase: WallStep['phase']): WallPlan {
  return { ...plan, steps: plan.steps.filter((step) => step.phase === phase) };
}

/** `3 expand, the switch, 5 contract` */
export function planSummary(plan: WallPlan): string {
  const parts = phases.flatMap((phase) => {
    const count = plan.steps.filter((step) => step.phase === phase).length;
    if (count === 0) return [];
    return phase === 'switch' ? ['the switch'] : [`${count} ${phase}`];
  });
  return parts.length === 0 ? 'nothing to do' : parts.join(', ');
}

function stepText(step: WallStep, ctx: Pick<CommandContext, 'style'>): string[] {
  const what = step.table === undefined ? step.title : `${step.table}: ${step.title}`;
  return [
    ctx.style('cyan', `-- ${what}`),
    ctx.style('dim', `--   because ${step.reason}`),
    ...(step.lock === 'none' ? [] : [ctx.style('dim', `--   ${locks[step.lock]}`)]),
    ...stepSql(step).map((statement) => (/;\s*$/.test(statement) ? statement : `${statement};`)),
  ];
}
