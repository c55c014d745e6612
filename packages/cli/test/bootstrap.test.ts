import pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { folder, partywall } from './support/command.ts';

/** The tutoring app: one organisation, and tables that lead nowhere. */
const schema = `
create table organization (id text primary key, name text not null, slug text unique);
create table students (id serial primary key, name text not null);
create table lessons (id serial primary key, student_id int not null references students, at timestamptz not null default now());
create table app_settings (id serial primary key, key text not null unique, value text);
create table global_absences (id serial primary key, date date not null unique);
insert into organization values ('org_bootstrap', 'Tutors', 'tutors');
insert into students (name) select 'student ' || n from generate_series(1, 30) n;
insert into lessons (student_id) select id from students;
insert into app_settings (key, value) values ('theme', 'dark');
insert into global_absences (date) values ('2026-12-25');
`;
const domainTables = ['students', 'lessons', 'app_settings', 'global_absences'];

let database: TestDatabase;
let on: { cwd: string; env: Record<string, string> };
let app: string;

beforeAll(async () => {
  database = await createDatabase();
  await database.query(schema);
  on = { cwd: await folder(), env: { DATABASE_URL: database.url } };
  app = `${database.name}_app`;
});

async function columns(): Promise<unknown[]> {
  const { rows } = await database.query(
    `select table_name as "table", is_nullable as nullable, column_default is not null as "hasDefault" from information_schema.columns
     where table_schema = 'public' and column_name = any($1) order by 1`,
    [['tenant_id', 'organization_id']],
  );
  return rows;
}

async function tenantsOf(table: string): Promise<unknown[]> {
  const { rows } = await database.query(`select tenant_id as tenant, count(*)::int as rows from ${table} group by 1`);
  return rows;
}

test('expand gives every row of a single-tenant database to its tenant, and new rows too', async () => {
  expect(await partywall(['init', '--root', 'public.organization', '--bootstrap', 'org_bootstrap'], on)).toMatchObject({ status: 0 });
  expect(await partywall(['apply', '--phase', 'expand'], on)).toMatchObject({ status: 0 });
  expect(await tenantsOf('students')).toEqual([{ tenant: 'org_bootstrap', rows: 30 }]);
  expect(await tenantsOf('lessons')).toEqual([{ tenant: 'org_bootstrap', rows: 30 }]);
  // The old application knows of no organisation and goes on.
  await database.query("insert into students (name) values ('new')");
  await database.query("insert into app_settings (key, value) values ('language', 'nl') on conflict (key) do nothing");
  expect(await tenantsOf('students')).toEqual([{ tenant: 'org_bootstrap', rows: 31 }]);
  expect(await tenantsOf('app_settings')).toEqual([{ tenant: 'org_bootstrap', rows: 2 }]);
});

test('contract drops the default: an insert without a tenant fails, and a rollback does not bring it back', async () => {
  expect(await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], on)).toMatchObject({ status: 0 });
  expect(await columns()).toEqual(domainTables.toSorted().map((table) => ({ table, nullable: 'NO', hasDefault: true })));
  await expect(database.query("insert into students (name) values ('nobody')")).rejects.toMatchObject({ code: 'PW001' });
  const client = new pg.Client(database.urlAs(app));
  await client.connect();
  await expect(client.query("insert into students (name) values ('nobody')")).rejects.toMatchObject({ code: 'PW001' });
  await expect(client.query("insert into organization values ('x', 'x', 'x')")).rejects.toMatchObject({ code: '42501' });
  await client.end();
  await database.query("insert into organization values ('org_second', 'Second', 'second')");

  // Both organisations may have a setting, and an absence, of the same name and day.
  const second = new pg.Client(database.urlAs(app));
  await second.connect();
  await second.query('begin');
  await second.query("select partywall.enter('org_second')");
  await second.query("insert into app_settings (key, value) values ('theme', 'light')");
  await second.query("insert into global_absences (date) values ('2026-12-25')");
  expect((await second.query('select value from app_settings')).rows).toEqual([{ value: 'light' }]);
  await second.query('rollback');
  await second.end();

  const down = await partywall(['rollback', '--yes'], on);
  expect(down).toMatchObject({ status: 0, stdout: expect.stringContaining('no default tenant') });
  await database.query("insert into students (name) values ('after')");
  expect(await tenantsOf('students')).toEqual(expect.arrayContaining([{ tenant: null, rows: 1 }]));
  expect(await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], on)).toMatchObject({ status: 1 });
});
