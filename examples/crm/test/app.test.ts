import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { SignJWT, UnsecuredJWT } from 'jose';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../src/app.ts';
import { customerSchema } from '../src/customers.ts';
import { demoTenants } from '../src/demo-tenants.ts';
import { issueToken } from '../src/tokens.ts';
import { secret, type WalledCrm, walledCrm } from './walled-crm.ts';

const [alder, brightwater] = demoTenants;
const identity = { tenant: alder.id, user: alder.firstUser.id, role: 'admin' } as const;

describe('a request', () => {
  let crm: WalledCrm;
  const logged: string[] = [];
  beforeAll(async () => {
    crm = await walledCrm({ logger: { level: 'trace', stream: { write: (line: string) => void logged.push(line) } } });
  });

  const problem = (status: number, code: string) => ({
    type: `urn:partywall:example:crm:problem:${code}`,
    title: expect.any(String),
    status,
    detail: expect.any(String),
    code,
    requestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
  });

  const key = new TextEncoder().encode(secret);
  /** A token by hand, right in all but what is changed. */
  const signed = async (change: { claims?: object; omit?: string; algorithm?: string } = {}) => {
    const all = { iss: 'urn:partywall:example:crm', aud: 'urn:partywall:example:crm:api', sub: identity.user, tenant: identity.tenant, role: 'admin' };
    const claims = Object.entries({ ...all, exp: Math.floor(Date.now() / 1000) + 300, ...change.claims }).filter(([name]) => name !== change.omit);
    const payload = Object.fromEntries(claims);
    if (change.algorithm === 'none') return `Bearer ${new UnsecuredJWT(payload).encode()}`;
    return `Bearer ${await new SignJWT(payload).setProtectedHeader({ alg: change.algorithm ?? 'HS256' }).sign(key)}`;
  };

  it('with a token of the right form is answered', async () => {
    for (const authorization of [`Bearer ${await issueToken(identity, { secret })}`, await signed()]) {
      const reply = await crm.app.inject({ url: '/api/customers?limit=1', headers: { authorization } });
      expect(reply.statusCode).toBe(200);
    }
  });

  it.each<[string, () => Promise<string | undefined> | string | undefined]>([
    ['without a token', () => undefined],
    ['with an empty token', () => 'Bearer '],
    ['with another scheme', async () => `Basic ${await issueToken(identity, { secret })}`],
    ['with something that is no token', () => 'Bearer abc.def.ghi'],
    ['with an expired token', async () => `Bearer ${await issueToken(identity, { secret, expiresInSeconds: -1 })}`],
    ['with a token signed with another key', async () => `Bearer ${await issueToken(identity, { secret: `${secret}!` })}`],
    ['with an unsigned token', () => signed({ algorithm: 'none' })],
    ['with a token of another algorithm', () => signed({ algorithm: 'HS512' })],
    ['with a token that never expires', () => signed({ omit: 'exp' })],
    ['with a token of no user', () => signed({ omit: 'sub' })],
    ['with a token of no tenant', () => signed({ omit: 'tenant' })],
    ['with a token of another issuer', () => signed({ claims: { iss: 'somebody' } })],
    ['with a token for another audience', () => signed({ claims: { aud: 'another api' } })],
    ['with a token of an unknown role', () => signed({ claims: { role: 'root' } })],
    ['with a token whose tenant is no id', () => signed({ claims: { tenant: "' or true --" } })],
    ['with a token whose tenant does not exist', async () => `Bearer ${await issueToken({ ...identity, tenant: randomUUID() }, { secret })}`],
  ])('%s is refused with 401, and always with the same words', async (_, authorization) => {
    const value = await authorization();
    for (const method of ['GET', 'POST'] as const) {
      const reply = await crm.app.inject({
        method,
        url: '/api/customers',
        ...(value !== undefined && { headers: { authorization: value } }),
        ...(method === 'POST' && { payload: { reference: 'x', name: 'x', countryCode: 'US' } }),
      });
      expect(reply.statusCode).toBe(401);
      expect(reply.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(reply.headers['www-authenticate']).toBe('Bearer');
      expect(reply.json()).toEqual({ ...problem(401, 'unauthorized'), detail: 'a valid bearer token is required' });
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

  it.each([
    ['for a page that is not there', 'GET', '/api/nothing', undefined, undefined, 404, 'not_found'],
    ['with a method that is not there', 'PUT', '/api/customers', '{}', 'application/json', 404, 'not_found'],
    ['with a broken address', 'GET', '/api/%zz', undefined, undefined, 400, 'invalid_request'],
    ['with broken JSON', 'POST', '/api/customers', '{"name": ', 'application/json', 400, 'invalid_request'],
    ['with JSON that is aimed at the prototype', 'POST', '/api/customers', '{"__proto__": {"role": "admin"}}', 'application/json', 400, 'invalid_request'],
    ['with an empty body', 'POST', '/api/customers', '', 'application/json', 400, 'invalid_request'],
    ['with a body of another type', 'POST', '/api/customers', '<customer/>', 'application/xml', 415, 'unsupported_media_type'],
    ['with a huge body', 'POST', '/api/customers', JSON.stringify({ name: 'x'.repeat(70_000) }), 'application/json', 413, 'payload_too_large'],
  ] as const)('%s is answered with problem details', async (_, method, url, payload, type, status, code) => {
    const token = await issueToken(identity, { secret });
    const reply = await crm.app.inject({
      method,
      url,
      headers: { authorization: `Bearer ${token}`, ...(type && { 'content-type': type }) },
      ...(payload !== undefined && { payload }),
    });
    expect(reply.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect({ ...reply.json(), errors: undefined }).toEqual({ ...problem(status, code), errors: undefined });
    expect(reply.body).not.toMatch(/node_modules|\.ts|SELECT|FST_/i);
  });

  it('that makes the server fail is answered with constant words; the log has the reason and neither token nor secret', async () => {
    const token = await issueToken(identity, { secret });
    await crm.database.query('alter table customers rename to customers_away');
    const reply = await crm.app.inject({ url: '/api/customers', headers: { authorization: `Bearer ${token}`, cookie: 'sid=cookie-value' } });
    await crm.database.query('alter table customers_away rename to customers');
    expect(reply.statusCode).toBe(500);
    expect(reply.json()).toEqual({ ...problem(500, 'internal'), detail: 'the server failed; its log has the request id' });
    const log = logged.join('');
    expect(log).toContain('relation \\"customers\\" does not exist');
    expect(log).toContain(reply.json().requestId);
    for (const confidential of [token, secret, 'cookie-value']) expect(log).not.toContain(confidential);
  });

  it('is answered with declared fields only', async () => {
    const app = createApp({ pool: crm.pool, secret });
    const { items } = (await crm.as(alder)('GET', '/api/customers?limit=1')).body;
    app.get('/leak', { schema: { response: { 200: customerSchema } } }, async () => ({
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
  it('is ok without a token while the database answers', async () => {
    const { app } = await walledCrm();
    const reply = await app.inject('/api/health');
    expect(reply.statusCode).toBe(200);
    expect(reply.json()).toEqual({ status: 'ok', database: 'ok' });
  });

  it('is 503 while the database refuses connections, and so are the routes', async () => {
    const pool = new pg.Pool({ connectionString: 'postgresql://postgres@127.0.0.1:1/none' });
    const app = createApp({ pool, secret });
    const token = await issueToken(identity, { secret });
    for (const [url, headers] of [
      ['/api/health', {}],
      ['/api/customers', { authorization: `Bearer ${token}` }],
    ] as const) {
      const reply = await app.inject({ url, headers });
      expect(reply.statusCode).toBe(503);
      expect(reply.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(reply.json()).toMatchObject({ status: 503, code: 'database_unavailable', title: 'Service unavailable' });
    }
    await app.close();
    await pool.end();
  });

  it('is 503 within five seconds when the database accepts and then says nothing', async () => {
    const sockets = new Set<net.Socket>();
    const silent = net.createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const address = silent.address();
    const pool = new pg.Pool({ host: '127.0.0.1', port: typeof address === 'object' ? (address?.port ?? 0) : 0, user: 'postgres' });
    const app = createApp({ pool, secret });
    const started = performance.now();
    expect((await app.inject('/api/health')).json()).toMatchObject({ status: 503, code: 'database_unavailable' });
    expect(performance.now() - started).toBeLessThan(5_000);
    await app.close();
    for (const socket of sockets) socket.destroy();
    silent.close();
    await pool.end();
  });

  it('recovers after the server ended the idle connections', async () => {
    const { app, database } = await walledCrm();
    expect((await app.inject('/api/health')).statusCode).toBe(200);
    await database.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()');
    await expect.poll(async () => (await app.inject('/api/health')).statusCode).toBe(200);
  });
});

describe('the token secret', () => {
  it('of fewer than 32 bytes is refused at start', () => {
    const pool = new pg.Pool();
    expect(() => createApp({ pool, secret: 'too short' })).toThrow('reading the token secret: 9 bytes, at least 32 are needed');
  });
});
