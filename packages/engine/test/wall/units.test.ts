import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { parseModel } from '../../src/model/model.ts';
import { applyWall } from '../../src/wall/apply.ts';
import { adviseIndexes } from '../../src/wall/index-advice.ts';
import { planWall } from '../../src/wall/plan.ts';
import { rollbackWall } from '../../src/wall/rollback.ts';
import { recreated, withClient } from '../archive/schema/recreated.ts';
import { build, createUnitDatabase, oddColumn, tenantA, tenantB, type UnitDatabase, units } from './unit-database.ts';

let walled: UnitDatabase;
let app: pg.Client;
beforeAll(async () => {
  walled = await createUnitDatabase();
  app = new pg.Client(walled.appUrl);
  await app.connect();
});
afterAll(() => app.end());

/** Runs statements in a context and rolls back; the rows of the last one. */
async function inside(tenant: string, unit: string | number | undefined, ...statements: string[]): Promise<Record<string, unknown>[]> {
  await app.query('begin');
  try {
    await app.query('select partywall.enter($1, $2)', [tenant, unit ?? null]);
    let rows: Record<string, unknown>[] = [];
    for (const statement of statements) ({ rows } = await app.query(statement));
    return rows;
  } finally {
    await app.query('rollback');
  }
}

async function changed(tenant: string, unit: number | undefined, statement: string): Promise<number> {
  return Number((await inside(tenant, unit, `with changed as (${statement} returning 1) select count(*)::int as n from changed`))[0]?.['n']);
}

const list = (table: string, column: string) => `select coalesce(string_agg(${column}::text, ' ' order by ${column}), '') as seen from ${table}`;
const seen = async (tenant: string, unit: number | undefined, table: string, column: string) => (await inside(tenant, unit, list(table, column)))[0]?.['seen'];
const refused = { code: '42501' };

describe('inside a unit', () => {
  it('rows are those of the unit and of the tenant as a whole', async () => {
    expect(await seen(tenantA, units.a1, 'contracts', 'title')).toBe('a a1');
    expect(await seen(tenantA, units.a2, 'contracts', 'title')).toBe('a a2');
    expect(await seen(tenantA, units.a1, 'assets', 'label')).toBe('a1');
    expect(await seen(tenantA, units.a1, 'events', 'unit_id')).toBe('1');
  });

  it('the units are that one alone, and rows of tables without a unit are all of the tenant', async () => {
    expect(await seen(tenantA, units.a2, 'business_units', 'name')).toBe('a2');
    expect(await seen(tenantA, units.a2, 'lines', 'text')).toBe('a a1 a2');
  });

  it('rows of other units and of the tenant as a whole cannot be changed, locked or deleted', async () => {
    for (const where of [`title = 'a2'`, `title = 'a'`, `business_unit_id is distinct from ${units.a1}`]) {
      expect(await changed(tenantA, units.a1, `update contracts set title = 'x' where ${where}`)).toBe(0);
      expect(await changed(tenantA, units.a1, `delete from contracts where ${where}`)).toBe(0);
      expect(await inside(tenantA, units.a1, `select 1 from contracts where ${where} for update`)).toEqual([]);
    }
    expect(await changed(tenantA, units.a1, `update contracts set title = 'x'`)).toBe(1);
    expect(await changed(tenantA, units.a1, 'delete from contracts')).toBe(1);
    expect(await changed(tenantA, units.a1, 'delete from assets')).toBe(1);
    expect(await changed(tenantA, units.a1, 'delete from events')).toBe(1);
    expect(await changed(tenantA, units.a1, `update business_units set name = 'x'`)).toBe(1);
  });

  it('rows are written for that unit alone: not for another, nor for the tenant as a whole', async () => {
    const insert = (unit: string) => `insert into contracts (tenant_id, business_unit_id, title) values ('${tenantA}', ${unit}, 'new')`;
    await inside(tenantA, units.a1, insert(String(units.a1)));
    await expect(inside(tenantA, units.a1, insert(String(units.a2)))).rejects.toMatchObject(refused);
    await expect(inside(tenantA, units.a1, insert('null'))).rejects.toMatchObject(refused);
    await expect(inside(tenantA, units.a1, insert(String(units.b1)))).rejects.toMatchObject(refused);
    await expect(inside(tenantA, units.a1, `insert into business_units (tenant_id, name) values ('${tenantA}', 'new')`)).rejects.toMatchObject(refused);
  });

  it('no row moves to another unit, to the tenant as a whole, or from there', async () => {
    await expect(inside(tenantA, units.a1, `update contracts set business_unit_id = ${units.a2}`)).rejects.toMatchObject(refused);
    await expect(inside(tenantA, units.a1, 'update contracts set business_unit_id = null')).rejects.toMatchObject(refused);
    expect(await changed(tenantA, units.a1, `update contracts set business_unit_id = ${units.a1} where title = 'a'`)).toBe(0);
    await expect(
      inside(
        tenantA,
        units.a1,
        `insert into contracts (id, tenant_id, business_unit_id, title) overriding system value values (2, '${tenantA}', ${units.a1}, 'mine')
         on conflict (id) do update set business_unit_id = ${units.a1}`,
      ),
    ).rejects.toMatchObject(refused);
  });

  it('of another tenant, of nobody and of no form there is nothing to see and nothing to change', async () => {
    expect(await seen(tenantA, units.b1, 'contracts', 'title')).toBe('a');
    expect(await seen(tenantA, units.b1, 'assets', 'label')).toBe('');
    expect(await changed(tenantA, units.b1, 'delete from contracts')).toBe(0);
    expect(await seen(tenantB, units.a1, 'assets', 'label')).toBe('');
    expect(await seen(tenantA, 99, 'assets', 'label')).toBe('');
    for (const garbage of ['', 'x', '1,2', '1 or true', '2147483648'])
      await expect(inside(tenantA, garbage, 'select 1')).rejects.toMatchObject({ code: /^22/ });
  });

  it('a transaction stays in its unit', async () => {
    for (const other of [`'${units.a2}'`, 'null']) {
      await expect(inside(tenantA, units.a1, `select partywall.enter('${tenantA}', ${other})`)).rejects.toMatchObject({ code: 'PW007' });
    }
    await expect(inside(tenantA, undefined, `select partywall.enter('${tenantA}', '${units.a1}')`)).rejects.toMatchObject({ code: 'PW007' });
  });
});

