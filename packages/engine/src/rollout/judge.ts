import { latencyBucketsMs } from '@partywall/wall';
import { notReady, type RolloutFacts } from './gates.ts';
import { observes } from './state.ts';
import type { ModeTraffic } from './status.ts';
import { type ThresholdName, type Thresholds, thresholdRules } from './thresholds.ts';

export const gateNames = [
  'error_rate',
  'added_p99',
  'p99',
  'context_errors',
  'observed_refusals',
  'cross_tenant_attempts',
  'connections',
] as const satisfies readonly ThresholdName[];
export type GateName = (typeof gateNames)[number];

/**
 * - `green`: measured, and within its bound;
 * - `breach`: measured, and over it;
 * - `not_enough`: too little was measured to tell, which is never green;
 * - `idle`: says nothing at this stage: nothing is enforced yet, or nothing observed any more.
 */
export type Verdict = 'green' | 'breach' | 'not_enough' | 'idle';

export interface Gate {
  readonly name: GateName;
  readonly verdict: Verdict;
  /** Null where nothing could be measured. */
  readonly value: number | null;
  readonly bound: number;
  readonly unit: string;
  readonly reason: string;
  /** Whether its breach takes a step back. What anybody outside can cause alerts alone: an attack must not open the wall. */
  readonly stepsBack: boolean;
}

export interface RolloutJudgement {
  /** A breach goes before all else, and too little data before green. */
  readonly verdict: 'green' | 'breach' | 'not_enough';
  readonly gates: readonly Gate[];
}

/** Answers that the wall or an operator means to give, in every mode: no errors of the roll-out, and for anybody to cause. */
const meant = ['cross_tenant', 'unknown_tenant', 'tenant_suspended', 'tenant_cancelled', 'tenant_read_only', 'quota_exceeded'];
const hourMs = 3_600_000;

/** Judges a roll-out by its facts: pure. */
export function judgeRollout(facts: RolloutFacts, thresholds: Thresholds): RolloutJudgement {
  const enforcing = facts.stage > 0 || facts.modes.some(({ scope, mode }) => scope === 'tenant' && mode === 'enforce');
  const observing = observes(facts.modes);
  const about: About = { facts, thresholds, ...baselineOf(facts, thresholds.min_queries) };
  const gates = [
    ...(enforcing
      ? [errorRate(about), addedLatency(about), latency(about), contextErrors(about)]
      : (['error_rate', 'added_p99', 'p99', 'context_errors'] as const).map((name) => idle(name, thresholds, 'nothing is enforced yet'))),
    observing ? observedRefusals(about) : idle('observed_refusals', thresholds, 'nothing is observed'),
    attempts(about),
    connections(about),
  ];
  const has = (verdict: Verdict): boolean => gates.some((gate) => gate.verdict === verdict);
  return { verdict: has('breach') ? 'breach' : has('not_enough') ? 'not_enough' : 'green', gates };
}

interface About {
  readonly facts: RolloutFacts;
  readonly thresholds: Thresholds;
  readonly baseline: ModeTraffic;
  readonly when: string;
}

/** What enforced statements are compared with: those observed at the same time, else those of the days before. */
function baselineOf({ observed, observedBefore }: RolloutFacts, enough: number): Pick<About, 'baseline' | 'when'> {
  return observed.queries >= enough ? { baseline: observed, when: 'at the same time' } : { baseline: observedBefore, when: 'in the last days' };
}

function errorRate({ facts, thresholds, baseline, when }: About): Gate {
  const name = 'error_rate';
  const few = tooFew(name, thresholds, [facts.enforced, baseline]);
  if (few) return few;
  const own = failedShare(facts.enforced, facts);
  // What was meant to be refused while observing is known for the window alone; the days before are compared with all that failed.
  const other = failedShare(baseline, facts);
  const added = rounded(Math.max(0, own - other));
  return judged(name, thresholds, { value: added, reason: `${rounded(own)} of 100 enforced statements failed, ${rounded(other)} of those observed ${when}` });
}

function failedShare({ mode, queries, errors }: ModeTraffic, { refusals }: RolloutFacts): number {
  const refused = sum(refusals.filter((row) => row.mode === mode && meant.includes(row.kind)).map(({ count }) => count));
  return (Math.max(0, errors - refused) * 100) / queries;
}

function addedLatency({ facts, thresholds, baseline, when }: About): Gate {
  const name = 'added_p99';
  const few = tooFew(name, thresholds, [facts.enforced, baseline]);
  if (few) return few;
  const [own, other] = [percentile(facts.enforced.buckets, 0.99), percentile(baseline.buckets, 0.99)];
  const value = rounded(Math.max(0, own.value - other.value));
  const [least, most] = [own.from - other.to, own.to - other.from];
  const bound = thresholds[name];
  const reason = `P99 ${rounded(own.value)} ms enforced, ${rounded(other.value)} ms observed ${when}`;
  // The buckets of long times are wide: a difference of one of them may be nothing.
  if (value >= bound && least < bound && most - least > 2 * bound) {
    return gate(name, thresholds, {
      verdict: 'not_enough',
      value,
      reason: `${reason}: too coarse, added are ${rounded(Math.max(0, least))} to ${rounded(most)} ms`,
    });
  }
  return gate(name, thresholds, { verdict: value >= bound ? 'breach' : 'green', value, reason });
}

