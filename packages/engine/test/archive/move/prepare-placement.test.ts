import { afterAll, expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase } from '../../../../../test/support/database.ts';
import {
  awaitOperation,
  controlPool,
  finishMove,
  inProcess,
  moveKind,
  moveTenant,
  moveWork,
  placementsOf,
  preparePlacement,
  systemDatabaseName,
  tableName,
  verifyAudit,
} from '../../../src/index.ts';
import { plainCatalog } from '../schema/recreated.ts';
import { contents, furnish, others, schema, tables } from './moving.ts';

const first = await controlDatabase({
  schema: `${schema} create table migrations_done (id int generated always as identity primary key, name text not null); insert into migrations_done (name) values ('one'), ('two');`,
  tables: { ...tables, 'public.migrations_done': { scope: 'platform' } },
});
// Made here, so that they are gone before the roles that own things in them.
const [own, foreign, cut] = [await createDatabase(), await createDatabase(), await createDatabase()];
afterAll(async () => {
  for (const { url } of [own, cut]) await first.database.query(`drop database if exists "${systemDatabaseName(new URL(url).pathname.slice(1))}" with (force)`);
});
await first.database.query("insert into continents values ('EU', E'Euro\\tpe'), ('AS', 'Asia')");
await first.database.query("insert into currencies values ('NOK', 'EU', 'Krone')");
await first.database.query(
  `insert into partywall_control.plans select 'custom', 'Custom', tier, limits, requests_per_minute, retention_days, audit_retention_days from partywall_control.plans where name = 'pro'`,
);
await furnish(first, 'Neighbour', 5);
const placementUrl = Object.assign(new URL(first.urls.service), { pathname: new URL(own.url).pathname }).toString();
const migrations = tableName('public', 'migrations_done');

test('makes an empty database ready without a row of any tenant, and a tenant moves there, is written, and comes back', async () => {
  const planned = await preparePlacement(first.operation(), { into: own.url, also: [migrations], dryRun: true });
  expect(planned).toMatchObject({ found: 'empty', applied: false, findings: null });
  expect(planned.tables).toContainEqual({ table: 'public.continents', rows: 2 });
  expect((await own.query("select from pg_namespace where nspname like 'partywall%'")).rowCount).toBe(0);

  const report = await preparePlacement(first.operation(), { into: own.url, also: [migrations] });
  expect(report).toMatchObject({ found: 'empty', applied: true, findings: [], systemDatabase: true });
  expect(await plainCatalog(own.url)).toEqual(await plainCatalog(first.database.url));
  expect((await own.query('select * from continents order by code')).rows).toEqual((await first.database.query('select * from continents order by code')).rows);
  expect((await own.query("select from partywall_control.plans where name = 'custom'")).rowCount).toBe(1);
  expect((await own.query("insert into migrations_done (name) values ('three') returning id")).rows).toEqual([{ id: 3 }]);
  for (const table of [
    'tenants',
    'customers',
    'users',
    'partywall.registry',
    'partywall_control.directory',
    'partywall_control.audit_records',
    'partywall_people."user"',
  ])
    expect((await own.query(`select from ${table}`)).rowCount, table).toBe(0);

  const pool = controlPool(placementUrl, { purpose: 'test' });
  const there = { ...first, database: own, operation: () => first.operation({ database: { ...first.control, pool } }) };
  const placements = placementsOf({ PARTYWALL_PLACEMENT_OWN: placementUrl });
  const durable = inProcess(first.control, { [moveKind]: moveWork(placements) });
  afterAll(async () => {
    await durable.stop();
    await placements.close();
    await pool.end();
  });
  const move = async (tenant: string, to?: string) => {
    const { id } = await moveTenant(first.operation(), durable, { tenant, to, graceSeconds: 0, placements });
    expect(await awaitOperation(first.operation(), id, { timeoutMs: 60_000 })).toMatchObject({ state: 'done', error: null });
    await finishMove(first.operation(), placements, { tenant });
  };
  const tenant = await furnish(first, 'Traveller', 10);
  const [whole, before] = [await contents(first, tenant), await others(first, [tenant])];
  await move(tenant, 'own');
  expect(await contents(there, tenant)).toEqual(whole);
  await own.query("insert into customers (tenant_id, name) select $1, 'new ' || n from generate_series(1, 3) n", [tenant]);
  await own.query('insert into invoices (tenant_id, amount) values ($1, 5)', [tenant]);
  const grown = await contents(there, tenant);
  await move(tenant);
  expect(await contents(first, tenant)).toEqual(grown);
  expect(await others(first, [tenant])).toEqual(before);
  for (const each of [first, there]) expect((await verifyAudit(each.operation())).faults).toEqual([]);

  // Asked for again: it is the same, and what has come since comes along.
  await first.database.query(
    `insert into partywall_control.plans select 'newer', 'Newer', tier, limits, requests_per_minute, retention_days, audit_retention_days from partywall_control.plans where name = 'pro'`,
  );
  await own.query("update partywall_control.plans set title = 'Other here' where name = 'custom'");
  const again = await preparePlacement(first.operation(), { into: own.url });
  expect(again).toMatchObject({ found: 'same', findings: [] });
  expect(again.tables.filter(({ rows }) => rows > 0)).toEqual([{ table: 'partywall_control.plans', rows: 1 }]);
  expect((await own.query("select title from partywall_control.plans where name = 'custom'")).rows).toEqual([{ title: 'Other here' }]);
});

test('refuses a database that holds anything else, names what differs, and changes nothing there', async () => {
  await foreign.query('create table tenants (id uuid primary key, name text not null); create table other (id int)');
  await expect(preparePlacement(first.operation(), { into: foreign.url })).rejects.toMatchObject({
    code: 'move_refused',
    details: expect.arrayContaining([expect.stringMatching(/table public\.tenants is another one there|is not there/)]),
  });
  expect((await foreign.query("select from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'")).rowCount).toBe(2);
  expect((await foreign.query("select from pg_namespace where nspname like 'partywall%'")).rowCount).toBe(0);
  await expect(preparePlacement(first.operation(), { into: own.url, also: [tableName('public', 'customers')] })).rejects.toMatchObject({
    code: 'move_refused',
  });
});

test('goes on after it was cut off anywhere', async () => {
  for (const at of [3, 40, 90, 150, 220]) {
    const stop = new AbortController();
    let steps = 0;
    const onProgress = (): void => {
      steps += 1;
      if (steps === at) stop.abort();
    };
    await preparePlacement(first.operation(), { into: cut.url }, { signal: stop.signal, onProgress }).catch((error: unknown) => {
      if (!stop.signal.aborted) throw error;
    });
  }
  expect(await preparePlacement(first.operation(), { into: cut.url })).toMatchObject({ applied: true, findings: [] });
  expect(await plainCatalog(cut.url)).toEqual(await plainCatalog(first.database.url));
  expect((await cut.query('select from continents')).rowCount).toBe(2);
});
