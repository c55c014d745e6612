import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { ident } from '../../src/db/sql.ts';
import { parseModel } from '../../src/model/model.ts';
import { planWall } from '../../src/wall/plan.ts';
import { apply, contractAll, fixtureTemplate, onDatabase, template, testRoles, withCatalogClient } from './databases.ts';
import { fixtureConfig, fixtureModel } from './fixture.ts';

const roles = testRoles();
const model = fixtureModel(roles);
let walled: string;
let database: TestDatabase;
beforeAll(async () => {
  walled = await template((url) => contractAll(url, model), await fixtureTemplate(roles));
});
beforeEach(async () => {
  database = await createDatabase({ template: walled });
});

const tenantA = '00000000-0000-4000-8000-00000000000a';

/** Runs statements as the tables' owner; returns the notices. */
async function asOwner(...statements: string[]): Promise<string[]> {
  const notices: string[] = [];
  await onDatabase(database.urlAs(roles.owner), async (client) => {
    client.on('notice', (notice) => notices.push(notice.message ?? ''));
    for (const statement of statements) await client.query(statement);
  });
  return notices;
}

async function inTenant<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  return onDatabase(database.urlAs(roles.app), async (client) => {
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenantA]);
    return work(client);
  });
}

describe('a table that is made after contract', () => {
  test.each([
    ['created', 'create table visits (id int)', 'visits'],
    ['created from a query', 'create table visits as select 1 as id', 'visits'],
    ['selected into', 'select 1 as id into visits', 'visits'],
    [
      'created with a name that needs quotes, in another schema of the model',
      `create table "Sales Dept"."it's ""%I"" $$" (id int)`,
      `"Sales Dept"."it's ""%I"" $$"`,
    ],
    ['created by a function', 'do $$ begin create table visits (id int); end $$', 'visits'],
    ['created inside a transaction that goes on', 'begin; create table visits (id int); insert into visits values (1); commit', 'visits'],
  ])('%s is closed to the application, also where it had standing grants, and says so', async (_, statement, name) => {
    await database.query(`alter default privileges for role ${ident(roles.owner)} grant all on tables to public, ${ident(roles.app)}`);
    const notices = await asOwner(statement);
    expect(notices).toEqual([expect.stringMatching(/^partywall: .* is not in the tenancy model yet, so the application cannot use it$/)]);
    await expect(
      inTenant((client) => client.query(`select from ${name}`)),
      name,
    ).rejects.toMatchObject({ code: '42501' });
    expect((await database.query('select relrowsecurity as rls from pg_class where oid = $1::regclass', [name])).rows).toEqual([{ rls: true }]);
    await expect(apply(database.url, model, 'contract')).rejects.toMatchObject({ code: 'wall_blocked' });
  });

  test('that is a materialised view or a foreign table is closed too', async () => {
    await database.query(
      `alter default privileges for role ${ident(roles.owner)} grant all on tables to ${ident(roles.app)}; create foreign data wrapper none; create server nowhere foreign data wrapper none; grant usage on foreign server nowhere to ${ident(roles.owner)}`,
    );
    await database.query(`alter role ${ident(roles.owner)} bypassrls`);
    await asOwner('create materialized view sums as select count(*) from contacts', 'create foreign table far (id int) server nowhere');
    await database.query(`alter role ${ident(roles.owner)} nobypassrls`);
    const { rows } = await database.query("select has_table_privilege($1, 'sums', 'select') as sums, has_table_privilege($1, 'far', 'select') as far", [
      roles.app,
    ]);
    expect(rows).toEqual([{ sums: false, far: false }]);
  });

  test('in a schema of its own, or a temporary one, is left alone', async () => {
    await database.query(`create schema elsewhere authorization ${ident(roles.owner)}; grant temporary on database ${ident(database.name)} to public`);
    const notices = await asOwner('create table elsewhere.visits (id int)', 'create temporary table visits (id int)');
    expect(notices).toEqual([]);
    expect((await database.query("select relrowsecurity as rls from pg_class where oid = 'elsewhere.visits'::regclass")).rows).toEqual([{ rls: false }]);
  });

  test('is walled by the next apply when the model knows it', async () => {
    await asOwner(
      'create table visits (id int primary key, customer_id int not null references customers, note text)',
      'insert into visits values (1, 1), (2, 3)',
    );
    const config = fixtureConfig(roles);
    const known = parseModel({ ...config, tables: { ...config.tables, visits: { scope: 'scoped', through: { table: 'customers', columns: 'customer_id' } } } });
    expect((await apply(database.url, known, 'expand')).troubled).toEqual([]);
    await apply(database.url, known, 'contract', { skipGate: false });
    expect(planWall(known, await withCatalogClient(database.url, readCatalog)).steps).toEqual([]);
    await inTenant(async (client) => {
      expect((await client.query('select id from visits')).rows).toEqual([{ id: 1 }]);
      expect((await client.query('insert into visits values (3, 2) returning tenant_id')).rows).toEqual([{ tenant_id: tenantA }]);
      await expect(client.query('insert into visits values (4, 3)')).rejects.toMatchObject({ code: '23503' });
    });
  });
});

