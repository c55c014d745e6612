import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../src/app.ts';
import { customerSchema } from '../src/customers.ts';
import { demoTenants } from '../src/demo-tenants.ts';
import { type WalledCrm, walledCrm } from './walled-crm.ts';

const [alder, brightwater] = demoTenants;

describe('a request', () => {
  let crm: WalledCrm;
  const logged: string[] = [];
  beforeAll(async () => {
    crm = await walledCrm({ logger: { level: 'trace', stream: { write: (line: string) => void logged.push(line) } } });
  });

  const problem = (status: number, code: string) => ({ type: `urn:partywall:problem:${code}`, title: expect.any(String), status, code });

  it.each<[string, string | undefined]>([
    ['without a token', undefined],
    ['with an empty token', 'Bearer '],
    ['with another scheme', 'Basic YWRtaW46YWRtaW4='],
    ['with something that is no token', 'Bearer abc.def.ghi'],
    ['with SQL for a token', "Bearer ' or true --"],
  ])('%s is refused with 401, and always with the same words', async (_, authorization) => {
    for (const method of ['GET', 'POST'] as const) {
      const reply = await crm.app.inject({
        method,
        url: '/api/customers',
        ...(authorization !== undefined && { headers: { authorization } }),
        ...(method === 'POST' && { payload: { reference: 'x', name: 'x', countryCode: 'US' } }),
      });
      expect(reply.statusCode).toBe(401);
      expect(reply.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(reply.headers['www-authenticate']).toBe('Bearer');
      expect(reply.json()).toMatchObject({ ...problem(401, 'unauthorized'), detail: 'a valid bearer token, API key or session is required' });
    }
  });

  it.each([
    ['suspended', 'tenant_suspended'],
    ['cancelled', 'tenant_cancelled'],
  ] as const)('of a %s tenant is refused with 403 until the tenant is active again', async (state, code) => {
    const send = crm.as(brightwater);
    await crm.database.query('update tenants set status = $2 where id = $1', [brightwater.id, state]);
    expect(await send('GET', '/api/customers')).toMatchObject({ status: 403, body: problem(403, code) });
    expect((await crm.as(alder)('GET', '/api/customers')).status).toBe(200);
    await crm.database.query("update tenants set status = 'active' where id = $1", [brightwater.id]);
    expect((await send('GET', '/api/customers')).status).toBe(200);
  });

  it('of a read-only tenant reads, and is refused with 403 where it would write', async () => {
    const send = crm.as(brightwater);
    await crm.database.query("update partywall.registry set state = 'read_only' where tenant_id = $1", [brightwater.id]);
    expect((await send('GET', '/api/customers')).status).toBe(200);
    const reply = await send('POST', '/api/customers', { reference: 'ro', name: 'ro', countryCode: 'GB' });
    expect(reply).toMatchObject({ status: 403, body: problem(403, 'tenant_read_only') });
    await crm.database.query("update partywall.registry set state = 'active' where tenant_id = $1", [brightwater.id]);
  });

  it('that names another tenant finds nothing, and the tenant’s audit log has the attempt', async () => {
    const headers = { authorization: `Bearer ${await crm.token(alder)}`, 'x-tenant-id': brightwater.id };
    expect((await crm.app.inject({ url: '/api/customers', headers })).json()).toMatchObject(problem(404, 'not_found'));
    const { rows } = await crm.database.query('select action, outcome from partywall_control.audit_records where tenant_id = $1', [brightwater.id]);
    expect(rows).toContainEqual({ action: 'access.cross_tenant', outcome: 'denied' });
  });

  it.each([
    ['for a page that is not there', 'GET', '/api/nothing', undefined, undefined, 404, 'not_found'],
    ['with broken JSON', 'POST', '/api/customers', '{"name": ', 'application/json', 400, 'invalid_request'],
    ['with JSON that is aimed at the prototype', 'POST', '/api/customers', '{"__proto__": {"role": "admin"}}', 'application/json', 400, 'invalid_request'],
    ['with an empty body', 'POST', '/api/customers', '', 'application/json', 400, 'invalid_request'],
    ['with a body of another type', 'POST', '/api/customers', '<customer/>', 'application/xml', 415, 'unsupported_media_type'],
    ['with a huge body', 'POST', '/api/customers', JSON.stringify({ name: 'x'.repeat(70_000) }), 'application/json', 413, 'payload_too_large'],
  ] as const)('%s is answered with problem details', async (_, method, url, payload, type, status, code) => {
    const headers = { authorization: `Bearer ${await crm.token(alder)}`, ...(type && { 'content-type': type }) };
    const reply = await crm.app.inject({ method, url, headers, ...(payload !== undefined && { payload }) });
    expect(reply.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(reply.json()).toMatchObject(problem(status, code));
    expect(reply.body).not.toMatch(/node_modules|\.ts|SELECT|FST_/i);
  });

  it('that makes the server fail is answered with constant words; the log has the reason and no token', async () => {
    const token = await crm.token(alder);
    await crm.database.query('alter table customers rename to customers_away');
    const reply = await crm.app.inject({ url: '/api/customers', headers: { authorization: `Bearer ${token}`, cookie: 'sid=cookie-value' } });
    await crm.database.query('alter table customers_away rename to customers');
    expect(reply.statusCode).toBe(500);
    expect(reply.json()).toMatchObject({ ...problem(500, 'server_failed'), detail: 'the server failed; its log has the request id' });
    const log = logged.join('');
    expect(log).toContain('relation \\"customers\\" does not exist');
    expect(log).toContain(reply.json().requestId);
    for (const confidential of [token, 'cookie-value']) expect(log).not.toContain(confidential);
  });

  it('is answered with declared fields only', async () => {
    const app = await createApp({ pool: crm.pool, server: crm.server });
    const { items } = (await crm.as(alder)('GET', '/api/customers?limit=1')).body;
    app.get('/leak', { config: { access: 'public' }, schema: { response: { 200: customerSchema } } }, async () => ({
      ...items[0],
      createdAt: new Date(0),
      updatedAt: new Date(0),
      tenant_id: alder.id,
      passwordHash: 'x',
    }));
    const reply = await app.inject('/leak');
    expect(Object.keys(reply.json())).toEqual(Object.keys(items[0] ?? {}));
    await app.close();
  });
});

describe('GET /api/health', () => {
  it('is ok without a token while the database answers, and again after the server ended the idle connections', async () => {
    const { app, database } = await walledCrm();
    expect((await app.inject('/api/health')).json()).toMatchObject({ status: 'ok', database: 'ok' });
    await database.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()');
    await expect.poll(async () => (await app.inject('/api/health')).statusCode).toBe(200);
  });

  it('is 503 while the database refuses connections', async () => {
    const crm = await walledCrm();
    const pool = new pg.Pool({ connectionString: 'postgresql://postgres@127.0.0.1:1/none' });
    const app = await createApp({ pool: crm.pool, server: { ...crm.server, database: { ...crm.control, pool } } });
    const reply = await app.inject('/api/health');
    expect(reply.statusCode).toBe(503);
    expect(reply.json()).toMatchObject({ status: 503, code: 'database_unavailable', title: 'Service unavailable' });
    await app.close();
    await pool.end();
  });
});
