import pg from 'pg';
import { afterAll, expect, inject } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../../test/support/database.ts';
import { connect } from '../../src/db/connect.ts';
import { ident } from '../../src/db/sql.ts';
import { parseModel, type TenancyConfig, type TenancyModel } from '../../src/model/model.ts';
import { type ApplyOptions, type ApplyReport, applyWall } from '../../src/wall/apply.ts';
import { rollbackWall } from '../../src/wall/rollback.ts';
import { fixtureModel, fixtureSql, type KeyKind, keyKinds } from './fixture.ts';

export type Roles = TenancyConfig['roles'];

/** Roles of this test file; the cluster has all files'. */
export function testRoles(): Roles {
  const run = suffix();
  return { owner: `owner ${run}`, app: `app"${run}`, system: `system_${run}`, service: `service_${run}` };
}

/** A database to clone, built once and left without connections. */
export async function template(build: (url: string) => Promise<void>, from?: string): Promise<string> {
  const clusterUrl = inject('clusterUrl');
  const name = `tpl_${suffix()}`;
  await onDatabase(clusterUrl, (client) => client.query(`create database ${ident(name)}${from ? ` template ${ident(from)}` : ''}`));
  afterAll(() => onDatabase(clusterUrl, (client) => client.query(`drop database if exists ${ident(name)} with (force)`)));
  const url = new URL(clusterUrl);
  url.pathname = `/${name}`;
  await build(url.toString());
  return name;
}

/** The fixture, owned by `roles.owner`, which is not a superuser. */
export function fixtureTemplate(roles: Roles, key: KeyKind = keyKinds.uuid): Promise<string> {
  return template((url) => loadOwned(url, fixtureSql(key), roles.owner));
}

/** Runs the SQL and hands all it made to `owner`. */
export async function loadOwned(url: string, sql: string, owner: string): Promise<void> {
  await onDatabase(url, async (client) => {
    await client.query(sql);
    await client.query(`do $$ begin create role ${ident(owner)} login; exception when duplicate_object then null; end $$`);
    await client.query(`do $$ declare item record; begin
      for item in select c.oid::regclass as name, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname !~ '^(pg_|information_schema)' and (c.relkind in ('r', 'p', 'v', 'm', 'f') or (c.relkind = 'S' and not exists (select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i')))) loop
        execute format('alter %s %s owner to %I', case item.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table' else 'table' end, item.name, '${owner}');
      end loop;
      for item in select nspname from pg_namespace where nspname !~ '^(pg_|information_schema)' loop
        execute format('alter schema %I owner to %I', item.nspname, '${owner}');
      end loop;
      for item in select p.oid::regprocedure as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname !~ '^(pg_|information_schema)' and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e') loop
        execute format('alter function %s owner to %I', item.name, '${owner}');
      end loop;
    end $$`);
  });
}

export async function onDatabase<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client(url);
  client.on('error', () => undefined); // a test may end the session
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export function apply(url: string, model: TenancyModel, phase: ApplyOptions['phase'], options: Partial<ApplyOptions> = {}): Promise<ApplyReport> {
  return applyWall({ url, model, phase, skipGate: true, ...options });
}

export async function contractAll(url: string, model: TenancyModel): Promise<void> {
  await apply(url, model, 'expand');
  await apply(url, model, 'contract');
}

export function rollback(url: string, model: TenancyModel, to: 'expanded' | 'nothing') {
  return rollbackWall({ url, model, to });
}

/** A client as `connect` of the engine gives it. */
export async function withCatalogClient<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = await connect(url, { purpose: 'test' });
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** A walled fixture of its own: database, model and roles. */
export async function walledFixture(key: KeyKind = keyKinds.uuid): Promise<{ database: TestDatabase; model: TenancyModel; roles: Roles }> {
  const roles = testRoles();
  const model = fixtureModel(roles);
  const database = await createDatabase({ template: await fixtureTemplate(roles, key) });
  await contractAll(database.url, model);
  return { database, model, roles };
}

/** A database with a table `tenants` (ids 1 and 2) and the given tables, and its model. */
export async function small(
  roles: Roles,
  sql: string,
  tables: TenancyConfig['tables'],
  config: Partial<TenancyConfig> = {},
): Promise<{ database: TestDatabase; model: TenancyModel }> {
  const database = await createDatabase();
  await loadOwned(database.url, `create table tenants (id int primary key); insert into tenants values (1), (2); ${sql}`, roles.owner);
  return { database, model: parseModel({ tenant: { table: 'tenants' }, roles, tables, ...config }) };
}

/** Until a session of an apply or rollback waits for a lock that another session holds. */
export async function waitingForLock(database: TestDatabase): Promise<void> {
  const waiting = () =>
    database.query(
      "select from pg_stat_activity where datname = current_database() and application_name like 'partywall%' and cardinality(pg_blocking_pids(pid)) > 0",
    );
  await expect.poll(async () => (await waiting()).rowCount, { timeout: 10_000, interval: 5 }).toBeGreaterThan(0);
}
