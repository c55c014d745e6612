import { once } from 'node:events';
import http from 'node:http';
import { SlowQueryLog, surveyUsage } from '@partywall/engine';
import { createWalledPool, run } from '@partywall/wall';
import { afterAll, expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const gate = Promise.withResolvers<void>();
const fixture = await serverFixture((app, { app: pool }) => {
  app.get('/api/customers', { config: { access: 'member' } }, async () => (await pool.query('select name from customers')).rows);
  app.get('/api/failing', { config: { access: 'member' } }, async () => {
    throw new Error('a fault of the application');
  });
  app.get('/api/open', { config: { access: 'public' } }, async () => 'open');
  app.get('/api/uncounted', { config: { access: 'member', counted: false } }, async () => 'uncounted');
  app.get('/api/waiting', { config: { access: 'member' } }, async () => gate.promise);
});
const { server, database } = fixture;
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
const ofAlder = await fixture.person({ memberships: { [alder]: 'member' } });
const adminOfAlder = await fixture.person({ memberships: { [alder]: 'admin' } });
const superAdmin = await fixture.person({ superAdmin: true });

const get = (url: string, { headers = {} }: { readonly headers?: Record<string, string> } = {}) => server.inject({ url, headers });

/** Calls and errors by tenant, once everything that was asked is written: the server writes every few seconds. */
async function counts(): Promise<Record<string, { calls: number; errors: number }>> {
  const { rows } = await database.query<{ tenant_id: string; calls: string; errors: string }>(
    'select tenant_id, sum(calls) as calls, sum(errors) as errors from partywall_control.request_minutes group by 1',
  );
  return Object.fromEntries(rows.map((row) => [row.tenant_id, { calls: Number(row.calls), errors: Number(row.errors) }]));
}

test('requests count for the tenant they were admitted to, with their faults, and the refused ones for nobody', async () => {
  for (let n = 0; n < 3; n += 1) expect((await get('/api/customers', ofAlder)).statusCode).toBe(200);
  expect((await get('/api/failing', ofAlder)).statusCode).toBe(500);
  await get('/api/customers', { headers: { ...ofAlder.headers, 'x-tenant-id': birch } });
  await get('/api/customers');
  await get('/api/open');
  await get('/api/no-such-route');
  await get('/api/uncounted', ofAlder);
  await get('/api/health');
  await get(`/api/admin/tenants/${birch}/usage`, superAdmin);
  await expect.poll(counts, { timeout: 15_000 }).toEqual({
    [alder]: { calls: 4, errors: 1 },
    [birch]: { calls: 1, errors: 0 },
    '': { calls: 4, errors: 0 },
  });
  const { rows } = await database.query('select tenant_id, user_id from partywall_control.active_users');
  expect(rows).toEqual([{ tenant_id: alder, user_id: ofAlder.id }]);
});

test('a request whose client has gone is counted too', async () => {
  const address = await server.listen({ port: 0, host: '127.0.0.1' });
  const before = (await counts())[alder]?.calls ?? 0;
  const request = http.get(`${address}/api/waiting`, { headers: ofAlder.headers });
  request.on('error', () => undefined);
  await once(server.server, 'request');
  request.destroy();
  await expect.poll(async () => (await counts())[alder]?.calls, { timeout: 15_000 }).toBe(before + 1);
  gate.resolve();
});

test('the usage of a tenant is shown to its admin and to super-admins, to nobody else', async () => {
  await surveyUsage(fixture.operation());
  const own = await get('/api/tenants/usage', adminOfAlder);
  expect(own.statusCode).toBe(200);
  expect(own.json()).toMatchObject({ tenantId: alder, name: 'Alder', requests: { errors: 1 }, activeUsers: { day: 1 }, rows: { 'public.customers': 0 } });
  expect((await get('/api/tenants/usage', ofAlder)).statusCode).toBe(403);
  expect((await get(`/api/tenants/usage?tenantId=${birch}`, adminOfAlder)).statusCode).toBe(404);
  expect((await get('/api/tenants/usage?hours=100000', adminOfAlder)).statusCode).toBe(400);
  const shown = await get(`/api/admin/tenants/${alder}/usage?hours=48`, superAdmin);
  expect(shown.json()).toMatchObject({ tenantId: alder, requests: { hours: 48 } });
  expect((await get(`/api/admin/tenants/${alder}/usage`, adminOfAlder)).statusCode).toBe(403);
  expect((await get('/api/admin/tenants/00000000-0000-0000-0000-000000000000/usage', superAdmin)).json()).toMatchObject({
    status: 404,
    code: 'tenant_unknown',
  });
});

test('the top consumers are listed by each measure', async () => {
  expect((await get('/api/admin/top', superAdmin)).json()).toMatchObject({
    by: 'calls',
    hours: 24,
    items: [{ tenantId: alder, name: 'Alder' }, { tenantId: birch }],
  });
  for (const by of ['errors', 'time', 'rows', 'storage', 'connections']) expect((await get(`/api/admin/top?by=${by}`, superAdmin)).statusCode, by).toBe(200);
  expect((await get('/api/admin/top?by=secrets', superAdmin)).statusCode).toBe(400);
});

test('the whole system is measured, its processes too', async () => {
  const metrics = (await get('/api/admin/metrics', superAdmin)).json();
  expect(metrics).toMatchObject({ tenants: { total: 2, byStatus: { active: 2 } }, requests: { hour: { errors: 1 } }, process: { unattributedRequests: 0 } });
  expect(metrics.process.rssBytes).toBeGreaterThan(1_000_000);
});

test('connections and slow statements are told by tenant, without values', async () => {
  const log = new SlowQueryLog(fixture.control);
  const pool = createWalledPool({ connectionString: fixture.urls.app, slowQueryMs: 0, onSlowQuery: log.record });
  pool.on('error', () => undefined); // the database is dropped with force
  afterAll(() => pool.end());
  await run({ tenant: alder }, async () => {
    const client = await pool.connect();
    await client.query('begin');
    await client.query("select name from customers where name = 'a secret name'");
    const { items } = (await get(`/api/admin/connections?tenantId=${alder}`, superAdmin)).json();
    expect(items).toMatchObject([{ tenantId: alder, state: 'idle in transaction', statement: 'select name from customers where name = ?' }]);
    expect((await get(`/api/admin/connections?tenantId=${birch}`, superAdmin)).json()).toEqual({ items: [] });
    await client.query('rollback');
    client.release();
  });
  await log.flush();
  const first = (await get('/api/admin/slow-queries?limit=2', superAdmin)).json();
  const second = (await get(`/api/admin/slow-queries?limit=2&cursor=${first.nextCursor}`, superAdmin)).json();
  const statements = [...first.items, ...second.items].map((item: { statement: string; tenantId: string }) => [item.statement, item.tenantId]);
  expect(statements.toSorted()).toEqual([
    ['begin', alder],
    ['rollback', alder],
    ['select name from customers where name = ?', alder],
  ]);
  expect(second.nextCursor).toBeNull();
  expect((await get(`/api/admin/slow-queries?tenantId=${birch}`, superAdmin)).json()).toMatchObject({ items: [], running: [], server: null });
  expect((await get('/api/admin/slow-queries', adminOfAlder)).statusCode).toBe(403);
});

test.each([
  ['not a cursor', 'x'],
  ['of another list', Buffer.from('["a"]').toString('base64url')],
  [
    'with a year that no database has',
    Buffer.from(JSON.stringify({ maxMs: 1, tenantId: null, hour: '0000-01-01T00:00:00Z', fingerprint: 'f' })).toString('base64url'),
  ],
  ['with SQL in it', Buffer.from(JSON.stringify({ maxMs: 1, tenantId: "' or true --", hour: '2026-01-01T00:00:00Z', fingerprint: "'" })).toString('base64url')],
])('a cursor that is %s costs the one who sends it an error, or shows what they may see', async (_, cursor) => {
  const { statusCode } = await get(`/api/admin/slow-queries?cursor=${cursor}`, superAdmin);
  expect([200, 400]).toContain(statusCode);
});

test('a server that is stopped in order has written all it counted', async () => {
  const stopped = await serverFixture((app) => {
    app.get('/api/open', { config: { access: 'public' } }, async () => 'open');
  });
  for (let n = 0; n < 25; n += 1) await stopped.server.inject('/api/open');
  await stopped.server.close();
  const { rows } = await stopped.database.query("select sum(calls)::int as calls from partywall_control.request_minutes where tenant_id = ''");
  expect(rows).toEqual([{ calls: 25 }]);
});