describe('outside units', () => {
  it('a tenant sees all its units and moves rows between them', async () => {
    expect(await seen(tenantA, undefined, 'contracts', 'title')).toBe('a a1 a2');
    expect(await seen(tenantA, undefined, 'assets', 'label')).toBe('a1 a2');
    expect(await seen(tenantB, undefined, 'business_units', 'name')).toBe('b1 b2');
    expect(await changed(tenantA, undefined, `update contracts set business_unit_id = ${units.a2}`)).toBe(3);
    expect(await changed(tenantA, undefined, 'delete from contracts')).toBe(3);
  });

  it('a row cannot name the unit of another tenant', async () => {
    const insert = `insert into contracts (tenant_id, business_unit_id, title) values ('${tenantA}', ${units.b1}, 'new')`;
    await expect(inside(tenantA, undefined, insert)).rejects.toMatchObject({ code: '23503' });
  });

  it('a session without a context sees nothing, by the same error as anywhere', async () => {
    await expect(app.query('select 1 from contracts')).rejects.toMatchObject({ code: 'PW001' });
    await expect(app.query('select 1 from business_units')).rejects.toMatchObject({ code: 'PW001' });
  });
});

it('a query inside a unit is answered from the indexes of its tenant, and asks for the unit once', async () => {
  await app.query('begin');
  await app.query('set local enable_seqscan = off');
  await app.query('select partywall.enter($1, $2)', [tenantA, String(units.a1)]);
  const { rows } = await app.query<{ 'QUERY PLAN': string }>('explain (costs off) select * from contracts where business_unit_id = 1');
  await app.query('rollback');
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
  // As a filter the tenant would be looked for in every row of the table.
  expect(plan).toMatch(/Index Cond: \(+tenant_id = /);
  expect(plan).not.toMatch(/Filter: .*tenant_id/);
  // Read once for the statement, not for every row of the tenant.
  expect(plan).toContain('InitPlan');
  expect(plan).not.toMatch(/Filter: .*current_setting/);
});

it('an index that leads with tenant and unit is advised where there is none', async () => {
  const admin = new pg.Client(walled.database.url);
  await admin.connect();
  try {
    const { missing } = await adviseIndexes(admin, walled.model);
    const statements = missing.filter(({ reason }) => reason.includes('unit')).map(({ statement }) => statement);
    expect(statements).toContain(`create index concurrently on "public"."assets" ("tenant_id", "${oddColumn.replaceAll('"', '""')}")`);
    expect(statements.join('\n')).not.toContain('"contracts"');
  } finally {
    await admin.end();
  }
});

describe('the policies', () => {
  const policies = async () =>
    (
      await walled.database.query<{ table: string; policy: string }>(
        `select c.relname as table, string_agg(p.polcmd::text || case when p.polpermissive then ' admits' else ' narrows' end, ', ' order by p.polcmd, p.polpermissive) as policy
         from pg_policy p join pg_class c on c.oid = p.polrelid group by 1 order by 1`,
      )
    ).rows.map((row) => `${row.table}: ${row.policy}`);
  const wanted = [
    'assets: * narrows, * admits',
    'business_units: * narrows, * admits',
    'contracts: * narrows, * admits, d narrows, w narrows',
    'events: * narrows, * admits, d narrows, w narrows',
    'events_2026: * narrows, * admits, d narrows, w narrows',
    'lines: * admits',
    'tenants: * admits',
  ];

  async function plan(model = walled.model): Promise<string[]> {
    const admin = new pg.Client(walled.database.url);
    await admin.connect();
    try {
      const { steps, blockers } = planWall(model, await readCatalog(admin));
      return [...blockers.map(({ table, message }) => `${table}: ${message}`), ...steps.map(({ id }) => id)];
    } finally {
      await admin.end();
    }
  }

  it('are one for each table whose unit is certain, three where it may be none, and planned once', async () => {
    expect(await policies()).toEqual(wanted);
    expect(await plan()).toEqual([]);
  });

  it('come back with the schema of a backup as they were', async () => {
    const { target } = await recreated(walled.database);
    const { steps, blockers } = planWall(walled.model, await withClient(target.url, readCatalog));
    expect(blockers).toEqual([]);
    expect(steps.map(({ id }) => id).filter((id) => id.startsWith('contract/policy'))).toEqual([]);
  });

  it('are made again where one is gone, weaker, or not restrictive', async () => {
    const { query } = walled.database;
    const { rows } = await query<{ name: string }>("select polname as name from pg_policy where polrelid = 'assets'::regclass and not polpermissive");
    const name = `"${rows[0]?.name}"`;
    for (const broken of [
      `drop policy ${name} on assets`,
      `alter policy ${name} on assets using (true)`,
      `alter policy ${name} on assets with check (true)`,
      `alter policy ${name} on assets to ${walled.model.roles.system}`,
      `drop policy ${name} on assets; create policy ${name} on assets using (true)`,
    ]) {
      await query(broken);
      expect(await plan(), broken).toEqual(['contract/policy/public.assets']);
      await applyWall({ url: walled.database.url, model: walled.model, phase: 'contract', skipGate: true });
      expect(await policies(), broken).toEqual(wanted);
    }
  });

  it('follow the column where it comes to take NULL', async () => {
    await walled.database.query(`alter table assets alter column "${oddColumn.replaceAll('"', '""')}" drop not null`);
    expect(await plan()).toEqual(['contract/policy/public.assets']);
    await walled.database.query(`alter table assets alter column "${oddColumn.replaceAll('"', '""')}" set not null`);
    expect(await plan()).toEqual([]);
  });

  it('are not planned on a column that is not there or of another type', async () => {
    const { contracts, ...tables } = walled.config.tables;
    const other = (unit: string) => parseModel({ ...walled.config, tables: { ...tables, contracts: { ...contracts, unit } } });
    expect(await plan(other('nothing'))).toEqual(['public.contracts: the unit column "nothing" is not there']);
    expect(await plan(other('title'))).toEqual(['public.contracts: "title" has type text, the key of the units integer']);
  });

  it('go with the units of the model, and come with them', async () => {
    const { unit: _, ...config } = walled.config;
    const tables = Object.fromEntries(Object.entries(config.tables).map(([table, rule]) => [table, { ...rule, unit: undefined }]));
    const plain = parseModel({ ...config, tables });
    await build(walled.database, plain);
    expect((await policies()).filter((line) => line.includes('narrows'))).toEqual([]);
    expect(await plan(plain)).toEqual([]);
    expect(await seen(tenantA, units.a1, 'contracts', 'title')).toBe('a a1 a2');
    await build(walled.database, walled.model);
    expect(await policies()).toEqual(wanted);
    expect(await plan()).toEqual([]);
    expect(await seen(tenantA, units.a1, 'contracts', 'title')).toBe('a a1');
  });

  it('go with a rollback, and come back with apply', async () => {
    await rollbackWall({ url: walled.database.url, model: walled.model, to: 'nothing' });
    expect(await policies()).toEqual([]);
    await build(walled.database, walled.model);
    expect(await policies()).toEqual(wanted);
  });
});
