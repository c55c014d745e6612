import { hash } from 'node:crypto';
import { searchAudit, verifyAudit } from '@partywall/engine';
import { expect, test, vi } from 'vitest';
import { createDenials } from '../src/denials.ts';
import { serverFixture } from './server.ts';

const fixture = await serverFixture((app, { app: pool }) => {
  app.get('/api/customers', { config: { access: 'member' } }, async () => (await pool.query('select id, name from customers')).rows);
  app.get<{ Params: { id: string } }>('/api/customers/:id', { config: { access: 'member', resource: 'public.customers' } }, async (request, reply) => {
    const { rows } = await pool.query('select id, name from customers where id = $1', [request.params.id]);
    return rows[0] ?? reply.code(404).send({ code: 'not_found' });
  });
  app.post<{ Body: { tenant: string; name: string } }>('/api/customers', { config: { access: 'member' } }, async ({ body }) => {
    await pool.query('insert into customers (tenant_id, name) values ($1, $2)', [body.tenant, body.name]);
    return {};
  });
  app.post<{ Body: { customer: string } }>('/api/notes', { config: { access: 'member' } }, async ({ body }) => {
    await pool.query("insert into notes (customer_id, body) values ($1, 'mine')", [body.customer]);
    return {};
  });
  app.post('/api/own-answer', { config: { access: 'tenant_admin' }, errorHandler: (_error, _request, reply) => reply.code(418).send({}) }, async () => ({}));
  app.get('/api/platform', { config: { access: 'super_admin' } }, async () => ({}));
});
const { server, database, control } = fixture;
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
await database.query('insert into customers (tenant_id, name) values ($1, $2), ($3, $4)', [alder, 'of alder', birch, 'of birch']);
const { rows } = await database.query<{ id: string }>('select id from customers where tenant_id = $1', [birch]);
const customerOfBirch = rows[0]?.id ?? '';

/** A person of Alder of their own for each test, so that its denials are the first of their kind. */
const ofAlder = (role: 'member' | 'admin' = 'member') => fixture.person({ memberships: { [alder]: role } });

async function denials(actor: string, tenant?: string | null): Promise<{ tenant: string | null; action: string; target: string | null; details: object }[]> {
  const records = await searchAudit(fixture.operation(), { actor, tenant, outcome: 'denied' }, { limit: 50 });
  return records.map(({ tenantId, action, target, details }) => ({ tenant: tenantId, action, target, details }));
}

test('a header that names another tenant is recorded in that tenant’s chain, with the address and without a name', async () => {
  const { id, headers } = await ofAlder();
  const answer = await server.inject({ url: '/api/customers', headers: { ...headers, 'x-tenant-id': birch }, remoteAddress: '203.0.113.9' });
  expect(answer.statusCode).toBe(404);
  const [record] = await searchAudit(fixture.operation(), { actor: id }, { limit: 1 });
  expect(record).toMatchObject({
    tenantId: birch,
    action: 'access.cross_tenant',
    target: 'GET /api/customers',
    address: '203.0.113.9',
    actor: { id, name: null },
  });
});

test('an id that names no tenant opens no chain', async () => {
  const { id, headers } = await ofAlder();
  await server.inject({ url: '/api/customers', headers: { ...headers, 'x-tenant-id': "x' or 1=1 --" } });
  expect(await denials(id)).toEqual([{ tenant: null, action: 'access.cross_tenant', target: 'GET /api/customers', details: { wanted: "x' or 1=1 --" } }]);
});

test('a row written for another tenant is refused by the wall, and recorded although its transaction rolled back', async () => {
  const { id, headers } = await ofAlder();
  const answer = await server.inject({ method: 'POST', url: '/api/customers', headers, payload: { tenant: birch, name: 'planted' } });
  expect(answer.json()).toMatchObject({ status: 403, code: 'cross_tenant' });
  expect(await denials(id)).toEqual([{ tenant: alder, action: 'access.cross_tenant', target: 'POST /api/customers', details: { code: 'cross_tenant' } }]);
});

test('a reference to another tenant’s row is recorded by its key, without the ids', async () => {
  const { id, headers } = await ofAlder();
  const answer = await server.inject({ method: 'POST', url: '/api/notes', headers, payload: { customer: customerOfBirch } });
  expect(answer.json()).toMatchObject({ status: 400, code: 'unknown_reference' });
  const [denial] = await denials(id);
  expect(denial).toMatchObject({
    tenant: alder,
    action: 'access.foreign_reference',
    details: { table: 'public.notes', columns: expect.arrayContaining(['customer_id']) },
  });
  expect(JSON.stringify(denial)).not.toContain(customerOfBirch);
});