describe('a new part of a walled table', () => {
  test.each([
    ['a partition', "create table events_2030 partition of events for values from ('2030-01-01') to ('2031-01-01')", 'events_2030'],
    [
      'a partition in a schema of its own',
      "create table old.events_2031 partition of events for values from ('2031-01-01') to ('2032-01-01')",
      'old.events_2031',
    ],
    [
      'a partition that is partitioned',
      "create table events_2032 partition of events for values from ('2032-01-01') to ('2033-01-01') partition by list (kind)",
      'events_2032',
    ],
    ['an inheritance child', 'create table boats (length int) inherits (assets)', 'boats'],
  ])('%s has its policy in the statement that makes it', async (_, statement, name) => {
    await database.query(`create schema old authorization ${ident(roles.owner)}`);
    expect(await asOwner(statement)).toEqual([]);
    const { rows } = await database.query(
      `select c.relrowsecurity as rls, c.relforcerowsecurity as forced, array(select polname::text from pg_policy where polrelid = c.oid) as policies,
        has_table_privilege($2, c.oid, 'select, insert, update, delete') as open from pg_class c where c.oid = $1::regclass`,
      [name, roles.app],
    );
    expect(rows).toEqual([{ rls: true, forced: true, policies: [expect.stringMatching(/^partywall_/)], open: false }]);
    if (name !== 'boats')
      expect(planWall(model, await withCatalogClient(database.url, readCatalog)).steps.map(({ id }) => id)).toEqual(['expand/grants', 'contract/done']);
  });

  test('takes the application’s rows through its parent, and shows each tenant its own', async () => {
    await asOwner("create table events_2030 partition of events for values from ('2030-01-01') to ('2031-01-01')");
    await inTenant(async (client) => {
      await client.query("insert into events (at, kind, customer_id) values ('2030-05-05', 'a', 1)");
      expect((await client.query("select kind, tenant_id from events where at > '2030-01-01'")).rows).toEqual([{ kind: 'a', tenant_id: tenantA }]);
      await client.query('commit');
    });
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query("begin; select partywall.enter('00000000-0000-4000-8000-00000000000b')");
      expect((await client.query("select from events where at > '2030-01-01'")).rowCount).toBe(0);
    });
  });
});

test('a model with another schema, or a trigger that somebody disabled, brings the trigger up to date', async () => {
  await database.query('alter event trigger partywall_new_tables disable; create schema more');
  const config = fixtureConfig(roles);
  const wider = parseModel({ ...config, schemas: [...(config.schemas ?? []), 'more'] });
  expect((await apply(database.url, model, 'contract')).applied).toEqual(['contract/new-tables']);
  expect((await apply(database.url, wider, 'contract')).applied).toContain('contract/new-tables');
  expect(await asOwner('create table public.visits (id int)')).toHaveLength(1);
  await database.query('create table more.visits (id int)');
  expect((await database.query("select relrowsecurity as rls from pg_class where oid = 'more.visits'::regclass")).rows).toEqual([{ rls: true }]);
});
