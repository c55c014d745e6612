import { run } from '@partywall/wall';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { tenantSessions } from '../../src/metering/connections.ts';
import { RequestMeter } from '../../src/metering/requests.ts';
import { runningStatements, SlowQueryLog, serverStatements, slowStatements } from '../../src/metering/slow-queries.ts';
import { surveyUsage } from '../../src/metering/survey.ts';
import { topConsumers } from '../../src/metering/top.ts';
import { tenantUsage } from '../../src/metering/usage.ts';
import { pruneUsage } from '../../src/metering/usage-prune.ts';
import { systemUsage } from '../../src/metering/usage-system.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;
const operation = fixture.operation();
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
const cedar = await fixture.tenant('Cedar');

await database.query(`insert into customers (tenant_id, name) select $1, 'of alder ' || n from generate_series(1, 30) n`, [alder]);
await database.query(`insert into customers (tenant_id, name) select $1, 'of birch ' || n from generate_series(1, 3) n`, [birch]);
await database.query(`insert into notes (customer_id, partywall_tenant_id, body) select id, tenant_id, repeat('x', 500) from customers where tenant_id = $1`, [
  birch,
]);
await database.query(`insert into files (tenant_id, name, size_bytes) values ($1, 'plan.pdf', 1000)`, [alder]);

const meter = new RequestMeter(control);
for (let n = 0; n < 98; n += 1) meter.count({ tenant: alder, user: `person ${n % 4}`, milliseconds: 20, failed: false });
for (let n = 0; n < 2; n += 1) meter.count({ tenant: alder, user: undefined, milliseconds: 900, failed: true });
for (let n = 0; n < 10; n += 1) meter.count({ tenant: birch, user: 'person 0', milliseconds: 1_500, failed: false });
meter.count({ tenant: null, user: undefined, milliseconds: 1, failed: false });
await meter.flush();

/** A session of the application that is inside a tenant, in the middle of a transaction. */
async function inside<Result>(tenant: string, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
  return run({ tenant }, async () => {
    const client = await fixture.app.connect();
    try {
      await client.query('begin');
      await client.query('select count(*) from customers');
      const result = await work(client);
      await client.query('rollback');
      return result;
    } finally {
      client.release();
    }
  });
}

test('percentiles of a histogram are interpolated inside their bucket', async () => {
  const { rows } = await control.pool.query<{ p50: number; p95: number; open: number; none: number | null }>(
    `select partywall_control.latency_percentile('{0,0,0,100,0,0,0,0,0,0,0}', 0.5) as p50, partywall_control.latency_percentile('{90,0,0,0,0,0,0,10,0,0,0}', 0.95) as p95,
      partywall_control.latency_percentile('{0,0,0,0,0,0,0,0,0,0,3}', 0.95) as open, partywall_control.latency_percentile('{0,0,0,0,0,0,0,0,0,0,0}', 0.95) as none`,
  );
  expect(rows[0]).toEqual({ p50: 37.5, p95: 750, open: 5000, none: null });
});

test('a survey counts the rows and bytes of every tenant in every scoped table, and of a tenant without any', async () => {
  const survey = await surveyUsage(operation);
  expect(survey).toMatchObject({ tables: 4, counted: 4, unmeasured: [] });
  const { rows } = await database.query<{ tenant_id: string; rows: unknown; storage: string }>(
    'select tenant_id, rows, storage from partywall_control.usage_samples',
  );
  const of = new Map(rows.map((row) => [row.tenant_id, row]));
  expect(of.get(alder)?.rows).toEqual({ 'public.customers': 30, 'public.files': 1, 'public.notes': 0, 'public.users': 0 });
  expect(of.get(birch)?.rows).toEqual({ 'public.customers': 3, 'public.files': 0, 'public.notes': 3, 'public.users': 0 });
  expect(of.get(cedar)).toMatchObject({ rows: { 'public.customers': 0, 'public.notes': 0 }, storage: '0' });
  expect(Number(of.get(birch)?.storage)).toBeGreaterThan(3 * 500);
  expect(Number(of.get(birch)?.storage)).toBeLessThan(3 * 500 + 6 * 250);
});

test('what a tenant uses is told with its requests, people, rows and bytes', async () => {
  const usage = await tenantUsage(operation, alder);
  expect(usage).toMatchObject({
    name: 'Alder',
    requests: { hours: 24, calls: 100, errors: 2, errorRate: 0.02, p50Ms: expect.closeTo(17.7, 1) },
    activeUsers: { day: 4, week: 4, month: 4 },
    rows: { 'public.customers': 30, 'public.files': 1 },
    connections: 0,
  });
  expect(usage.requests.averageMs).toBeCloseTo((98 * 20 + 2 * 900) / 100);
  expect(usage.requests.p99Ms).toBeCloseTo(750);
  expect(usage.hourly).toHaveLength(1);
  expect(usage.hourly[0]).toMatchObject({ calls: 100, errors: 2 });
  await expect(tenantUsage(operation, 'nobody')).rejects.toMatchObject({ code: 'tenant_unknown' });
});

