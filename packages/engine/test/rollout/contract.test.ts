import { createHash } from 'node:crypto';
import { latencyBucketsMs } from '@partywall/wall';
import { expect, test } from 'vitest';
import { failure, tenant, walledDatabase } from '../../../wall/test/walled-database.ts';
import { rolloutLimits } from '../../src/wall/runtime/rollout-sql.ts';

const wall = await walledDatabase();
const { database } = wall;
const app = await wall.client();
const buckets = latencyBucketsMs.map(() => 1).concat(1);

test('the state is read in one piece, names no tenant, and says no more while nothing has changed', async () => {
  await database.query(`insert into partywall.rollout (scope, target, mode) values ('all', '', 'observe'), ('percent', '10', 'enforce'),
    ('tenant', '${tenant(3)}', 'enforce'), ('table', 'public.items', 'observe')`);
  const { rows } = await app.query<{ state: Record<string, unknown> }>('select partywall.rollout_state(null) as state');
  const hash = createHash('sha256').update(tenant(3)).digest('hex');
  expect(rows[0]?.state).toEqual({
    change: expect.stringMatching(/^[0-9a-f]{32}$/),
    keyType: 'uuid',
    all: 'observe',
    percent: 10,
    tenants: { [hash]: 'enforce' },
    tables: ['public.items'],
  });
  const change = rows[0]?.state['change'];
  const again = await app.query<{ state: unknown }>('select partywall.rollout_state($1) as state', [change]);
  expect(again.rows[0]?.state).toEqual({ change });
  await database.query("update partywall.rollout set target = '20' where scope = 'percent'");
  const changed = await app.query<{ state: unknown }>('select partywall.rollout_state($1) as state', [change]);
  expect(changed.rows[0]?.state).toMatchObject({ percent: 20 });
});

test('the application can neither change a mode, nor read what was seen, nor report', async () => {
  for (const attempt of [
    "update partywall.rollout set mode = 'observe'",
    "insert into partywall.rollout (scope, target, mode) values ('tenant', 'x', 'observe')",
    'select * from partywall.rollout',
    'select * from partywall.rollout_observations',
    'select * from partywall.rollout_traffic',
    "select partywall.report_observations('{}')",
    "select partywall.observe('')",
    'select partywall.observe_write()',
  ]) {
    expect([attempt, (await failure(app.query(attempt))).code]).toEqual([attempt, '42501']);
  }
});

test('reports add up by minute, kind and place, and are bounded', async () => {
  const report = (value: unknown) => database.query('select partywall.report_observations($1)', [JSON.stringify(value)]);
  const seen = { mode: 'observe', kind: 'no_context', relation: '', location: 'src/a.ts:1', statement: 'select ?', count: 2 };
  for (let n = 0; n < 2; n += 1) {
    await report({ traffic: [{ mode: 'observe', queries: 3, errors: 1, buckets }], seen: [seen, { ...seen, count: 1 }, { ...seen, kind: 'Bad Kind' }] });
  }
  const traffic =
    await database.query(`select sum(queries)::int as queries, sum(errors)::int as errors, min(cardinality(buckets)) as buckets, sum(buckets[1])::int as first
    from partywall.rollout_traffic`);
  expect(traffic.rows).toEqual([{ queries: 6, errors: 2, buckets: buckets.length, first: 2 }]);
  expect((await database.query('select kind, location, statement, count::int from partywall.rollout_observations')).rows).toEqual([
    { kind: 'no_context', location: 'src/a.ts:1', statement: 'select ?', count: 6 },
  ]);
  expect((await database.query('select kind, sum(count)::int as count from partywall.rollout_counts group by kind')).rows).toEqual([
    { kind: 'no_context', count: 6 },
  ]);
  expect((await failure(report({ seen: [{ ...seen, statement: 'x'.repeat(rolloutLimits.reportBytesMax) }] }))).code).toBe('54000');
});

test('places beyond the limit are counted together, and nothing is lost', async () => {
  await database.query(`insert into partywall.rollout_observations select 'filler' || n, 'observe', 'no_context', '', '', '', 1, now(), now()
    from generate_series(1, ${rolloutLimits.observationsMax}) n`);
  const seen = { mode: 'observe', kind: 'foreign_row', relation: 'public.items', location: 'new', statement: 'select ?', count: 5 };
  await database.query('select partywall.report_observations($1)', [JSON.stringify({ seen: [seen, { ...seen, location: 'newer' }] })]);
  expect((await database.query("select location, statement, count::int from partywall.rollout_observations where kind = 'foreign_row'")).rows).toEqual([
    { location: '', statement: '(other)', count: 10 },
  ]);
  await database.query("delete from partywall.rollout_observations where fingerprint like 'filler%'");
});

test('what was counted longer ago than is kept goes with the next report', async () => {
  await database.query(`insert into partywall.rollout_counts values (now() - interval '${rolloutLimits.minutesKeptDays + 1} days', 'observe', 'old', 1)`);
  await database.query("select partywall.report_observations('{}')");
  expect((await database.query("select from partywall.rollout_counts where kind = 'old'")).rowCount).toBe(0);
});
