import { createWalledPool, modeOf, parseRolloutState, run } from '@partywall/wall';
import type pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { changeRollout, connect, planChange, type RolloutChange, readModes, rolloutStatus } from '../../src/index.ts';
import { applyWall } from '../../src/wall/apply.ts';

const on = await controlDatabase();
const { database, model } = on;
const owner = await connect(database.url, { purpose: 'test' });
const service = await connect(on.urls.service, { purpose: 'test' });
afterAll(() => Promise.all([owner.end(), service.end()]));
const actor = { kind: 'operator', id: 'kari' } as const;
const acme = await on.tenant('Acme');
const globex = await on.tenant('Globex');
await database.query('insert into customers (tenant_id, name) values ($1, $2), ($3, $4)', [acme, 'of acme', globex, 'of globex']);
const change = (wanted: RolloutChange, client: pg.Client = owner, options = {}) =>
  changeRollout(client, { model, change: wanted, actor, reason: 'because' }, options);

const modes = async () => (await readModes(owner)).map(({ scope, target, mode }) => [scope, target, mode]);
const triggers = async () => {
  const { rows } = await database.query<{ table: string }>(
    "select c.relname as table from pg_trigger t join pg_class c on c.oid = t.tgrelid where t.tgname like 'zz_pw_observe_%' order by 1",
  );
  return [...new Set(rows.map(({ table }) => table))];
};
const records = async () => {
  const { rows } = await database.query(
    "select action, reason, actor_id, tenant_id from partywall_control.audit_records where action like 'rollout.%' order by at, seq",
  );
  return rows;
};

describe('the plan', () => {
  const row = (scope: 'all' | 'percent' | 'tenant' | 'table', target: string, mode: 'observe' | 'enforce') => ({ scope, target, mode });
  const before = [row('all', '', 'observe'), row('percent', '10', 'enforce'), row('tenant', 'a', 'enforce'), row('table', 'public.notes', 'observe')];

  test('a mode for all replaces percentage and tenants, and enforcing all closes the tables too', () => {
    expect(planChange(before, { scope: 'all', mode: 'observe' }).after).toEqual([row('table', 'public.notes', 'observe'), row('all', '', 'observe')]);
    expect(planChange(before, { scope: 'all', mode: 'enforce' })).toMatchObject({ set: [row('all', '', 'enforce')], after: [row('all', '', 'enforce')] });
    expect(planChange(before, { scope: 'all', mode: 'enforce' }).removed).toHaveLength(3);
  });

  test('a canary keeps tenants with a mode of their own and says so; what is there already is not set again', () => {
    const plan = planChange(before, { scope: 'percent', percent: 25 });
    expect([plan.set, plan.removed]).toEqual([[row('percent', '25', 'enforce')], [row('percent', '10', 'enforce')]]);
    expect(plan.reasons).toEqual(['1 with a mode of their own keep it: tenant a: enforce']);
    expect(planChange(before, { scope: 'percent', percent: 10 })).toMatchObject({ set: [], removed: [] });
    expect(() => planChange([], { scope: 'percent', percent: 10.5 })).toThrow('whole number');
  });
});

test('observing everything sets the mode, watches every walled table, and is recorded; enforcing takes all of it back', async () => {
  const dry = await change({ scope: 'all', mode: 'observe' }, owner, { dryRun: true });
  expect([await modes(), await triggers(), await records()]).toEqual([[], [], []]);
  const report = await change({ scope: 'all', mode: 'observe' });
  expect([report.plan, report.steps, report.unfinished]).toEqual([dry.plan, dry.steps, []]);
  expect(await modes()).toEqual([['all', '', 'observe']]);
  expect(await triggers()).toEqual(['customers', 'files', 'notes', 'tenants', 'users']);
  await change({ scope: 'percent', percent: 10 });
  await change({ scope: 'tenant', tenant: acme.toUpperCase(), mode: 'enforce' });
  expect(await modes()).toEqual([
    ['all', '', 'observe'],
    ['percent', '10', 'enforce'],
    ['tenant', acme, 'enforce'],
  ]);
  await change({ scope: 'all', mode: 'enforce' });
  expect([await modes(), await triggers()]).toEqual([[['all', '', 'enforce']], []]);
  expect(await records()).toEqual(
    [
      ['rollout.observe', ''],
      ['rollout.canary', ''],
      ['rollout.enforce', acme],
      ['rollout.enforce', ''],
    ].map(([action, tenant_id]) => expect.objectContaining({ action, tenant_id, reason: 'because', actor_id: 'kari' })),
  );
  expect((await change({ scope: 'all', mode: 'enforce' })).plan).toMatchObject({ set: [], removed: [] });
});

