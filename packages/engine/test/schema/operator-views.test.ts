import {
  appendAudit,
  applyWall,
  type ControlDatabase,
  connect,
  controlPool,
  installControl,
  parseModel,
  rollbackWall,
  type TenancyModel,
  verify,
} from '@partywall/engine';
import pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { createDatabase, suffix, type TestDatabase } from '../../../../test/support/database.ts';

const fixture = await controlDatabase();
const operator = `operator_${suffix()}`;
const model: TenancyModel = { ...fixture.model, roles: { ...fixture.model.roles, operator } };

async function install(database: TestDatabase, of: TenancyModel): Promise<void> {
  const client = await connect(database.url, { purpose: 'test' });
  await installControl(client, of).finally(() => client.end());
}

async function as(database: TestDatabase, role: string): Promise<pg.Client> {
  // As psql would: the engine's own connections have a search path of their own.
  const client = new pg.Client(database.urlAs(role));
  client.on('error', () => undefined); // the database is dropped with force
  await client.connect();
  afterAll(() => client.end());
  return client;
}

await install(fixture.database, model);
afterAll(async () => void (await fixture.database.query(`drop owned by ${operator}; drop role ${operator}`)));
const client = await as(fixture.database, operator);
const alder = await fixture.tenant('Alder', 'pro');
const birch = await fixture.tenant('Birch', 'free');
await fixture.database.query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 3) n', [alder]);
for (const tenant of [alder, birch, null, 'no key at all']) {
  await appendAudit(fixture.control.pool, fixture.operation(), { tenant, action: 'test.one' });
  await appendAudit(fixture.control.pool, fixture.operation(), { tenant, action: 'test.two', details: { n: 2 } });
}

describe('the documented statements run as written, as the operator role of the model', () => {
  test('tenant status', async () => {
    const { rows } = await client.query(`-- Check tenant status
SELECT id, name, status, plan FROM tenants WHERE id = '${alder}';`);
    expect(rows).toEqual([{ id: alder, name: 'Alder', status: 'active', plan: 'pro' }]);
  });

  test('usage metrics, with a column for each quota that counts rows', async () => {
    const { rows } = await client.query(`-- Check usage metrics
SELECT * FROM tenant_usage_metrics WHERE tenant_id = '${alder}';`);
    expect(rows).toMatchObject([{ tenant_id: alder, customers: '3', users: '0', api_calls: '0', active_users: '0', rows: { 'public.customers': 3 } }]);
    expect(Object.keys(rows[0])).toEqual(expect.arrayContaining(['storage', 'error_rate', 'avg_response_ms', 'connections', 'measured_at']));
  });

  test('recent audit logs', async () => {
    const { rows } = await client.query(`-- View recent audit logs
SELECT * FROM audit_logs 
WHERE tenant_id = '${alder}' 
ORDER BY created_at DESC 
LIMIT 100;`);
    expect(rows.map(({ tenant_id, seq, action, outcome, actor }) => [tenant_id, seq, action, outcome, actor])).toEqual([
      [alder, '2', 'test.two', 'done', 'test'],
      [alder, '1', 'test.one', 'done', 'test'],
    ]);
    expect(rows[0]).toMatchObject({ created_at: expect.any(Date), details: { n: 2 }, chain: alder });
  });

  test('the keys of all three compare with each other, and what has no tenant shows none', async () => {
    const { rows } =
      await client.query(`select t.name, count(*)::int from tenants t join tenant_usage_metrics u on u.tenant_id = t.id join audit_logs a on a.tenant_id = t.id
      group by t.name order by t.name`);
    expect(rows).toEqual([
      { name: 'Alder', count: 2 },
      { name: 'Birch', count: 2 },
    ]);
    const others = await client.query('select chain from audit_logs where tenant_id is null group by chain order by chain');
    expect(others.rows).toEqual([{ chain: '' }, { chain: 'no key at all' }]);
  });
});

test('the operator role reads the views and nothing else', async () => {
  for (const statement of [
    'select * from public.tenants',
    'select * from public.customers',
    'select * from partywall.registry',
    'select * from partywall_control.audit_records',
    'select * from partywall_control.usage_of_all()',
    `select * from partywall_people."user"`,
    `insert into tenants (id) values (gen_random_uuid())`,
    `update tenants set plan = 'enterprise'`,
    'delete from audit_logs',
    `select partywall.enter('${alder}')`,
    `create table partywall.mine ()`,
    `set role ${fixture.model.roles.service}`,
  ]) {
    await expect(client.query(statement), statement).rejects.toThrow(/permission denied|cannot (?:insert|update|delete)/);
  }
});

test('the views are closed to the application, to its system client and to everybody', async () => {
  for (const role of [fixture.model.roles.app, fixture.model.roles.system]) {
    const stranger = await as(fixture.database, role);
    for (const view of ['tenants', 'tenant_usage_metrics', 'audit_logs']) {
      await expect(stranger.query(`select * from partywall.${view}`), `${role} ${view}`).rejects.toThrow('permission denied');
    }
  }
});

