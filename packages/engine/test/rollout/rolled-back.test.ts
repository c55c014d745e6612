import { afterAll, expect, test } from 'vitest';
import { createDatabase, suffix } from '../../../../test/support/database.ts';
import { applyWall, changeRollout, connect, parseModel, type RolloutChange, readModes, rollbackWall } from '../../src/index.ts';

const database = await createDatabase();
await database.query(`create table tenants (id bigint primary key);
  create table events (id bigint, tenant_id bigint not null references tenants, at date not null, primary key (id, at)) partition by range (at);
  create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
  create table notes (id bigint primary key, tenant_id bigint not null references tenants, "Body" text);
  insert into tenants values (1), (2)`);
const id = suffix();
const roles = {
  owner: (await database.query<{ me: string }>('select current_user as me')).rows[0]?.me ?? '',
  app: `app_${id}`,
  system: `sys_${id}`,
  service: `svc_${id}`,
};
afterAll(async () => {
  for (const role of [roles.app, roles.system, roles.service]) await database.query(`drop owned by ${role}; drop role ${role}`);
});
const model = parseModel({
  tenant: { table: 'public.tenants' },
  roles,
  tables: { 'public.events': { scope: 'scoped', column: 'tenant_id' }, 'public.notes': { scope: 'scoped', column: 'tenant_id' } },
});
const actor = { kind: 'operator', id: 'kari' } as const;

async function left(): Promise<string[]> {
  const { rows } = await database.query<{ name: string }>(
    "select tgname as name from pg_trigger where tgname like '%pw_observe%' union all select policyname from pg_policies where policyname = 'partywall_observe' order by 1",
  );
  return rows.map(({ name }) => name);
}

test('taken down to expanded, tables that were open have no mode and are not watched, and who is observed stays so, which is said', async () => {
  for (const phase of ['expand', 'contract'] as const) await applyWall({ url: database.url, model, phase, skipGate: true });
  const client = await connect(database.url, { purpose: 'test' });
  const change = (wanted: RolloutChange) => changeRollout(client, { model, change: wanted, actor });
  const modes = async () => (await readModes(client)).map(({ scope, target, mode }) => `${scope} ${target} ${mode}`);
  const says = (stays: readonly string[]) => stays.filter((line) => line.startsWith('modes of the roll-out'));
  try {
    await change({ scope: 'all', mode: 'enforce' });
    await change({ scope: 'table', table: 'public.notes', mode: 'observe' });
    expect((await left()).length).toBeGreaterThanOrEqual(10);
    const plan = await rollbackWall({ url: database.url, model, to: 'expanded', dryRun: true });
    expect(plan.steps.map(({ id }) => id)).toEqual(expect.arrayContaining(['rollback/policy/public.notes', 'rollback/watch/public.notes']));
    const ended = await rollbackWall({ url: database.url, model, to: 'expanded' });
    expect([ended.applied, says(ended.stays), await left(), await modes()]).toEqual([plan.steps.map(({ id }) => id), [], [], ['all  enforce']]);

    await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
    await change({ scope: 'percent', percent: 10 });
    await change({ scope: 'table', table: 'public.notes', mode: 'observe' });
    const watched = (await left()).filter((name) => name !== 'partywall_observe');
    expect(says((await rollbackWall({ url: database.url, model, to: 'expanded', dryRun: true })).stays)).toHaveLength(1);
    expect(says((await rollbackWall({ url: database.url, model, to: 'expanded' })).stays)).toHaveLength(1);
    expect([await left(), await modes()]).toEqual([watched, ['all  observe', 'percent 10 enforce']]);
    await change({ scope: 'all', mode: 'enforce' });
    expect(await left()).toEqual([]);
  } finally {
    await client.end();
  }
  await rollbackWall({ url: database.url, model, to: 'nothing' });
});

test('a wall without a control plane, with partitions, is observed before contract and after, and taken down whole while it is', async () => {
  await applyWall({ url: database.url, model, phase: 'expand' });
  const client = await connect(database.url, { purpose: 'test' });
  try {
    const observed = await changeRollout(client, { model, change: { scope: 'all', mode: 'observe' }, actor });
    expect(observed.unfinished).toEqual([]);
    expect((await left()).length).toBeGreaterThanOrEqual(9);
    await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
    await changeRollout(client, { model, change: { scope: 'table', table: 'public.events', mode: 'observe' }, actor });
    const tables = await client.query<{ tables: [number, number, string, boolean][] }>('select partywall.rollout_tables() as tables');
    expect(tables.rows[0]?.tables.map(([, , name, isOpen]) => [name, isOpen]).sort()).toEqual([
      ['public.events', true],
      ['public.events_2026', false],
      ['public.notes', false],
      ['public.tenants', false],
    ]);
    await database.query("begin; select set_config('partywall.observe', 'on', true); insert into events values (1, 2, '2026-05-05'); rollback");
  } finally {
    await client.end();
  }
  await rollbackWall({ url: database.url, model, to: 'nothing' });
  expect(await left()).toEqual([]);
  expect((await database.query("select from pg_namespace where nspname = 'partywall'")).rowCount).toBe(0);
  await database.query("insert into events values (2, 2, '2026-05-05'); insert into notes values (1, 1)");
});
