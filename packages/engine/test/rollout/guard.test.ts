import { latencyBucketsMs } from '@partywall/wall';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import {
  changeRollout,
  checkRollout,
  connect,
  guardRollout,
  type RolloutChange,
  readModes,
  readThresholds,
  searchAudit,
  setThreshold,
} from '../../src/index.ts';

const on = await controlDatabase();
const { database, model } = on;
const owner = await connect(database.url, { purpose: 'test' });
const [service, other] = [await connect(on.urls.service, { purpose: 'test' }), await connect(on.urls.service, { purpose: 'test' })];
afterAll(() => Promise.all([owner.end(), service.end(), other.end()]));

/** Well after every stage of these tests began, which is now. */
let now = new Date();
const later = (minutes: number) => new Date(now.getTime() + minutes * 60_000);
const change = (wanted: RolloutChange) => changeRollout(owner, { model, change: wanted, actor: { kind: 'operator', id: 'kari' } });
const stages = async () =>
  (await database.query('select percent, automatic, changed_by, reason, gates from partywall.rollout_stages order by id')).rows.map((row) => [
    row.percent,
    row.automatic,
    row.changed_by,
  ]);
const modes = async () => (await readModes(owner)).map(({ scope, target, mode }) => `${scope} ${target} ${mode}`);
const guard = (at: Date, client = service) => guardRollout(client, { model, now: at });

/** What processes report: so many statements a mode, and refusals of the enforced ones. */
async function report(at: Date, { enforced = 5_000, observed = 5_000, refused = 0 }: { enforced?: number; observed?: number; refused?: number }) {
  for (const [mode, queries] of Object.entries({ enforce: enforced, observe: observed })) {
    const buckets = Array.from({ length: latencyBucketsMs.length + 1 }, (_, bucket) => (bucket === 5 ? queries : 0));
    await database.query('insert into partywall.rollout_traffic (minute, mode, queries, errors, buckets) values ($1, $2, $3, 0, $4)', [
      at,
      mode,
      queries,
      buckets,
    ]);
  }
  if (refused > 0) {
    await database.query("insert into partywall.rollout_counts (minute, mode, kind, count) values ($1, 'enforce', 'tenant_context', $2)", [at, refused]);
  }
}

beforeEach(async () => {
  await database.query(
    'truncate partywall.rollout, partywall.rollout_stages, partywall.rollout_traffic, partywall.rollout_counts, partywall.rollout_thresholds',
  );
  await change({ scope: 'all', mode: 'observe' });
  await change({ scope: 'percent', percent: 10 });
  await change({ scope: 'percent', percent: 50 });
  now = new Date();
});

