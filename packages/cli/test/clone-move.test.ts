import { applyWall, connect, createSystemDatabase, installControl, systemDatabaseName } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const [other, fresh, odd] = [await createDatabase(), await createDatabase(), await createDatabase()];
await odd.query('create table odd (id int)');
const acme = '11111111-1111-4111-8111-111111111111';
const placement = other.urlAs(on.roles.service);
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari', PARTYWALL_PLACEMENT_ACME: placement } };
const run = (...args: string[]) => partywall(args, operator);

afterAll(async () => {
  for (const { url } of [fresh, on.database])
    await on.database.query(`drop database if exists "${systemDatabaseName(new URL(url).pathname.slice(1))}" with (force)`);
});

await other.query(`
create table tenants (id uuid primary key, name text not null);
create table customers (id bigint generated always as identity primary key, tenant_id uuid not null references tenants, email text not null, unique (email));
create table notes (id bigint generated always as identity primary key, customer_id bigint not null references customers on delete cascade, body text not null);
create table countries (code text primary key, name text not null)`);
for (const phase of ['expand', 'contract'] as const) await applyWall({ url: other.url, model: on.model, phase, skipGate: true });
const client = await connect(other.url, { purpose: 'test' });
await installControl(client, on.model).finally(() => client.end());

test('a tenant is cloned after its plan was read, and asked for again it is found', async () => {
  const plan = await run('clone', acme, '--name', 'Copy', '--dry-run');
  expect(plan).toMatchObject({ status: 0, stdout: expect.stringMatching(/would clone tenant[\s\S]*public\.customers: 20 rows\n {4}id: new, by/) });
  const done = json(await run('clone', acme, '--name', 'Copy', '--json'));
  expect(done).toMatchObject({ source: acme, created: true, tenant: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  expect(await run('clone', acme, '--name', 'copy')).toMatchObject({ status: 0, stdout: expect.stringContaining('is there already') });
  expect(await run('clone', 'nobody', '--name', 'Other')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is none') });
});

test('a tenant moves after the plan was read and confirmed, and its old rows go when they are finished', async () => {
  const plan = await run('move', acme, '--to', 'acme', '--dry-run');
  expect(plan).toMatchObject({ status: 0, stdout: expect.stringContaining('public.customers: 20 rows') });
  expect(await run('move', acme, '--to', 'acme')).toMatchObject({ status: 2, stderr: expect.stringContaining('not confirmed, nothing was changed') });
  expect(await run('move', acme, '--to', 'nowhere', '--yes')).toMatchObject({ status: 2, stderr: expect.stringContaining('PARTYWALL_PLACEMENT_NOWHERE') });
  const moved = json(await run('move', acme, '--to', 'acme', '--grace', '1h', '--yes', '--json'));
  expect(moved).toMatchObject({ tenant: acme, placement: 'acme', direction: 'out', state: 'switched', graceSeconds: 3_600, rows: 81 });
  expect((await other.query('select from customers')).rowCount).toBe(20);
  expect(await run('move', 'finish', acme, '--yes')).toMatchObject({ status: 1, stderr: expect.stringContaining('their grace lasts until') });
  expect(await run('move', 'finish', '--due', '--yes')).toMatchObject({ status: 0, stdout: expect.stringContaining('visited 0 of 0') });
  expect(await run('move', 'finish', acme, '--now', '--yes')).toMatchObject({ status: 0, stdout: expect.stringContaining('removed 80 old rows') });
  expect(await run('move', 'back', acme, '--grace', '0m', '--yes')).toMatchObject({ status: 0, stdout: expect.stringContaining('back from acme: switched') });
  expect(await run('move', 'finish', '--due', '--yes')).toMatchObject({ status: 0, stdout: expect.stringContaining('visited 1 of 1') });
  expect(await run('move', 'status')).toMatchObject({ status: 0, stdout: expect.stringMatching(/back from acme: finished[\s\S]*to acme: finished/) });
  expect(await run('move', 'cancel', acme)).toMatchObject({ status: 1, stderr: expect.stringContaining('none is under way') });
  const { rows } = await on.database.query<{ said: string }>(
    "select string_agg(distinct actor_id, ',') as said, bool_or(details::text ~ 'postgres(ql)?://') as told from partywall_control.audit_records",
  );
  expect(rows).toEqual([{ said: 'kari', told: false }]);
});

test('the first admin of a clone has a password that is printed once, and none where they can sign in already', async () => {
  const first = json(await run('clone', acme, '--name', 'With Admin', '--admin-email', 'ann@clone.example', '--admin-name', 'Ann', '--json'));
  expect(first).toMatchObject({ created: true, password: expect.stringMatching(/^[\w-]{24}$/) });
  const second = json(await run('clone', acme, '--name', 'With Admin Too', '--admin-email', 'ann@clone.example', '--json'));
  expect(second).toMatchObject({ created: true });
  expect(second).not.toHaveProperty('password');
  const { rows } = await on.database.query(
    `select u."name", count(*)::int from partywall_people."member" m join partywall_people."user" u on u."id" = m."userId" where u."email" = 'ann@clone.example' and m."role" = 'admin' group by 1`,
  );
  expect(rows).toEqual([{ name: 'Ann', count: 2 }]);
  expect(await run('clone', acme, '--name', 'Nobody', '--admin-name', 'Ann')).toMatchObject({ status: 2 });
  expect(await run('clone', acme, '--name', 'Nobody', '--admin-email', 'ann')).toMatchObject({ status: 2 });
});

test('an empty database is made ready by one command, and one that holds something else is refused with a list', async () => {
  const into = (at: typeof other) => ['--into', at.url];
  expect(await run('move', 'prepare', 'fresh', ...into(odd))).toMatchObject({ status: 1, stderr: expect.stringContaining('it holds something') });
  const plan = await run('move', 'prepare', 'fresh', ...into(fresh), '--dry-run');
  expect(plan).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/would prepare placement fresh[\s\S]*it was empty[\s\S]*partywall_control\.plans: 4 rows/),
  });
  const done = await run('move', 'prepare', 'fresh', ...into(fresh));
  expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(/sound by its static rules\n {2}left to do: .*PARTYWALL_PLACEMENT_FRESH/) });
  expect(done.stdout + done.stderr).not.toMatch(/postgres(ql)?:\/\//);
  const ready = await partywall(['move', 'prepare', 'fresh', ...into(fresh), '--json'], {
    ...operator,
    env: { ...operator.env, PARTYWALL_PLACEMENT_FRESH: fresh.urlAs(on.roles.service) },
  });
  expect(json(ready)).toMatchObject({ found: 'same', findings: [], missing: null });
  expect(await run('move', 'prepare', 'fresh', '--into', 'nonsense')).toMatchObject({ status: 2, stderr: expect.not.stringContaining('nonsense') });
});

test('nobody is forgotten who was not erased', async () => {
  const admin = await connect(on.database.url, { purpose: 'test' });
  await createSystemDatabase(admin, on.roles.service).finally(() => admin.end());
  expect(await run('move', 'forget', acme, '--yes')).toMatchObject({ status: 1, stderr: expect.stringContaining('at home') });
  expect(await run('move', 'forget', '--due', '--yes')).toMatchObject({ status: 0, stdout: expect.stringContaining('visited 0 of 0') });
  expect(await run('move', 'forget', acme)).toMatchObject({ status: 2, stderr: expect.stringContaining('not confirmed') });
  expect(await run('move', 'forget', '--yes')).toMatchObject({ status: 2 });
});
