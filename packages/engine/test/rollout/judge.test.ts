import { latencyBucketsMs } from '@partywall/wall';
import { describe, expect, test } from 'vitest';
import { decideStepBack, judgeRollout, type RolloutFacts, stageBefore, type ThresholdName, defaultThresholds as thresholds } from '../../src/index.ts';

const now = new Date('2027-01-31T12:00:00Z');
const ago = (minutes: number) => new Date(now.getTime() - minutes * 60_000);
/** So many statements of one mode, of which one in fifty took `slow` milliseconds. */
const traffic = (mode: 'observe' | 'enforce', queries: number, { slow = 2, errors = 0 } = {}) => {
  const buckets = Array.from({ length: latencyBucketsMs.length + 1 }, () => 0);
  const put = (ms: number, count: number) => {
    const at = latencyBucketsMs.findIndex((bound) => ms <= bound);
    buckets[at === -1 ? latencyBucketsMs.length : at] = count;
  };
  put(1, queries - queries / 50);
  put(slow, queries / 50);
  return { mode, queries, errors, buckets };
};
const mode = (scope: 'all' | 'percent' | 'tenant', target: string, value: 'observe' | 'enforce') => ({
  scope,
  target,
  mode: value,
  changedAt: ago(60),
  changedBy: null,
  reason: null,
});
const stage = (percent: number, minutes: number, automatic = false) => ({ at: ago(minutes), percent, automatic, reason: null });
const canary: RolloutFacts = {
  modes: [mode('all', '', 'observe'), mode('percent', '50', 'enforce')],
  stage: 50,
  stageSince: ago(60),
  stages: [stage(50, 60), stage(10, 120), stage(0, 180)],
  since: ago(60),
  now,
  enforced: traffic('enforce', 10_000),
  observed: traffic('observe', 10_000),
  observedBefore: traffic('observe', 20_000),
  refusals: [],
  attempts: 0,
  connections: { used: 10, max: 100 },
};
const judged = (facts: Partial<RolloutFacts>, changed: Partial<Record<ThresholdName, number>> = {}) => {
  const { verdict, gates } = judgeRollout({ ...canary, ...facts }, { ...thresholds, ...changed });
  const of = Object.fromEntries(gates.map((gate) => [gate.name, gate]));
  return { verdict, gates, of, breached: gates.filter((gate) => gate.verdict === 'breach').map(({ name }) => name) };
};
const refusal = (kind: string, count: number, of: 'observe' | 'enforce' = 'enforce') => ({ mode: of, kind, count });

