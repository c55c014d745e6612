import { describe, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { parseModel, type TenancyConfig, type TenancyModel } from '../../src/model/model.ts';
import { apply, loadOwned, onDatabase, rollback, testRoles } from './databases.ts';
import { stateOf } from './state.ts';

const roles = testRoles();
const home = '11111111-1111-4111-8111-111111111111';

const tables: TenancyConfig['tables'] = {
  students: { scope: 'scoped', column: 'organization_id', through: [] },
  lessons: { scope: 'scoped', column: 'organization_id', through: { table: 'students', columns: 'student_id' } },
  app_settings: { scope: 'scoped', column: 'organization_id', through: [], uniques: { app_settings_key_key: 'per tenant' } },
};

async function single(bootstrap: string | number = home, config: Partial<TenancyConfig> = {}): Promise<{ database: TestDatabase; model: TenancyModel }> {
  const database = await createDatabase();
  await loadOwned(
    database.url,
    `create table organizations (id uuid primary key, name text); insert into organizations values ('${home}', 'home');
     create table students (id int primary key, name text); insert into students select i, i::text from generate_series(1, 50) i;
     create table lessons (id int primary key, student_id int references students); insert into lessons values (1, 1), (2, null);
     create table app_settings (key text unique, value text); insert into app_settings values ('theme', 'dark');`,
    roles.owner,
  );
  return { database, model: parseModel({ tenant: { table: 'organizations' }, roles, tables, bootstrap, ...config }) };
}

async function columnDefault(database: TestDatabase, table: string): Promise<{ nullable: string; text: string | null }> {
  const { rows } = await database.query<{ nullable: string; text: string | null }>(
    "select is_nullable as nullable, column_default as text from information_schema.columns where table_name = $1 and column_name = 'organization_id'",
    [table],
  );
  return rows[0] ?? { nullable: 'absent', text: null };
}

describe('a database with one tenant', () => {
  test('gets its columns filled at once and new rows by default, until contract', async () => {
    const { database, model } = await single();
    const { troubled } = await apply(database.url, model, 'expand');
    expect(troubled).toEqual([]);
    expect((await columnDefault(database, 'students')).text).toContain(home);
    await onDatabase(database.urlAs(roles.owner), (client) =>
      client.query("insert into students values (100, 'new'); insert into lessons values (3, 100), (4, null); insert into app_settings values ('lang', 'de')"),
    );
    for (const table of ['students', 'lessons', 'app_settings']) {
      expect((await database.query(`select distinct organization_id from ${table}`)).rows, table).toEqual([{ organization_id: home }]);
    }
  });

  test('has no default after contract: without an organisation inserts fail, with one they go on', async () => {
    const { database, model } = await single();
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
    for (const table of ['students', 'lessons', 'app_settings']) {
      expect(await columnDefault(database, table), table).toEqual({ nullable: 'NO', text: 'partywall.tenant_id()' });
    }
    await onDatabase(database.urlAs(roles.app), async (client) => {
      for (const statement of ["insert into students values (101, 'x')", 'insert into lessons values (9, 1)', "insert into app_settings values ('a', 'b')"]) {
        await expect(client.query(statement), statement).rejects.toMatchObject({ code: 'PW001' });
      }
      await client.query(`begin; select partywall.enter('${home}'); insert into students values (101, 'x'); insert into app_settings values ('a', 'b')`);
      expect((await client.query('select count(*)::int as n from students')).rows).toEqual([{ n: 51 }]);
      await client.query('commit');
    });
    await expect(database.query("insert into students values (102, 'x', null)")).rejects.toMatchObject({ code: '23502' });
    expect((await database.query("select pg_get_constraintdef(oid) as definition from pg_constraint where conname = 'app_settings_key_key'")).rows).toEqual([
      { definition: 'UNIQUE (organization_id, key)' },
    ]);
  });

  test('that gets a second tenant before contract gives it its own rows', async () => {
    const { database, model } = await single();
    await apply(database.url, model, 'expand');
    const other = '22222222-2222-4222-8222-222222222222';
    await database.query('insert into organizations values ($1)', [other]);
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query(
        `begin; select partywall.enter('${other}'); insert into students values (200, 'theirs'); insert into lessons values (20, 200), (21, null); commit`,
      );
    });
    expect(
      (
        await database.query(
          'select distinct organization_id from (select organization_id from students where id = 200 union all select organization_id from lessons where id in (20, 21)) t',
        )
      ).rows,
    ).toEqual([{ organization_id: other }]);
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
  });

  test('does not get its default back by a rollback, nor by the expand after it', async () => {
    const { database, model } = await single();
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
    const { stays } = await rollback(database.url, model, 'expanded');
    expect(stays.some((line) => line.startsWith('no default tenant'))).toBe(true);
    for (const again of [false, true]) {
      if (again) await apply(database.url, model, 'expand');
      for (const table of ['students', 'lessons', 'app_settings']) expect(await columnDefault(database, table), table).toEqual({ nullable: 'YES', text: null });
      await onDatabase(database.urlAs(roles.owner), (client) => client.query(`insert into lessons values (${again ? 51 : 50}, null)`));
    }
    expect((await database.query('select organization_id from lessons where id in (50, 51)')).rows).toEqual([
      { organization_id: null },
      { organization_id: null },
    ]);
  });

  test('that has contracted takes no later table without a way to its tenant', async () => {
    const { database, model } = await single();
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
    await database.query('create table resources (id int primary key); insert into resources values (1)');
    const later = parseModel({
      tenant: { table: 'organizations' },
      roles,
      bootstrap: home,
      tables: { ...tables, resources: { scope: 'scoped', column: 'organization_id', through: [] } },
    });
    await expect(apply(database.url, later, 'expand')).rejects.toMatchObject({
      code: 'wall_blocked',
      details: ['public.resources: goes through nothing, and the bootstrap tenant ended with contract; name a way to the tenant'],
    });
  });
});

