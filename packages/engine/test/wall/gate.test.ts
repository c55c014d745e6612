import pg from 'pg';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { ident } from '../../src/db/sql.ts';
import { parseModel } from '../../src/model/model.ts';
import { applyWall } from '../../src/wall/apply.ts';
import { describeSession, switchGate } from '../../src/wall/gate.ts';
import { apply, loadOwned, onDatabase, template, testRoles, withCatalogClient } from './databases.ts';
import { stateOf } from './state.ts';

const roles = testRoles();
const model = parseModel({ tenant: { table: 'tenants' }, roles, tables: { users: { scope: 'scoped', column: 'tenant_id' } } });
let expanded: string;
let database: TestDatabase;
const sessions: pg.Client[] = [];

beforeAll(async () => {
  expanded = await template(async (url) => {
    await loadOwned(url, 'create table tenants (id int primary key); create table users (id int primary key, tenant_id int not null)', roles.owner);
    await apply(url, model, 'expand');
  });
});
beforeEach(async () => {
  database = await createDatabase({ template: expanded });
});
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.end();
});

async function session(role: string, application: string): Promise<void> {
  const client = new pg.Client({ connectionString: database.urlAs(role), application_name: application });
  await client.connect();
  sessions.push(client);
}

/** The superuser's session of the test itself is left aside. */
const allow = ['postgres'];
const gate = (names: readonly string[] = allow) => withCatalogClient(database.url, (client) => switchGate(client, model, { allow: names }));

test('the switch has not passed while a session is on the old role, and names it', async () => {
  await session(roles.app, 'new api');
  await session(roles.owner, 'old "api"');
  await session(roles.owner, 'old "api"');
  const report = await gate();
  expect(report).toMatchObject({ passed: false, message: "2 connections are not on the wall's roles yet" });
  expect(report.remaining.map(describeSession)).toEqual([`2 × ${roles.owner} "old \\"api\\"" from 127.0.0.1`]);
  expect(report.switched.map(describeSession)).toEqual([`1 × ${roles.app} "new api" from 127.0.0.1`]);
});

test('the switch has not passed where nobody is on the app role: the application may be down', async () => {
  expect(await gate()).toMatchObject({ passed: false, message: `no connection as ${roles.app} yet: the application has not moved, or is not running` });
});

test('the switch has passed with sessions of the wall’s roles, of Partywall, and of those that may stay', async () => {
  for (const role of [roles.app, roles.system, roles.service]) await session(role, 'any');
  await session(roles.owner, 'partywall doctor');
  expect((await gate([])).passed).toBe(false);
  expect(await gate()).toMatchObject({ passed: true, remaining: [] });
});

test('a reader who may not see others’ statistics takes no session for none', async () => {
  await session(roles.app, 'new api');
  await session(roles.owner, 'old api');
  const blind = testRoles().owner;
  await database.query(`create role ${ident(blind)} login`);
  const report = await onDatabase(database.urlAs(blind), (client) => switchGate(client, model, { allow: [...allow, blind] }));
  expect(report.passed).toBe(false);
  expect(report.remaining.map(({ role, count }) => [role, count])).toEqual([[roles.owner, 1]]);
});

test('contract refuses before the switch, lists who remains, and does nothing; skipGate goes on', async () => {
  await session(roles.app, 'new api');
  await session(roles.owner, 'old api');
  const contract = () => applyWall({ url: database.url, model, phase: 'contract', allow });
  const before = await withCatalogClient(database.url, (client) => stateOf(client));
  await expect(contract()).rejects.toMatchObject({ code: 'switch_incomplete', details: [`1 × ${roles.owner} "old api" from 127.0.0.1`] });
  expect(await withCatalogClient(database.url, (client) => stateOf(client))).toEqual(before);
  await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
  expect((await contract()).applied).toEqual([]);
});

test('contract goes on where the gate has passed, and reports it; later contracts do not ask again', async () => {
  await session(roles.app, 'new api');
  const { gate: passed, applied } = await applyWall({ url: database.url, model, phase: 'contract', allow });
  expect(passed).toMatchObject({ passed: true, switched: [{ role: roles.app, count: 1 }] });
  expect(applied.length).toBeGreaterThan(0);
  await session(roles.owner, 'old api');
  await database.query('alter table users disable row level security');
  const again = await applyWall({ url: database.url, model, phase: 'contract', allow });
  expect(again.applied).toEqual(['contract/policy/public.users']);
  expect(again.gate).toBeUndefined();
});