test('the service role changes the modes at night, and what it may not do to the tables is told and done later', async () => {
  const report = await change({ scope: 'all', mode: 'observe' }, service);
  expect(await modes()).toEqual([['all', '', 'observe']]);
  expect(report.unfinished.map(({ table }) => table).sort()).toEqual(report.steps.map(({ table }) => table).sort());
  expect(report.unfinished.length).toBe(5);
  const status = await rolloutStatus(owner, { model, since: new Date(0) });
  expect(status.unwatchedTables).toHaveLength(5);
  expect((await change({ scope: 'all', mode: 'observe' })).unfinished).toEqual([]);
  expect((await rolloutStatus(owner, { model, since: new Date(0) })).unwatchedTables).toEqual([]);
  await change({ scope: 'all', mode: 'enforce' });
});

test('a table that somebody holds does not keep the mode waiting', async () => {
  const holder = await connect(database.url, { purpose: 'test' });
  await holder.query('begin; lock table public.notes in access exclusive mode');
  try {
    const report = await change({ scope: 'all', mode: 'observe' }, owner, { lockAttempts: 1 });
    expect(await modes()).toEqual([['all', '', 'observe']]);
    expect(report.unfinished).toEqual([{ table: undefined, title: 'look at the tables', reason: expect.stringContaining('no lock') }]);
    expect(await triggers()).toEqual([]);
    await holder.query('rollback; begin; lock table public.notes in share mode');
    expect((await change({ scope: 'all', mode: 'observe' }, owner, { lockAttempts: 1 })).unfinished.map(({ table }) => table)).toEqual(['public.notes']);
    expect(await triggers()).toEqual(['customers', 'files', 'tenants', 'users']);
  } finally {
    await holder.end();
  }
  await change({ scope: 'all', mode: 'enforce' });
});

test('a table is opened and closed with its mode, contract leaves it open, and no other table is touched', async () => {
  const policies = async () =>
    (await database.query("select tablename from pg_policies where policyname = 'partywall_observe' order by 1")).rows.map(({ tablename }) => tablename);
  await change({ scope: 'table', table: 'public.customers', mode: 'observe' });
  expect([await policies(), await modes()]).toEqual([
    ['customers'],
    [
      ['all', '', 'enforce'],
      ['table', 'public.customers', 'observe'],
    ],
  ]);
  expect((await rolloutStatus(owner, { model, since: new Date(0) })).openTables).toEqual(['public.customers']);
  await applyWall({ url: database.url, model, phase: 'contract' });
  expect(await policies()).toEqual(['customers']);
  const names = await run({ tenant: acme }, () => on.app.query('select name from customers order by name'));
  expect(names.rows.map(({ name }) => name)).toEqual(['of acme', 'of globex']);
  await change({ scope: 'table', table: 'public.customers', mode: 'enforce' });
  expect([await policies(), await modes()]).toEqual([[], [['all', '', 'enforce']]]);
  const own = await run({ tenant: acme }, () => on.app.query('select name from customers'));
  expect(own.rows).toEqual([{ name: 'of acme' }]);
  // Enforcing all closes what is open.
  await change({ scope: 'table', table: 'public.notes', mode: 'observe' });
  await change({ scope: 'all', mode: 'enforce' });
  expect([await policies(), await triggers()]).toEqual([[], []]);
});

test('a table that is open without a mode, as a placement or a replayed log may have it, is closed by whatever changes the modes next', async () => {
  const open = async () =>
    (await database.query("select tablename from pg_policies where policyname = 'partywall_observe' order by 1")).rows.map(({ tablename }) => tablename);
  const changes: RolloutChange[] = [
    { scope: 'all', mode: 'enforce' },
    { scope: 'percent', percent: 50 },
    { scope: 'tenant', tenant: acme, mode: 'enforce' },
  ];
  await change({ scope: 'table', table: 'public.notes', mode: 'observe' });
  for (const wanted of changes.toReversed()) {
    await change({ scope: 'table', table: 'public.customers', mode: 'observe' });
    await database.query("delete from partywall.rollout where target = 'public.customers'");
    expect(await open()).toEqual(['customers', 'notes']);
    const report = await change(wanted);
    expect([await open(), report.unfinished]).toEqual([wanted.scope === 'all' ? [] : ['notes'], []]);
  }
  const own = await run({ tenant: acme }, () => on.app.query('select name from customers'));
  expect(own.rows).toEqual([{ name: 'of acme' }]);
});

