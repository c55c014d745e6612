import type pg from 'pg';
import { PartywallError } from '../errors.ts';
import { type FactsInput, type RolloutFacts, readRolloutFacts } from './gates.ts';
import { judgeRollout, type RolloutJudgement } from './judge.ts';
import { knowsStages, type Stage } from './stages.ts';
import type { Thresholds } from './thresholds.ts';

export interface RolloutCheck extends RolloutJudgement {
  /** Percentage that is enforced: 0 observe, 100 enforce. */
  readonly stage: number;
  readonly stageSince: Date | null;
  readonly since: Date;
  readonly now: Date;
  readonly thresholds: Thresholds;
  /** Stages that it went through, latest first; the gates’ own steps say why. */
  readonly stages: readonly Stage[];
}

const stagesShown = 20;

/**
 * Reads the facts of the roll-out and judges them. Changes nothing.
 *
 * @throws PartywallError phase_refused where the wall is older than gates
 */
export async function checkRollout(client: pg.ClientBase, input: FactsInput): Promise<RolloutCheck> {
  return (await checkWithFacts(client, input)).check;
}

/** The same with what it was judged by. */
export async function checkWithFacts(client: pg.ClientBase, input: FactsInput): Promise<{ readonly check: RolloutCheck; readonly facts: RolloutFacts }> {
  if (!(await knowsStages(client))) {
    throw new PartywallError('phase_refused', 'judging the roll-out: the wall of this database is older than its gates', {
      hint: 'run `partywall apply` again: it brings schema partywall up to date',
    });
  }
  const { facts, thresholds } = await readRolloutFacts(client, input);
  const { stage, stageSince, since, now, stages } = facts;
  return { facts, check: { ...judgeRollout(facts, thresholds), stage, stageSince, since, now, thresholds, stages: stages.slice(0, stagesShown) } };
}