function latency({ facts, thresholds, baseline, when }: About): Gate {
  const name = 'p99';
  const few = tooFew(name, thresholds, [facts.enforced]);
  if (few) return few;
  const value = rounded(percentile(facts.enforced.buckets, 0.99).value);
  const slowBefore = baseline.queries >= thresholds.min_queries && percentile(baseline.buckets, 0.99).value > thresholds.p99;
  const found = judged(name, thresholds, { value, reason: `of ${facts.enforced.queries} enforced statements` });
  // Where statements are as slow without the wall, taking it down helps nobody.
  return slowBefore ? { ...found, stepsBack: false, reason: `${found.reason}, and as slow observed ${when}` } : found;
}

function contextErrors({ facts, thresholds }: About): Gate {
  const name = 'context_errors';
  const count = sum(facts.refusals.filter(({ mode, kind }) => mode === 'enforce' && notReady.includes(kind)).map((row) => row.count));
  const value = rounded(hourly(count, facts));
  if (value > thresholds[name]) return judged(name, thresholds, { value, reason: `${count} refused; \`partywall rollout status\` names the places` });
  return tooFew(name, thresholds, [facts.enforced], value) ?? judged(name, thresholds, { value, reason: `${count} refused` });
}

function observedRefusals({ facts, thresholds }: About): Gate {
  const name = 'observed_refusals';
  const count = sum(facts.refusals.filter(({ mode, kind }) => mode === 'observe' && !meant.includes(kind)).map((row) => row.count));
  const value = rounded(hourly(count, facts));
  if (value > thresholds[name]) return judged(name, thresholds, { value, reason: `${count} would be refused; \`partywall rollout status\` names the places` });
  return tooFew(name, thresholds, [facts.observed], value) ?? judged(name, thresholds, { value, reason: `${count} would be refused` });
}

function attempts({ facts, thresholds }: About): Gate {
  const name = 'cross_tenant_attempts';
  const refused = sum(facts.refusals.filter(({ mode, kind }) => mode === 'enforce' && kind === 'cross_tenant').map(({ count }) => count));
  // A refused write may be recorded by a middleware too.
  const value = Math.max(facts.attempts ?? 0, refused);
  const reason = `${facts.attempts ?? 'no'} recorded, ${refused} refused by the wall`;
  if (value > thresholds[name]) return judged(name, thresholds, { value, reason: `${reason}; \`partywall attempts list\` names sources` });
  if (facts.attempts === undefined)
    return gate(name, thresholds, { verdict: 'not_enough', value: null, reason: 'not measured: the wall is older than the records of attempts' });
  const all = { ...facts.enforced, queries: facts.enforced.queries + facts.observed.queries };
  return tooFew(name, thresholds, [all], value) ?? judged(name, thresholds, { value, reason });
}

function connections({ facts, thresholds }: About): Gate {
  const { used, max } = facts.connections;
  const reason = `${used} of ${max} now; time in statements by mode is not measured`;
  return judged('connections', thresholds, { value: rounded((used * 100) / max), reason });
}

function tooFew(name: GateName, thresholds: Thresholds, traffic: readonly ModeTraffic[], value: number | null = null): Gate | undefined {
  const few = traffic.find(({ queries }) => queries < thresholds.min_queries);
  if (!few) return undefined;
  const which = few.mode === 'enforce' ? 'enforced' : 'observed';
  return gate(name, thresholds, { verdict: 'not_enough', value, reason: `not enough: ${few.queries} of ${thresholds.min_queries} ${which} statements` });
}

function judged(name: GateName, thresholds: Thresholds, { value, reason }: { readonly value: number; readonly reason: string }): Gate {
  return gate(name, thresholds, { verdict: value > thresholds[name] ? 'breach' : 'green', value, reason });
}

function idle(name: GateName, thresholds: Thresholds, reason: string): Gate {
  return gate(name, thresholds, { verdict: 'idle', value: null, reason });
}

const steppingBack: ReadonlySet<GateName> = new Set(['error_rate', 'added_p99', 'p99', 'context_errors']);

function gate(name: GateName, thresholds: Thresholds, found: Pick<Gate, 'verdict' | 'value' | 'reason'>): Gate {
  return { name, ...found, bound: thresholds[name], unit: thresholdRules[name].unit, stepsBack: steppingBack.has(name) };
}

/** Within less than an hour a count is what it is: eleven errors in five minutes are more than ten an hour. */
function hourly(count: number, { since, now }: RolloutFacts): number {
  return count / Math.max(1, (now.getTime() - since.getTime()) / hourMs);
}

/** Between the bounds of the bucket that the share of all statements ends in; the last one has no upper bound, and counts as its lower. */
export function percentile(buckets: readonly number[], share: number): { readonly value: number; readonly from: number; readonly to: number } {
  const wanted = sum(buckets) * share;
  let passed = 0;
  for (const [at, count] of buckets.entries()) {
    if (count > 0 && passed + count >= wanted) {
      const from = latencyBucketsMs[at - 1] ?? 0;
      const to = latencyBucketsMs[at] ?? from;
      return { value: from + ((to - from) * Math.max(0, wanted - passed)) / count, from, to };
    }
    passed += count;
  }
  return { value: 0, from: 0, to: 0 };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