test('what a quota counts is exact between surveys', async () => {
  await database.query(`insert into customers (tenant_id, name) values ($1, 'late'), ($1, 'later')`, [cedar]);
  expect((await tenantUsage(operation, cedar)).rows).toMatchObject({ 'public.customers': 2, 'public.files': 0 });
});

test('all tenants at once give the same rows as one at a time', async () => {
  const { rows: all } = await control.pool.query<{ tenant_id: string }>('select * from partywall_control.tenant_usage() order by tenant_id');
  expect(all.map((row) => row.tenant_id)).toEqual([alder, birch, cedar].toSorted());
  for (const row of all) expect((await control.pool.query('select * from partywall_control.tenant_usage($1)', [row.tenant_id])).rows).toEqual([row]);
});

test('recent requests are told by tenant, and apart what belongs to none', async () => {
  const { rows } = await control.pool.query<{ tenant_id: string; calls: string; errors: string; p95_ms: number }>(
    "select * from partywall_control.recent_requests(now() - interval '5 minutes')",
  );
  const of = new Map(rows.map((row) => [row.tenant_id, row]));
  expect(of.get(alder)).toMatchObject({ calls: '100', errors: '2' });
  expect(of.get(birch)?.p95_ms).toBeGreaterThan(1_000);
  expect(of.get('')).toMatchObject({ calls: '1' });
});

test.each([
  ['calls', alder, 100],
  ['errors', alder, 2],
  ['time', birch, 15_000],
  ['rows', alder, 31],
  ['storage', alder, undefined],
] as const)('the top consumer by %s comes first, with its share', async (by, tenant, value) => {
  const top = await topConsumers(operation, { by });
  expect(top.items[0]?.tenantId).toBe(tenant);
  if (value !== undefined) expect(top.items[0]?.value).toBe(value);
  expect(top.items.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1);
  expect((await topConsumers(operation, { by, limit: 1 })).total).toBe(top.total);
});

test('the session of a transaction is its tenant’s, and nobody’s after it', async () => {
  await inside(birch, async () => {
    expect(await tenantSessions(operation)).toMatchObject([{ tenantId: birch, name: 'Birch', role: fixture.model.roles.app, state: 'idle in transaction' }]);
    expect(await tenantSessions(operation, { tenant: alder })).toEqual([]);
    expect((await tenantUsage(operation, birch)).connections).toBe(1);
    expect((await topConsumers(operation, { by: 'connections' })).items).toEqual([{ tenantId: birch, name: 'Birch', value: 1, share: 1 }]);
  });
  expect(await tenantSessions(operation)).toEqual([]);
});

test('where the service role may not look into sessions, their tenant is still told', async () => {
  await database.query(`revoke pg_read_all_stats from ${fixture.model.roles.service}`);
  try {
    await inside(birch, async () => {
      expect(await tenantSessions(operation)).toMatchObject([
        { tenantId: birch, role: fixture.model.roles.app, state: null, statement: null, statementMs: null },
      ]);
      expect((await systemUsage(operation)).connections.byRole.map(({ state }) => state)).toContain('hidden');
    });
  } finally {
    await database.query(`grant pg_read_all_stats to ${fixture.model.roles.service}`);
  }
});