test('the id of another tenant’s row in a path answers 404 like any other, and is recorded', async () => {
  const { id, headers } = await ofAlder();
  const foreign = await server.inject({ url: `/api/customers/${customerOfBirch}`, headers });
  const nobodys = await server.inject({ url: '/api/customers/00000000-0000-4000-8000-000000000000', headers });
  expect([foreign.statusCode, foreign.body]).toEqual([nobodys.statusCode, nobodys.body]);
  await vi.waitFor(async () => {
    expect(await denials(id)).toEqual([{ tenant: birch, action: 'access.cross_tenant', target: 'GET /api/customers/:id', details: { wanted: birch } }]);
  });
});

test('a role that does not suffice is recorded, in the tenant’s chain or the platform’s, also where the route answers errors by itself', async () => {
  const { id, headers } = await ofAlder();
  expect((await server.inject({ method: 'POST', url: '/api/own-answer', headers })).statusCode).toBe(418);
  expect((await server.inject({ url: '/api/platform', headers })).statusCode).toBe(403);
  expect(await denials(id)).toEqual([
    { tenant: null, action: 'access.forbidden', target: 'GET /api/platform', details: { code: 'forbidden' } },
    { tenant: alder, action: 'access.forbidden', target: 'POST /api/own-answer', details: { code: 'forbidden' } },
  ]);
});

test('an API key of another tenant, and one without the scope, are recorded under the key', async () => {
  await ofAlder(); // a tenant whose people sign in has an organization
  const value = 'pw_made-up-key-of-alder';
  await database.query(
    `insert into partywall_people."apikey" ("id", "configId", "referenceId", "key", "createdAt", "updatedAt", "permissions") values ('key-1', 'default', $1, $2, now(), now(), $3)`,
    [alder, hash('sha256', value, 'base64url'), JSON.stringify({ audit: ['read'] })],
  );
  const ask = (url: string, more = {}) => server.inject({ url, headers: { 'x-api-key': value, ...more } });
  expect((await ask(`/api/audit-logs?tenantId=${birch}`)).statusCode).toBe(404);
  expect((await ask('/api/customers')).statusCode).toBe(403);
  expect(await denials('key-1')).toEqual([
    { tenant: alder, action: 'access.forbidden', target: 'GET /api/customers', details: { code: 'forbidden' } },
    { tenant: birch, action: 'access.cross_tenant', target: 'GET /api/audit-logs', details: { wanted: birch } },
  ]);
});

test('a page of a foreign origin that uses a person’s cookie is recorded', async () => {
  const { id, headers } = await ofAlder('admin');
  const cookie = `partywall.session_token=${encodeURIComponent(headers.authorization.slice('Bearer '.length))}`;
  const answer = await server.inject({ method: 'POST', url: '/api/own-answer', headers: { cookie, origin: 'https://evil.example' } });
  expect(answer.statusCode).toBe(418);
  expect(await denials(id)).toEqual([{ tenant: alder, action: 'access.foreign_origin', target: 'POST /api/own-answer', details: { code: 'csrf_refused' } }]);
});

test('an attempt on a suspended tenant is recorded, and repeating it does not repeat the record', async () => {
  const cedar = await fixture.tenant('Cedar');
  const { id, headers } = await fixture.person({ memberships: { [cedar]: 'admin' } });
  await database.query("update tenants set status = 'suspended' where id = $1", [cedar]);
  for (let n = 0; n < 20; n += 1) expect((await server.inject({ url: '/api/customers', headers })).statusCode).toBe(403);
  expect(await denials(id)).toEqual([{ tenant: cedar, action: 'access.inactive_tenant', target: 'GET /api/customers', details: { code: 'tenant_suspended' } }]);
});

test('what is refused for other reasons is no denial', async () => {
  const { id, headers } = await ofAlder('admin');
  await server.inject({ method: 'POST', url: '/api/customers', headers: { ...headers, 'content-type': 'application/json' }, payload: '{' });
  await server.inject({ url: '/api/nothing', headers });
  expect(await denials(id)).toEqual([]);
});

test('each id that is guessed waits for a record of its own, so that the time does not tell which are tenants', async () => {
  const { id, headers } = await ofAlder();
  for (const guess of ['guess-1', birch, 'guess-2', 'guess-2']) await server.inject({ url: '/api/customers', headers: { ...headers, 'x-tenant-id': guess } });
  expect((await denials(id)).map(({ tenant, details }) => [tenant, details])).toEqual([
    [null, { wanted: 'guess-2' }],
    [birch, { wanted: birch }],
    [null, { wanted: 'guess-1' }],
  ]);
});