test('a table that the service role may not close has no mode any more, is named as open, and is closed by the owner’s next change', async () => {
  await change({ scope: 'table', table: 'public.notes', mode: 'observe' });
  const report = await change({ scope: 'all', mode: 'enforce' }, service);
  expect(report.unfinished.map(({ title, table }) => [title, table])).toContainEqual(['close the table', 'public.notes']);
  expect(await modes()).toEqual([['all', '', 'enforce']]);
  expect((await rolloutStatus(owner, { model, since: new Date(0) })).openTables).toEqual(['public.notes']);
  expect((await change({ scope: 'all', mode: 'enforce' })).unfinished).toEqual([]);
  const after = await rolloutStatus(owner, { model, since: new Date(0) });
  expect([after.openTables, after.unwatchedTables]).toEqual([[], []]);
});

test('what is not there is refused: an unknown tenant, a table that is not walled, a role that may not', async () => {
  await expect(change({ scope: 'tenant', tenant: '00000000-0000-0000-0000-000000000000', mode: 'observe' })).rejects.toMatchObject({ code: 'tenant_unknown' });
  await expect(change({ scope: 'tenant', tenant: 'nobody', mode: 'observe' })).rejects.toMatchObject({ code: 'tenant_unknown' });
  await expect(change({ scope: 'table', table: 'public.countries', mode: 'observe' })).rejects.toMatchObject({ code: 'usage' });
  await expect(change({ scope: 'table', table: 'public.customers', mode: 'observe' }, service)).rejects.toMatchObject({ code: 'permission_missing' });
  expect(await modes()).toEqual([['all', '', 'enforce']]);
});

test('through the wall that apply has built, an observed application reads and writes as before, and the status counts tenants and refusals', async () => {
  await change({ scope: 'all', mode: 'observe' });
  await change({ scope: 'tenant', tenant: globex, mode: 'enforce' });
  const pool = createWalledPool({ connectionString: on.urls.app, rollout: { observe: { connectionString: on.urls.system }, rerun: 0 } });
  await run({ tenant: acme }, async () => {
    expect((await pool.query('select name, tenant_id from customers')).rowCount).toBe(2);
    expect((await pool.query("update customers set name = name || '!' where name = 'of globex'")).rowCount).toBe(1);
  });
  expect((await pool.query('select count(*)::int as count from customers')).rows).toEqual([{ count: 2 }]);
  expect((await run({ tenant: globex }, () => pool.query('select name from customers'))).rows).toEqual([{ name: 'of globex!' }]);
  await pool.end();
  const status = await rolloutStatus(owner, { model, since: new Date(0) });
  expect(status.tenants).toEqual({ enforced: 1, observed: 1, of: 2 });
  const seen = new Map(status.seen.map(({ mode, kind, count }) => [`${mode} ${kind}`, count]));
  expect(seen).toEqual(
    new Map([
      ['observe foreign_row', 1],
      ['observe foreign_write', 1],
      ['observe no_context', 1],
    ]),
  );
  expect(status.places.map(({ kind, relation }) => [kind, relation])).toContainEqual(['foreign_write', 'public.customers']);
  expect(status.traffic.map(({ mode, queries }) => [mode, queries])).toEqual([
    ['enforce', 1],
    ['observe', 3],
  ]);
  for (const { p99Ms } of status.traffic) expect(p99Ms).toBeGreaterThan(0);
});

test('the share of a canary in the status is that of the processes', async () => {
  await change({ scope: 'all', mode: 'enforce' });
  await database.query("insert into tenants (name, slug) select 'n' || n, 'n' || n from generate_series(1, 200) n");
  await change({ scope: 'percent', percent: 30 });
  const { rows } = await database.query<{ state: unknown }>('select partywall.rollout_state(null) as state');
  const state = parseRolloutState(rows[0]?.state);
  const ids = (await database.query<{ id: string }>('select tenant_id::text as id from partywall.registry')).rows.map(({ id }) => id);
  const enforced = ids.filter((id) => modeOf(state, id) === 'enforce').length;
  expect((await rolloutStatus(owner, { model, since: new Date(0) })).tenants).toEqual({ enforced, observed: ids.length - enforced, of: ids.length });
});