describe('a gate', () => {
  test('that is within its bound is green, and all of them make the roll-out green', () => {
    const { verdict, gates } = judged({});
    expect([verdict, gates.map((gate) => [gate.name, gate.verdict])]).toEqual([
      'green',
      ['error_rate', 'added_p99', 'p99', 'context_errors', 'observed_refusals', 'cross_tenant_attempts', 'connections'].map((name) => [name, 'green']),
    ]);
  });

  test.each<[string, Partial<RolloutFacts>, number]>([
    ['error_rate', { enforced: traffic('enforce', 10_000, { errors: 101 }) }, 1.01],
    ['p99', { enforced: traffic('enforce', 10_000, { slow: 500 }), observed: traffic('observe', 10_000, { slow: 200 }) }, 400],
    ['context_errors', { refusals: [refusal('tenant_context', 6), refusal('statement_refused', 5)] }, 11],
    ['observed_refusals', { refusals: [refusal('no_context', 6, 'observe'), refusal('foreign_row', 5, 'observe')] }, 11],
    ['cross_tenant_attempts', { attempts: 1 }, 1],
    ['cross_tenant_attempts', { refusals: [refusal('cross_tenant', 1)] }, 1],
    ['connections', { connections: { used: 81, max: 100 } }, 81],
  ])('%s names its value, its bound and why it is breached', (name, facts, value) => {
    const { verdict, of, breached } = judged(facts);
    expect(verdict).toBe('breach');
    expect(breached).toContain(name);
    expect(of[name]).toMatchObject({ verdict: 'breach', value, bound: thresholds[name as ThresholdName], reason: expect.stringMatching(/\d/) });
  });

  test('holds at its bound, and of added latency must stay below it', () => {
    expect(judged({ enforced: traffic('enforce', 10_000, { errors: 100 }) }).verdict).toBe('green');
    expect(judged({ refusals: [refusal('tenant_context', 10)] }).verdict).toBe('green');
    // P99 is half way into the last bucket: 1.75 ms observed, 7 ms enforced.
    const slower = { enforced: traffic('enforce', 10_000, { slow: 8 }) };
    expect(judged(slower).of).toMatchObject({ added_p99: { verdict: 'breach', value: 5.25 } });
    expect(judged(slower, { added_p99: 5.25 }).of).toMatchObject({ added_p99: { verdict: 'breach' } });
    expect(judged(slower, { added_p99: 5.26 }).of).toMatchObject({ added_p99: { verdict: 'green' } });
  });

  test('with too little data is not green: it says how much of how much there is', () => {
    const { verdict, of } = judged({ enforced: traffic('enforce', 12), observed: traffic('observe', 12), observedBefore: traffic('observe', 12) });
    expect(verdict).toBe('not_enough');
    for (const name of ['error_rate', 'added_p99', 'p99', 'context_errors']) {
      expect(of[name]).toMatchObject({ verdict: 'not_enough', reason: 'not enough: 12 of 1000 enforced statements' });
    }
    expect(of['observed_refusals']).toMatchObject({ reason: 'not enough: 12 of 1000 observed statements' });
    expect(of['cross_tenant_attempts']?.verdict).toBe('not_enough');
    expect(judged({ attempts: undefined }).of).toMatchObject({ cross_tenant_attempts: { verdict: 'not_enough', value: null } });
  });

  test('that counts is breached however little data there is', () => {
    const few = { enforced: traffic('enforce', 12) };
    expect(judged({ ...few, refusals: [refusal('tenant_context', 11)] }).breached).toEqual(['context_errors']);
    expect(judged({ ...few, attempts: 3 }).breached).toEqual(['cross_tenant_attempts']);
  });

  test('counts by the hour over a longer window, and not more than there is within a shorter one', () => {
    const refusals = [refusal('tenant_context', 11)];
    expect(judged({ refusals, since: ago(120) }).of).toMatchObject({ context_errors: { verdict: 'green', value: 5.5 } });
    expect(judged({ refusals, since: ago(5) }).of).toMatchObject({ context_errors: { verdict: 'breach', value: 11 } });
  });

  test('compares with what was observed before where nothing is observed any more', () => {
    const enforced = {
      stage: 100,
      modes: [mode('all', '', 'enforce')],
      observed: traffic('observe', 0),
      enforced: traffic('enforce', 10_000, { errors: 500 }),
    };
    expect(judged(enforced).of).toMatchObject({ error_rate: { verdict: 'breach', value: 5 }, observed_refusals: { verdict: 'idle' } });
    expect(judged({ ...enforced, observedBefore: traffic('observe', 20_000, { errors: 1_000 }) }).of).toMatchObject({
      error_rate: { verdict: 'green', value: 0 },
    });
  });

  test('takes what the wall and operators mean to refuse for no error', () => {
    const enforced = traffic('enforce', 10_000, { errors: 5_000 });
    expect(judged({ enforced, refusals: [refusal('tenant_suspended', 3_000), refusal('cross_tenant', 2_000)] }).breached).toEqual(['cross_tenant_attempts']);
  });

  test('does not take the width of a bucket for added latency', () => {
    const one = { enforced: traffic('enforce', 10_000, { slow: 150 }), observed: traffic('observe', 10_000, { slow: 100 }) };
    expect(judged(one).of).toMatchObject({ added_p99: { verdict: 'not_enough', reason: expect.stringContaining('too coarse') } });
    expect(judged({ ...one, enforced: traffic('enforce', 10_000, { slow: 200 }) }).of).toMatchObject({ added_p99: { verdict: 'breach' } });
  });

  test('about enforcing is idle while nothing is enforced', () => {
    const observing = judged({ stage: 0, modes: [mode('all', '', 'observe')], enforced: traffic('enforce', 0) });
    expect(observing.verdict).toBe('green');
    expect(observing.gates.filter((gate) => gate.verdict === 'idle').map(({ name }) => name)).toEqual(['error_rate', 'added_p99', 'p99', 'context_errors']);
    const own = judged({ stage: 0, modes: [mode('all', '', 'observe'), mode('tenant', 'a', 'enforce')], enforced: traffic('enforce', 0) });
    expect(own.verdict).toBe('not_enough');
  });
});

