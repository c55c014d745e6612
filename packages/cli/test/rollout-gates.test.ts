import { latencyBucketsMs } from '@partywall/wall';
import { beforeEach, expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const operator = { cwd: on.cwd, env: { ...on.env, PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari' } };
const run = (...args: string[]) => partywall(['rollout', ...args], operator);
const modes = async () =>
  (await on.database.query("select scope || ' ' || target || ' ' || mode as mode from partywall.rollout order by 1")).rows.map(({ mode }) => mode);

/** What processes report, within the hour and since the stage began. */
async function report({ refused = 0, queries = 5_000 }): Promise<void> {
  await on.database.query("update partywall.rollout_stages set at = at - interval '30 minutes'");
  await on.database.query('truncate partywall.rollout_traffic, partywall.rollout_counts');
  const buckets = Array.from({ length: latencyBucketsMs.length + 1 }, (_, at) => (at === 5 ? queries : 0));
  for (const mode of ['enforce', 'observe']) {
    await on.database.query(
      "insert into partywall.rollout_traffic (minute, mode, queries, errors, buckets) values (date_trunc('minute', now()) - interval '10 minutes', $1, $2, 0, $3)",
      [mode, queries, buckets],
    );
  }
  await on.database.query(
    "insert into partywall.rollout_counts (minute, mode, kind, count) values (date_trunc('minute', now()) - interval '10 minutes', 'enforce', 'tenant_context', $1)",
    [refused],
  );
}

beforeEach(async () => {
  await on.database.query(
    'truncate partywall.rollout, partywall.rollout_stages, partywall.rollout_traffic, partywall.rollout_counts, partywall.rollout_thresholds',
  );
  await run('observe');
  await run('canary', '10', '--reason', 'first tenants');
});

test('check has a status for green, one for a breach and one for too little data', async () => {
  const early = await run('check');
  expect(early.status).toBe(3);
  expect(early.stdout).toMatch(/^not enough data: 10 % enforced/);
  expect(early.stdout).toContain('not enough: 0 of 1000 enforced statements');
  await report({});
  const green = await run('check', '--json');
  expect([green.status, json(green)]).toEqual([0, expect.objectContaining({ verdict: 'green', stage: 10 })]);
  await report({ refused: 11 });
  const breach = await run('check');
  expect(breach.status).toBe(1);
  expect(breach.stdout).toMatch(/^breach +context_errors +11 \/h \(bound 10\), .*; steps back$/m);
  // Judging changes nothing.
  expect(await modes()).toEqual(['all  observe', 'percent 10 enforce']);
  expect((await run('check', '--since', '5m')).status).toBe(3);
  expect((await run('check', '--since', '9d')).status).toBe(2);
});

test('watch steps back by itself where there is no server, and says from where to where and why', async () => {
  await report({ refused: 11 });
  const seen = await run('watch', '--once');
  expect([seen.status, await modes()]).toEqual([1, ['all  observe']]);
  expect(seen.stdout).toContain('stepped back from 10 % to 0 %: context_errors 11 /h (bound 10)');
  expect((await run('watch', '--once')).status).toBe(0);
  expect((await run('check')).stdout).toMatch(/^stepped back by itself \S+, gates: context_errors 11 \/h \(bound 10\)/m);
});

test('thresholds are shown with what they mean, set one by one, and refused where they make no sense', async () => {
  expect((await run('thresholds')).stdout).toMatch(/^p99 +200 ms +P99 of enforced statements$/m);
  expect(json(await run('thresholds', 'set', 'context_errors', '11', '--json'))).toMatchObject({ context_errors: 11, p99: 200 });
  await report({ refused: 11 });
  expect((await run('check')).status).toBe(0);
  for (const args of [['set'], ['set', 'p99'], ['set', 'p99', 'x'], ['set', 'p98', '1'], ['set', 'p99', '-1'], ['get', 'p99', '1']]) {
    expect(await run('thresholds', ...args), args.join(' ')).toMatchObject({ status: 2, stdout: '' });
  }
});

test('integrity counts by tenant, compares with the last time, and ends with another status where rows are out of place', async () => {
  const first = await run('integrity');
  expect(first.status).toBe(0);
  expect(first.stdout).toMatch(/^public\.notes: \d+ rows of \d tenants$/m);
  expect(first.stdout).toMatch(/no row is out of place: (\d+) of \1 tables asked whole, no earlier count to compare with\n$/);
  await on.database.query('delete from notes where id = (select min(id) from notes)');
  expect((await run('integrity', '--no-keep')).stdout).toMatch(/^ {2}fewer: tenant \S+ had \d+, has \d+$/m);
  await on.database.query("begin; set local session_replication_role = replica; update notes set tenant_id = '99999999-9999-4999-8999-999999999999'; commit");
  const damaged = await run('integrity', '--json');
  expect(damaged.status).toBe(1);
  expect(json(damaged)).toMatchObject({
    verdict: 'damaged',
    tables: expect.arrayContaining([expect.objectContaining({ problems: expect.arrayContaining([expect.objectContaining({ problem: 'unknown tenant' })]) })]),
  });
});