describe('a tenant column of the application’s own', () => {
  test('loses the default that made one tenant everybody’s, keeps one that is an expression, and a rollback brings no tenant back', async () => {
    const database = await createDatabase();
    await loadOwned(
      database.url,
      `create table organizations (id uuid primary key); insert into organizations values ('${home}');
       create table students (id int primary key, organization_id uuid not null default '${home}' references organizations);
       create table lessons (id int primary key, organization_id uuid not null default current_setting('app.organization')::uuid references organizations);`,
      roles.owner,
    );
    const owned = { scope: 'scoped', column: 'organization_id' } as const;
    const model = parseModel({ tenant: { table: 'organizations' }, roles, tables: { students: owned, lessons: owned } });
    await apply(database.url, model, 'expand');
    expect((await columnDefault(database, 'students')).text).toContain(home);
    await apply(database.url, model, 'contract');
    expect((await columnDefault(database, 'students')).text).toBeNull();
    expect((await columnDefault(database, 'lessons')).text).toContain('current_setting');
    expect((await apply(database.url, model, 'contract')).applied).toEqual([]);
    await rollback(database.url, model, 'nothing');
    expect((await columnDefault(database, 'students')).text).toBeNull();
  });
});

describe('a bootstrap tenant that cannot be it is one clear error, and nothing is done:', () => {
  test.each([
    ['mistyped', `${home.slice(0, -1)}2`, 'looking for the bootstrap tenant: public.organizations has no row "11111111-1111-4111-8111-111111111112"'],
    ['of another type', 'home', 'looking for the bootstrap tenant: "home" is not a uuid'],
    ['a number', 7, 'looking for the bootstrap tenant: "7" is not a uuid'],
    ['with a quote in it', "x' or true --", `looking for the bootstrap tenant: "x' or true --" is not a uuid`],
  ])('%s', async (_, bootstrap, message) => {
    const { database, model } = await single(bootstrap);
    await onDatabase(database.url, async (client) => {
      const before = await stateOf(client);
      for (const dryRun of [true, false])
        await expect(apply(database.url, model, 'expand', { dryRun })).rejects.toMatchObject({ code: 'model_invalid', message });
      expect(await stateOf(client)).toEqual(before);
    });
  });

  test('one of several', async () => {
    const { database, model } = await single();
    await database.query("insert into organizations values (gen_random_uuid(), 'another')");
    await onDatabase(database.url, async (client) => {
      const before = await stateOf(client);
      await expect(apply(database.url, model, 'expand')).rejects.toMatchObject({
        code: 'model_invalid',
        message: 'filling new columns with the bootstrap tenant: public.organizations has 1 more tenant, whose rows would become its own',
      });
      expect(await stateOf(client)).toEqual(before);
    });
  });

  test('none, for a table that goes through nothing', () => {
    expect(() => parseModel({ tenant: { table: 'organizations' }, roles, tables })).toThrow('goes through nothing and there is no bootstrap tenant');
  });
});
