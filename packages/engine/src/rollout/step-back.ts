import type pg from 'pg';
import type { Operation } from '../db/operation.ts';
import type { TenancyModel } from '../model/model.ts';
import { checkWithFacts, type RolloutCheck } from './check.ts';
import type { RolloutFacts } from './gates.ts';
import type { Gate } from './judge.ts';
import type { RolloutChange } from './plan-change.ts';
import { changeRollout, type SetModeReport } from './set-mode.ts';
import { knowsStages, stageBefore } from './stages.ts';

/** What the gates do about what they found. `to` is a percentage; 0 observes all. */
export type StepDecision =
  | { readonly kind: 'step'; readonly from: number; readonly to: number; readonly reason: string }
  | { readonly kind: 'stay'; readonly reason: string };

export interface GuardReport {
  readonly check: RolloutCheck;
  readonly decision: StepDecision;
  /** What became of a step; undefined where none was taken. */
  readonly change: SetModeReport | undefined;
}

const minuteMs = 60_000;
const hourMs = 3_600_000;
const reasonMax = 500;

/** One at a time: two that judge the same breach would take two steps. */
const tryLockSql = "select pg_try_advisory_lock(hashtextextended('partywall:rollout-gates', 0)) as locked";
const unlockSql = "select pg_advisory_unlock(hashtextextended('partywall:rollout-gates', 0))";

/**
 * Decides whether a breach takes a step back: pure. It never steps forward, takes one step in `step_minutes`, and none once everything has been
 * enforced for `watch_hours`, or where no roll-out was ever begun: a wall that stands is not to be taken down by whoever can cause errors.
 */
export function decideStepBack(
  check: Pick<RolloutCheck, 'gates' | 'thresholds'>,
  facts: Pick<RolloutFacts, 'stage' | 'stageSince' | 'stages' | 'modes' | 'now'>,
): StepDecision {
  const { thresholds } = check;
  const { stage, stageSince, stages, modes, now } = facts;
  const breached = check.gates.filter(({ verdict, stepsBack }) => verdict === 'breach' && stepsBack);
  if (breached.length === 0) return { kind: 'stay', reason: 'no gate that steps back is breached' };
  if (thresholds.step_back === 0) return { kind: 'stay', reason: 'threshold step_back is 0: a breach only alerts' };
  if (stage === 0 && !modes.some(({ scope, mode }) => scope === 'tenant' && mode === 'enforce')) return { kind: 'stay', reason: 'nothing is enforced' };
  if (stage === 100 && !stages.some(({ percent }) => percent < 100)) return { kind: 'stay', reason: 'no roll-out was begun' };
  if (stage === 100 && stageSince && now.getTime() - stageSince.getTime() >= thresholds.watch_hours * hourMs) {
    return { kind: 'stay', reason: `all is enforced for ${thresholds.watch_hours} h or more: the roll-out is over` };
  }
  const last = stages.find(({ automatic }) => automatic);
  if (last && now.getTime() - last.at.getTime() < thresholds.step_minutes * minuteMs) {
    return { kind: 'stay', reason: `the last step was taken ${last.at.toISOString()}: one in ${thresholds.step_minutes} min` };
  }
  return { kind: 'step', from: stage, to: stageBefore(stage, stages), reason: breached.map(breachText).join('; ').slice(0, reasonMax) };
}

/** One line for people. */
export function breachText({ name, value, bound, unit, reason }: Gate): string {
  return `${name} ${value} ${unit} (bound ${bound}): ${reason}`;
}

/**
 * Judges the roll-out and takes a step back where a gate is breached: recorded as a stage and in the audit log with the gates’ values. Whoever calls it at
 * the same time, from a server or a terminal, is told to stay.
 *
 * @param client of the service role; its session is the caller's alone
 * @throws PartywallError phase_refused (an older wall), and what `changeRollout` throws
 */
export async function guardRollout(
  client: pg.ClientBase,
  { model, now, signal }: { readonly model: TenancyModel; readonly now: Date; readonly signal?: AbortSignal | undefined },
): Promise<GuardReport> {
  const { rows } = await client.query<{ locked: boolean }>(tryLockSql);
  try {
    const { check, facts } = await checkWithFacts(client, { now });
    const decision: StepDecision = rows[0]?.locked ? decideStepBack(check, facts) : { kind: 'stay', reason: 'somebody else is judging' };
    if (decision.kind === 'stay') return { check, decision, change: undefined };
    const { from, to, reason } = decision;
    const change = await changeRollout(
      client,
      {
        model,
        change: stepTo(to),
        actor: { kind: 'system', id: 'rollout' },
        reason: `gates: ${reason}`,
        judged: { stage: from, at: now, gates: check.gates.map(({ name, verdict, value, bound }) => ({ name, verdict, value, bound })) },
      },
      signal && { signal },
    );
    return { check, decision, change };
  } finally {
    if (rows[0]?.locked) await client.query(unlockSql);
  }
}

/** The same on the control plane, as its schedule does it; undefined where the wall is older than gates. */
export async function superviseRollout({ database, signal }: Operation): Promise<GuardReport | undefined> {
  const client = await database.pool.connect();
  let broken: Error | undefined;
  try {
    if (!(await knowsStages(client))) return undefined;
    return await guardRollout(client, { model: database.model, now: database.clock(), signal });
  } catch (error) {
    // The session may still hold the lock.
    broken = error instanceof Error ? error : new Error(String(error));
    throw error;
  } finally {
    client.release(broken);
  }
}

function stepTo(percent: number): RolloutChange {
  return percent === 0 ? { scope: 'all', mode: 'observe' } : { scope: 'percent', percent };
}