const quiet = { error: () => undefined };
const operationOf = (id: string) => fixture.operation({ actor: { kind: 'user', id, address: '192.0.2.1' } });

test('the same attempt again is counted, and written as one record when its window closes', async () => {
  const counted = createDenials(control, quiet, 50);
  for (let n = 0; n < 30; n += 1) await counted.record(operationOf('flooder'), { tenant: alder, action: 'access.forbidden', target: 'GET /x', details: { n } });
  await vi.waitFor(async () => expect(await denials('flooder')).toHaveLength(2));
  expect((await denials('flooder')).map(({ details }) => details)).toEqual([{ n: 29, times: 29, since: expect.any(String) }, { n: 0 }]);
  await counted.close();
});

test('a flood that goes on is one record for each window', async () => {
  const counted = createDenials(control, quiet, 40);
  const flood = (): Promise<void> => counted.record(operationOf('persistent'), { tenant: alder, action: 'access.forbidden' });
  let attempts = 0;
  await vi.waitFor(async () => {
    for (let n = 0; n < 50; n += 1) await flood();
    attempts += 50;
    expect((await denials('persistent')).length).toBeGreaterThanOrEqual(4);
  });
  await counted.close();
  const times = (await denials('persistent')).map(({ details }) => ('times' in details && typeof details.times === 'number' ? details.times : 1));
  expect(times.reduce((sum, one) => sum + one, 0)).toBe(attempts);
  expect(times.length).toBeLessThan(attempts / 5);
});

test('closing writes what has been counted', async () => {
  const counted = createDenials(control, quiet);
  for (let n = 0; n < 3; n += 1) await counted.record(operationOf('last words'), { tenant: alder, action: 'access.forbidden' });
  await counted.close();
  expect((await denials('last words')).map(({ details }) => details)).toMatchObject([{ times: 2 }, {}]);
});

test('a flood of different attempts is bounded, and every one of it is accounted for', async () => {
  const counted = createDenials(control, quiet);
  const attempts = 3_000;
  await Promise.all(Array.from({ length: attempts }, (_, n) => counted.record(operationOf(`swarm-${n}`), { tenant: null, action: 'access.swarm' })));
  await counted.close();
  const { rows } = await database.query<{ action: string; records: number; attempts: number }>(
    `select action, count(*)::int as records, sum(coalesce((details->>'times')::int, 1))::int as attempts from partywall_control.audit_records
     where tenant_id = '' and action in ('access.swarm', 'access.unrecorded') group by action order by action`,
  );
  expect(rows.map(({ action }) => action)).toEqual(['access.swarm', 'access.unrecorded']);
  expect(rows[0]?.records).toBe(1_000);
  expect((rows[0]?.attempts ?? 0) + (rows[1]?.attempts ?? 0)).toBe(attempts);
});

test('a record that cannot be written neither fails nor holds up the answer, is logged, and is accounted for later', async () => {
  const logged: object[] = [];
  const counted = createDenials(control, { error: (entry: object) => void logged.push(entry) }, 1);
  await database.query('alter table partywall_control.audit_heads rename to audit_heads_away');
  await counted.record(operationOf('unlucky'), { tenant: alder, action: 'access.forbidden' });
  await database.query('alter table partywall_control.audit_heads_away rename to audit_heads');
  expect(logged).toMatchObject([{ unrecorded: 1 }]);
  await counted.record(operationOf('lucky'), { tenant: alder, action: 'access.forbidden' });
  await counted.close();
  expect(await denials('denials', null)).toEqual(expect.arrayContaining([{ tenant: null, action: 'access.unrecorded', target: null, details: { times: 1 } }]));
});

test('a database that holds up the record holds up the answer for a second at most', async () => {
  const blocker = await control.pool.connect();
  const counted = createDenials(control, quiet);
  const slow = createDenials(control, quiet);
  await counted.record(operationOf('first'), { tenant: birch, action: 'access.forbidden' });
  await blocker.query('begin');
  await blocker.query(
    `select partywall_control.append_audit('{"tenant_id": "${birch}", "actor_kind": "system", "actor_id": "x", "action": "hold", "outcome": "done"}')`,
  );
  await slow.record(operationOf('waiting'), { tenant: birch, action: 'access.forbidden' });
  expect(await denials('waiting')).toEqual([]);
  await blocker.query('commit');
  blocker.release();
  await slow.close();
  expect(await denials('waiting')).toHaveLength(1);
  await counted.close();
});

test('the chains are whole after all of this', async () => {
  expect(await verifyAudit(fixture.operation())).toMatchObject({ sound: true });
});
