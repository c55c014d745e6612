import { awaitOperation, readOperation, runBackup } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../test/support/archive.ts';
import { serverFixture } from './server.ts';

const base = await archiveFixture();
let keyring = '';
const { server, person, tenant, control, operation, database } = await serverFixture(undefined, { archive: { open: () => base.open({ keyring }) } });
keyring = control.keyring;
const bare = await serverFixture();
const source = await tenant('Source AS');
const neighbour = await tenant('Neighbour AS');
await database.query(`insert into customers (tenant_id, name) select t.id, 'kept' from tenants t, generate_series(1, 10)`);
const archive = await base.open({ keyring });
const { id: backup } = await runBackup(operation(), archive, { reason: 'by hand' });
await database.query(`update customers set name = 'since'`);
const operator = await person({ superAdmin: true });
const admin = await person({ memberships: { [source]: 'admin' } });

async function ask(payload: object, { as = operator, at = server, id = source } = {}) {
  const answer = await at.inject({ method: 'POST', url: `/api/admin/tenants/${id}/clone`, headers: as.headers, payload });
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
}

/** Asks, waits for the end, and returns the clone's key. */
async function cloned(payload: object): Promise<string> {
  const { status, body } = await ask(payload);
  expect(status).toBe(202);
  const { id } = body['operation'] as { id: string }; // as the schema has it
  expect(await awaitOperation(operation(), id, { timeoutMs: 60_000 })).toMatchObject({ kind: 'tenant.clone', tenant: source, state: 'done', error: null });
  const shown = await server.inject({ url: `/api/admin/operations/${id}`, headers: operator.headers });
  return shown.json<{ result: { tenant: string } }>().result.tenant;
}

const names = async (id: string) => (await database.query('select distinct name, count(*)::int from customers where tenant_id = $1 group by 1', [id])).rows;

test('a dry run says how columns are filled, and a clone is an operation whose result is the new tenant', async () => {
  const planned = await ask({ name: 'Copy', dryRun: true });
  expect(planned).toMatchObject({ status: 200, body: { dryRun: true, source, from: 'the live database' } });
  expect(planned.body['tables']).toContainEqual(expect.objectContaining({ table: 'public.customers', rows: 10 }));
  expect((await database.query('select from tenants')).rowCount).toBe(2);
  const live = await cloned({ name: 'Copy', plan: 'enterprise' });
  const older = await cloned({ name: 'As It Was', from: backup, reason: 'to look at' });
  expect([await names(live), await names(older)]).toEqual([[{ name: 'since', count: 10 }], [{ name: 'kept', count: 10 }]]);
  expect([await names(source), await names(neighbour)]).toEqual([[{ name: 'since', count: 10 }], [{ name: 'since', count: 10 }]]);
  // Asked for again, the same clone is found.
  expect(await cloned({ name: 'Copy', plan: 'enterprise' })).toBe(live);
});

test('the first admin of a clone signs in, and neither password nor address stays with the operation', async () => {
  const password = 'a password that is long enough';
  const made = await cloned({ name: 'With Admin', admin: { name: 'Ada', email: 'ada@clone.example', password } });
  const signedIn = await server.inject({ method: 'POST', url: '/api/auth/sign-in/email', payload: { email: 'ada@clone.example', password } });
  expect(signedIn.statusCode).toBe(200);
  const { rows } = await database.query(`select m.role from partywall_people."member" m where m."organizationId" = $1`, [made]);
  expect(rows).toEqual([{ role: 'admin' }]);
  const kept = await database.query(`select string_agg(to_jsonb(o)::text, ' ') as text from partywall_control.operations o`);
  expect(JSON.stringify(kept.rows)).not.toMatch(/ada@clone\.example|passwordHash|With Admin/);
});

test('a clone that is refused ends its operation with the reason, and says nothing of who was to be its admin', async () => {
  const { status, body } = await ask({
    name: 'Copy',
    plan: 'free',
    admin: { name: 'Eve', email: 'eve@clone.example', password: 'a password that is long enough' },
  });
  expect(status).toBe(202);
  const { id } = body['operation'] as { id: string }; // as the schema has it
  expect(await awaitOperation(operation(), id, { timeoutMs: 60_000 })).toMatchObject({
    state: 'failed',
    result: null,
    error: expect.stringContaining('there is a tenant'),
  });
  const { rows } = await database.query('select details::text as details from partywall_control.operations o where o.id = $1', [id]);
  expect(JSON.stringify(rows)).not.toContain('eve@');
  expect(await readOperation(control.pool, id)).toMatchObject({ state: 'failed' });
});

test('what cannot be cloned is a problem with a name', async () => {
  expect(await ask({ name: 'X' }, { id: '11111111-1111-4111-8111-111111111111' })).toMatchObject({ status: 404, body: { code: 'tenant_unknown' } });
  expect(await ask({ name: 'X', from: '20200101t000000z-00000000' })).toMatchObject({ status: 404, body: { code: 'backup_unknown' } });
  expect((await ask({})).status).toBe(400);
  expect((await ask({ name: 'X', admin: { name: 'A', email: 'a@x.example', password: 'short' } })).status).toBe(400);
  expect((await ask({ name: 'X', secret: 1 })).status).toBe(400);
  const stranger = await bare.person({ superAdmin: true });
  expect(await ask({ name: 'X', from: 'latest' }, { as: stranger, at: bare.server, id: await bare.tenant('Bare') })).toMatchObject({
    status: 409,
    body: { code: 'backup_refused' },
  });
});

test("is nothing for a tenant's own admin", async () => {
  expect((await ask({ name: 'Mine', dryRun: true }, { as: admin })).status).toBe(403);
});