describe('a breach', () => {
  test('takes one step back, to the percentage before, with its values on record, and the next one only by what came after', async () => {
    await report(later(5), { refused: 11 });
    const first = await guard(later(10));
    expect(first).toMatchObject({ check: { verdict: 'breach', stage: 50 }, decision: { kind: 'step', from: 50, to: 10 } });
    expect(await modes()).toEqual(['all  observe', 'percent 10 enforce']);
    expect((await stages()).slice(2)).toEqual([
      [50, false, 'kari'],
      [10, true, 'rollout'],
    ]);
    const [record] = await searchAudit(on.operation(), { tenant: null, action: 'rollout.canary' }, { limit: 1 });
    expect(record).toMatchObject({
      actor: { kind: 'system', id: 'rollout' },
      reason: expect.stringMatching(/^gates: context_errors 11 \/h \(bound 10\)/),
      details: { gates: expect.arrayContaining([{ name: 'context_errors', verdict: 'breach', value: 11, bound: 10 }]) },
    });
    // What was before the step is not held against the stage that it led to: there is nothing to go by yet, which is no breach.
    expect(await guard(later(12))).toMatchObject({ check: { verdict: 'not_enough', stage: 10 }, decision: { kind: 'stay' } });
    await report(later(15), { refused: 11 });
    expect(await guard(later(19))).toMatchObject({
      check: { verdict: 'breach' },
      decision: { kind: 'stay', reason: expect.stringContaining('one in 10 min') },
    });
    expect(await guard(later(20))).toMatchObject({ decision: { kind: 'step', from: 10, to: 0 } });
    expect(await modes()).toEqual(['all  observe']);
    expect(await guard(later(40))).toMatchObject({ decision: { kind: 'stay' } });
  });

  test('that two find at the same time takes one step', async () => {
    await report(later(5), { refused: 11 });
    const found = await Promise.all([guard(later(10)), guard(later(10), other)]);
    expect(found.filter(({ decision }) => decision.kind === 'step')).toHaveLength(1);
    expect((await stages()).filter(([, automatic]) => automatic)).toEqual([[10, true, 'rollout']]);
  });

  test('that an operator has answered meanwhile takes none: a step is never forward', async () => {
    await change({ scope: 'percent', percent: 5 });
    const report = await changeRollout(service, {
      model,
      change: { scope: 'percent', percent: 10 },
      actor: { kind: 'system', id: 'rollout' },
      judged: { stage: 50, at: now, gates: [] },
    });
    expect([report.plan.set, await modes()]).toEqual([[], ['all  observe', 'percent 5 enforce']]);
    expect((await stages()).at(-1)).toEqual([5, false, 'kari']);
  });

  test('only alerts where the threshold says so', async () => {
    await setThreshold(on.operation(), { name: 'step_back', value: 0 });
    await report(later(5), { refused: 11 });
    expect(await guard(later(10))).toMatchObject({ check: { verdict: 'breach' }, decision: { kind: 'stay' } });
    expect((await modes()).at(-1)).toBe('percent 50 enforce');
  });

  test('leaves no lock behind, and changes nothing where nothing is breached', async () => {
    await report(later(5), {});
    expect(await guard(later(10))).toMatchObject({ check: { verdict: 'green' }, decision: { kind: 'stay' }, change: undefined });
    const { rows } = await database.query("select count(*)::int as held from pg_locks where locktype = 'advisory' and pid = any($1)", [
      [(await service.query('select pg_backend_pid() as pid')).rows[0].pid],
    ]);
    expect([rows[0]?.held, (await modes()).at(-1)]).toEqual([0, 'percent 50 enforce']);
  });
});

test('the application reads, writes and owns nothing of it', async () => {
  const app = await connect(on.urls.app, { purpose: 'test' });
  try {
    for (const table of ['rollout_thresholds', 'rollout_stages', 'integrity_counts', 'rollout_traffic', 'rollout_counts']) {
      await expect(app.query(`select from partywall.${table}`)).rejects.toMatchObject({ code: '42501' });
      await expect(app.query(`delete from partywall.${table}`)).rejects.toMatchObject({ code: '42501' });
    }
  } finally {
    await app.end();
  }
});

describe('a threshold', () => {
  test('is its default until it is set, is recorded, and holds at once', async () => {
    expect(await readThresholds(service)).toMatchObject({ context_errors: 10, added_p99: 5, p99: 200, cross_tenant_attempts: 0 });
    expect(await setThreshold(on.operation(), { name: 'context_errors', value: 11 })).toMatchObject({ context_errors: 11, p99: 200 });
    await report(later(5), { refused: 11 });
    expect((await checkRollout(service, { now: later(10) })).verdict).toBe('green');
    const [record] = await searchAudit(on.operation(), { tenant: null, action: 'rollout.threshold' }, { limit: 1 });
    expect(record).toMatchObject({ target: 'rollout_threshold:context_errors', details: { before: 10, after: 11 } });
  });

  test.each([
    ['p98', 1],
    ['p99', -1],
    ['step_back', 2],
    ['connections', Number.NaN],
    ['constructor', 1],
  ])('%s is not set to %s', async (name, value) => {
    await expect(setThreshold(on.operation(), { name, value })).rejects.toMatchObject({ code: 'input_invalid' });
    expect((await database.query('select from partywall.rollout_thresholds')).rowCount).toBe(0);
  });
});

test('a wall that is older than stages is told to be brought up to date, and can still be taken back', async () => {
  await database.query('alter table partywall.rollout_stages rename to rollout_stages_gone');
  try {
    await expect(guard(now)).rejects.toMatchObject({ code: 'phase_refused' });
    await change({ scope: 'all', mode: 'observe' });
    expect(await modes()).toEqual(['all  observe']);
  } finally {
    await database.query('alter table partywall.rollout_stages_gone rename to rollout_stages');
  }
});