test('a tenant and its audit log are found by index', async () => {
  await fixture.database.query(`insert into tenants (name, slug) select 'Many ' || n, 'many-' || n from generate_series(1, 2000) n`);
  await fixture.database.query(`insert into partywall_control.audit_records
    select t.id, n, now(), 'system', 's', null, null, 'test', null, 'done', null, null, '{}', '', '' from public.tenants t, generate_series(10, 20) n`);
  await fixture.database.query('analyze');
  const plan = async (query: string): Promise<string> => {
    const { rows } = await fixture.database.query<{ 'QUERY PLAN': string }>(`explain ${query}`);
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  };
  const status = await plan(`select id, name, status, plan from partywall.tenants where id = '${alder}'`);
  expect(status).toContain('registry_pkey');
  expect(status).not.toMatch(/Seq Scan on (?:registry|directory)/);
  const logs = await plan(`select * from partywall.audit_logs where tenant_id = '${alder}' order by created_at desc limit 100`);
  expect(logs).toContain('audit_records_key_idx');
  expect(logs).not.toContain('Seq Scan');
});

test('verify has nothing against them, and installing again changes nothing', async () => {
  await install(fixture.database, model);
  await install(fixture.database, { ...model, quotas: new Map([['people', { kind: 'rows', table: [...model.tables.keys()][0] ?? model.tenant.table }]]) });
  expect((await client.query('select people from tenant_usage_metrics limit 1')).fields).toHaveLength(1);
  await install(fixture.database, model);
  expect((await client.query(`select name from tenants where id = '${alder}'`)).rows).toEqual([{ name: 'Alder' }]);
  const report = await verify({ model, adminUrl: fixture.database.url, staticOnly: true });
  expect(report.findings.filter(({ target }) => /partywall|operator/.test(target))).toEqual([]);
});

test('where the installing role may not make the operator role, it is refused with what to do, and nothing is half installed', async () => {
  const installer = `installer_${suffix()}`;
  await fixture.database.query(`create role ${installer} login; grant ${model.roles.owner} to ${installer}`);
  afterAll(async () => void (await fixture.database.query(`drop role ${installer}`)));
  const weak = await connect(fixture.database.urlAs(installer), { purpose: 'test' });
  const wanted = { ...model, roles: { ...model.roles, operator: `another_${suffix()}` } };
  await expect(installControl(weak, wanted).finally(() => weak.end())).rejects.toMatchObject({
    code: 'permission_missing',
    hint: expect.stringContaining('CREATEROLE'),
  });
  expect((await client.query('select count(*)::int as n from tenants')).rows[0]).toHaveProperty('n');
});

describe.each([
  ['bigint', '9007199254740993', "'9007199254740993'"],
  ['integer', '7', '7'],
  ['text', 'alder & co', "'alder & co'"],
])('with tenants whose key is %s', (type, key, literal) => {
  test('id and tenant_id are of that type', async () => {
    const { database, control } = await wallOf(type);
    await database.query('insert into tenants (id, name) values ($1, $2)', [key, 'Alder']);
    await appendAudit(control.pool, { database: control, actor: { kind: 'operator', id: 'test' } }, { tenant: key, action: 'test' });
    await appendAudit(control.pool, { database: control, actor: { kind: 'operator', id: 'test' } }, { tenant: null, action: 'test' });
    const { rows } = await database.query(`select t.name, a.action, pg_typeof(t.id)::text as type, pg_typeof(a.tenant_id)::text as other
      from partywall.tenants t join partywall.audit_logs a on a.tenant_id = t.id join partywall.tenant_usage_metrics u on u.tenant_id = t.id where t.id = ${literal}`);
    expect(rows).toEqual([{ name: 'Alder', action: 'test', type, other: type }]);
  });
});

test('the views go with the control plane, and do not keep the wall from being taken down', async () => {
  const { database, model: small } = await wallOf('uuid');
  await database.query('drop schema partywall_control, partywall_people cascade');
  await rollbackWall({ url: database.url, model: small, to: 'nothing' });
  const { rows } = await database.query(`select to_regnamespace('partywall') as left`);
  expect(rows).toEqual([{ left: null }]);
});

/** A wall around two tables, and the control plane over it. */
async function wallOf(type: string): Promise<{ database: TestDatabase; model: TenancyModel; control: ControlDatabase }> {
  const database = await createDatabase();
  await database.query(`create table tenants (id ${type} primary key, name text not null);
    create table items (id bigint generated always as identity primary key, tenant_id ${type} not null references tenants (id))`);
  const id = suffix();
  const { rows } = await database.query<{ owner: string }>('select current_user as owner');
  const roles = { owner: rows[0]?.owner ?? '', app: `app_${id}`, system: `system_${id}`, service: `service_${id}` };
  const small = parseModel({
    tenant: { table: 'public.tenants', profile: { name: 'name' } },
    roles,
    tables: { 'public.items': { scope: 'scoped', column: 'tenant_id' } },
  });
  for (const phase of ['expand', 'contract'] as const) await applyWall({ url: database.url, model: small, phase, skipGate: true });
  await install(database, small);
  const control: ControlDatabase = {
    pool: controlPool(database.urlAs(roles.service), { purpose: 'test' }),
    model: small,
    clock: () => new Date(),
    keyring: fixture.control.keyring,
  };
  afterAll(async () => {
    await control.pool.end();
    for (const role of [roles.app, roles.system, roles.service]) await database.query(`drop owned by ${role}; drop role ${role}`);
  });
  return { database, model: small, control };
}