test('a statement that is running is listed with its tenant and without its values', async () => {
  const pid = Promise.withResolvers<number>();
  const slow = inside(alder, async (client) => {
    pid.resolve((await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid ?? 0);
    await client.query("select pg_sleep(60), 'secret'").catch(() => undefined);
  });
  const backend = await pid.promise;
  try {
    await expect.poll(() => runningStatements(operation, { runningMs: 20 })).toMatchObject([{ tenantId: alder, statement: 'select pg_sleep(?), ?' }]);
    expect(await runningStatements(operation, { runningMs: 60_000 })).toEqual([]);
  } finally {
    await database.query('select pg_cancel_backend($1)', [backend]);
  }
  await slow;
});

test('the slowest statements of a tenant and hour are kept, twenty at most, and paged', async () => {
  const log = new SlowQueryLog(control);
  for (let n = 1; n <= 60; n += 1) log.record({ tenant: alder, statement: `select ${'x'.repeat(n)}`, milliseconds: 1_000 + n, failed: n % 2 === 0 });
  for (const milliseconds of [700, 900]) log.record({ tenant: birch, statement: 'select y', milliseconds, failed: false });
  log.record({ tenant: null, statement: 'select z', milliseconds: 800, failed: true });
  log.record({ tenant: 'no such tenant', statement: 'nul\0 and \ud800', milliseconds: 801, failed: true });
  await log.flush();
  await log.flush();
  const all = await slowStatements(operation, { hours: 24, limit: 100 });
  expect(all.map(({ maxMs }) => maxMs)).toEqual([...Array.from({ length: 20 }, (_, n) => 1_060 - n), 900, 801, 800]);
  expect(all.find(({ tenantId }) => tenantId === birch)).toMatchObject({ statement: 'select y', calls: 2, averageMs: 800, maxMs: 900, failures: 0 });
  expect(all.at(-1)).toMatchObject({ tenantId: null, statement: 'select z', failures: 1 });
  expect(await slowStatements(operation, { hours: 24, limit: 100, tenant: birch })).toHaveLength(1);
  const paged = [];
  for (let after = undefined as (typeof all)[number] | undefined; ; ) {
    const page = await slowStatements(operation, { hours: 24, limit: 4, after });
    paged.push(...page);
    after = page.at(-1);
    if (page.length < 4) break;
  }
  expect(paged).toEqual(all);
});

test('statements of the whole server are told where it keeps them, and only then', async () => {
  expect(await serverStatements(operation)).toBeNull();
  await database.query('create extension pg_stat_statements');
  await database.query("select pg_sleep(0.001), 'secret'");
  const statements = await serverStatements(operation);
  expect(statements?.length).toBeGreaterThan(0);
  expect(JSON.stringify(statements)).not.toContain('secret');
});

test('the whole system is measured', async () => {
  const system = await systemUsage(operation);
  expect(system.tenants).toEqual({ total: 3, byStatus: { active: 3 } });
  expect(system.requests.hour).toMatchObject({ calls: 111, errors: 2 });
  expect(system.requests.day.calls).toBe(111);
  expect(system.activeUsers).toBe(4);
  expect(system.connections.used).toBeLessThanOrEqual(system.connections.max);
  expect(system.connections.byRole.map(({ role }) => role)).toContain(fixture.model.roles.service);
  expect(system.database.bytes).toBeGreaterThan(1_000_000);
  expect(system.database.cacheHitRatio).toBeGreaterThan(0);
});

test('a table that cannot be counted is named, the others are counted, and a survey that was killed is never read', async () => {
  await database.query(`alter table files rename to archived_files; revoke select on users from ${fixture.model.roles.service}`);
  await database.query("insert into partywall_control.usage_surveys (at) values (now() + interval '1 hour')");
  await database.query("insert into partywall_control.usage_samples select $1, max(at), '{}', 0 from partywall_control.usage_surveys", [alder]);
  const survey = await surveyUsage(operation);
  expect(survey.counted).toBe(2);
  expect(survey.unmeasured.map(({ table }) => table).toSorted()).toEqual(['public.files', 'public.users']);
  const usage = await tenantUsage(operation, alder);
  expect(usage.rows).toMatchObject({ 'public.customers': 30, 'public.notes': 0 });
  expect(usage.rows).not.toHaveProperty(['public.files']);
  await database.query(`alter table archived_files rename to files; grant select on users to ${fixture.model.roles.service}`);
});

test('usage is dropped when it is older than it is kept, and nothing younger', async () => {
  const zeros = `'{0,0,0,0,0,0,0,0,0,0,0}'`;
  await database.query(`truncate partywall_control.usage_surveys cascade; truncate partywall_control.request_minutes, partywall_control.request_hours,
    partywall_control.active_users, partywall_control.slow_queries, partywall_control.request_batches`);
  await database.query(`
    insert into partywall_control.request_minutes select 'a', date_trunc('minute', now()) - n * interval '1 hour', 1, 0, 1, ${zeros} from generate_series(0, 99) n;
    insert into partywall_control.request_hours select 'a', date_trunc('hour', now()) - n * interval '1 day', 1, 0, 1, ${zeros} from generate_series(0, 449) n;
    insert into partywall_control.active_users select 'a', current_date - n, 'u' from generate_series(0, 99) n;
    insert into partywall_control.slow_queries select 'a', date_trunc('hour', now()) - n * interval '1 day', 'f', 's', 1, 0, 1, 1, now() from generate_series(0, 49) n;
    insert into partywall_control.usage_surveys (at, finished_at) select date_trunc('day', now(), 'UTC') - n * interval '6 hours', now() from generate_series(0, 39) n;
    insert into partywall_control.usage_surveys (at) values (now() - interval '5 days');
    insert into partywall_control.usage_samples select 'a', at, '{}', 0 from partywall_control.usage_surveys`);
  const { deleted, unfinished } = await pruneUsage(operation);
  expect(unfinished).toEqual([]);
  expect(deleted).toMatchObject({ request_minutes: 52, request_hours: 50, active_users: 39, slow_queries: 20 });
  const { rows } = await database.query<{ surveys: number; samples: number; days: number }>(`select
    (select count(*)::int from partywall_control.usage_surveys) as surveys, (select count(*)::int from partywall_control.usage_samples) as samples,
    (select count(distinct date_trunc('day', at, 'UTC'))::int from partywall_control.usage_surveys where finished_at is not null) as days`);
  // Ten days and the midnight of today: of the days that are over for long enough, one survey each.
  expect(rows[0]?.days).toBe(11);
  expect(rows[0]?.surveys).toBe(rows[0]?.samples);
  expect(rows[0]?.surveys).toBeLessThan(22);
  expect(await pruneUsage(operation)).toMatchObject({ deleted: { request_minutes: 0, usage_surveys: 0, usage_samples: 0 } });
});
