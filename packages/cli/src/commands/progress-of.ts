import type { ApplyProgress, WallStep } from '@partywall/engine';
import type { CommandContext } from '../context.ts';

/** Shows what an apply is at: a line for each step, a moving line for a backfill. */
export function showProgress(ctx: Pick<CommandContext, 'talk'>, event: ApplyProgress): void {
  switch (event.kind) {
    case 'planned':
      return;
    case 'step':
      showStep(ctx, event.step, event.at, event.of);
      return;
    case 'backfill':
      ctx.talk.progress({ label: `  filling ${event.step.table ?? ''}`, done: event.done, total: event.total, unit: 'blocks' });
  }
}

export function showStep(ctx: Pick<CommandContext, 'talk'>, step: WallStep, at: number, of: number): void {
  ctx.talk.line(`[${at}/${of}] ${step.table === undefined ? step.title : `${step.table}: ${step.title}`}`);
}