describe('a step back', () => {
  const broken = { ...canary, refusals: [refusal('tenant_context', 11)] };
  const decide = (facts: Partial<RolloutFacts>, changed: Partial<Record<ThresholdName, number>> = {}) => {
    const all = { ...broken, ...facts };
    const own = { ...thresholds, ...changed };
    return decideStepBack({ ...judgeRollout(all, own), thresholds: own }, all);
  };

  test('leads to the percentage before, and from the first one to observing', () => {
    expect(decide({})).toMatchObject({ kind: 'step', from: 50, to: 10, reason: expect.stringContaining('context_errors 11 /h (bound 10)') });
    expect(decide({ stage: 10, stages: [stage(10, 60), stage(0, 180)] })).toMatchObject({ kind: 'step', to: 0 });
    expect(decide({ stage: 100, stages: [stage(100, 60), ...canary.stages], modes: [mode('all', '', 'enforce')] })).toMatchObject({ to: 50 });
  });

  test('never leads forward, nor to a percentage of a roll-out before this one', () => {
    expect(stageBefore(10, [stage(10, 1, true), stage(50, 2), stage(10, 3), stage(0, 4)])).toBe(0);
    expect(stageBefore(50, [stage(50, 1), stage(0, 2), stage(10, 3), stage(0, 4)])).toBe(0);
    for (let present = 0; present <= 100; present += 1) expect(stageBefore(present, canary.stages)).toBeLessThanOrEqual(present);
  });

  test('is not taken for green gates, too little data, or where thresholds say so', () => {
    expect(decide({ refusals: [] })).toMatchObject({ kind: 'stay' });
    expect(decide({ refusals: [], enforced: traffic('enforce', 12, { errors: 12 }) })).toMatchObject({ kind: 'stay' });
    expect(decide({}, { step_back: 0 })).toMatchObject({ kind: 'stay', reason: expect.stringContaining('only alerts') });
  });

  test('is taken once in ten minutes', () => {
    expect(decide({ stages: [stage(50, 3), stage(10, 9, true)] })).toMatchObject({ kind: 'stay', reason: expect.stringContaining('one in 10 min') });
    expect(decide({ stages: [stage(50, 3), stage(10, 10, true)] })).toMatchObject({ kind: 'step', to: 10 });
  });

  test('is not for whoever attempts other tenants, or opens connections, to cause', () => {
    expect(decide({ refusals: [refusal('cross_tenant', 50_000)], attempts: 50_000, connections: { used: 100, max: 100 } })).toMatchObject({ kind: 'stay' });
  });

  test('is not taken for latency that is there without the wall too', () => {
    const slow = { refusals: [], enforced: traffic('enforce', 10_000, { slow: 500 }), observed: traffic('observe', 10_000, { slow: 500 }) };
    expect(judged(slow).breached).toEqual(['p99']);
    expect(decide(slow)).toMatchObject({ kind: 'stay' });
    expect(decide({ ...slow, observed: traffic('observe', 10_000) })).toMatchObject({ kind: 'step' });
  });

  test('leaves a wall alone that was never rolled out, or that has stood for two days', () => {
    const all = { stage: 100, modes: [mode('all', '', 'enforce')] };
    expect(decide({ ...all, stages: [], stageSince: null })).toMatchObject({ kind: 'stay', reason: 'no roll-out was begun' });
    const stood = (hours: number) => ({ ...all, stageSince: ago(hours * 60), stages: [stage(100, hours * 60), stage(10, 9_999)] });
    expect(decide(stood(48))).toMatchObject({ kind: 'stay', reason: expect.stringContaining('the roll-out is over') });
    expect(decide(stood(47))).toMatchObject({ kind: 'step', to: 10 });
  });

  test('takes the modes of tenants’ own with it where nothing else is enforced', () => {
    const own = { stage: 0, stages: [stage(0, 60)], modes: [mode('all', '', 'observe'), mode('tenant', 'a', 'enforce')] };
    expect(decide(own)).toMatchObject({ kind: 'step', from: 0, to: 0 });
    expect(decide({ ...own, modes: [mode('all', '', 'observe')] })).toMatchObject({ kind: 'stay' });
  });
});
