import { applyWall, connect, installControl } from '@partywall/engine';
import { expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const other = await createDatabase();
const acme = '11111111-1111-4111-8111-111111111111';
const placement = other.urlAs(on.roles.service);
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari', PARTYWALL_PLACEMENT_ACME: placement } };
const run = (...args: string[]) => partywall(args, operator);

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
