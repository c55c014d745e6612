import http from 'node:http';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { type GuardOptions, type RequestFacts, unitIn, wallErrors } from '../../src/index.ts';
import { allItemsOf, itemOf, tenant, walledDatabase } from '../walled-database.ts';
import { type App, chunks, expressApp, fastifyApp, honoApp, type Work, webApp } from './apps.ts';
import { type Answered, send, tokenIssuer } from './client.ts';

const wall = await walledDatabase();
await wall.database.query(`create table units (id int primary key, tenant_id uuid not null);
  alter table units enable row level security; alter table units force row level security;
  create policy pw_tenant on units using (tenant_id = partywall.tenant_id());
  grant select on units to ${wall.app};
  insert into units values (1, '${tenant(1)}'), (2, '${tenant(2)}')`);
const pool = wall.pool({ max: 5 });
const issuer = await tokenIssuer();
const subdomains: Readonly<Record<string, string>> = { acme: tenant(1), globex: tenant(2) };

/** Who waits for `/slow` to begin, and for what it sees after its client has gone. */
const slow = { begun: Promise.withResolvers<void>(), late: Promise.withResolvers<unknown>() };
const work: Work = { pool, onBegun: () => slow.begun.resolve(), onLate: (seen) => slow.late.resolve(seen) };

const options: GuardOptions = {
  verify: issuer.verify,
  public: ['/health', '/assets/*'],
  subdomain: { of: 'app.example.com', tenantOf: (label) => subdomains[label], except: ['www'] },
  unit: { belongs: unitIn(pool, { table: 'units' }) },
};

const frameworks = { express: expressApp, fastify: fastifyApp, hono: honoApp, web: webApp } as const;

describe.each(Object.entries(frameworks))('%s', async (_, start) => {
  const app = await start(options, work);
  const strict = await start({ ...options, tenantHeader: { required: true }, pages: { signIn: '/sign-in?from=app', select: '/org/select' } }, work);
  afterAll(() => Promise.all([app.close(), strict.close()]));
  const get = (path: string, headers: Record<string, string | string[]> = {}, of: App = app): Promise<Answered> => send(`${of.url}${path}`, { headers });
  const one = await issuer.credential(tenant(1));
  const several = await issuer.credential([tenant(1), tenant(2)]);

  test('a request runs in the context of its credential', async () => {
    const answer = await get('/items', one);
    expect([answer.status, JSON.parse(answer.text)]).toEqual([200, allItemsOf(1)]);
    expect((await get('/context', { ...one, 'x-request-id': 'r-1' })).json()).toEqual({ tenant: tenant(1), user: 'u_1', requestId: 'r-1' });
  });

  test('50 interleaved requests of different tenants over kept connections each get their own rows, whatever the shape of the answer', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 7 });
    onTestFinished(() => agent.destroy());
    const paths = ['/items', '/stream', '/sse', '/parsed', '/events'];
    const answers = await Promise.all(
      Array.from({ length: 50 }, async (_unused, at) => {
        const n = at + 1;
        const path = paths[at % paths.length] ?? '';
        const posted = path === '/parsed' ? { 'content-type': 'application/json' } : { 'content-type': 'text/plain' };
        const method = path === '/parsed' || path === '/events' ? 'POST' : 'GET';
        const headers = { ...(await issuer.credential(tenant(n))), ...(method === 'POST' && posted) };
        return send(`${app.url}${path}`, { method, headers, agent, ...(method === 'POST' && { body: JSON.stringify({ n, more: 'x'.repeat(100_000) }) }) });
      }),
    );
    for (const [at, answer] of answers.entries()) {
      const n = at + 1;
      expect(answer.status, answer.text).toBe(200);
      switch (paths[at % paths.length]) {
        case '/items':
          expect(JSON.parse(answer.text)).toEqual(allItemsOf(n));
          break;
        case '/stream':
          expect(answer.text).toBe(`${tenant(n)} ${itemOf(n)}\n`.repeat(chunks));
          break;
        case '/sse':
          expect(answer.text.match(/data: .*/g)).toEqual(Array.from({ length: chunks }, () => `data: ${tenant(n)} ${itemOf(n)}`));
          break;
        case '/parsed':
          expect(answer.json()).toMatchObject({ body: { n }, items: allItemsOf(n) });
          break;
        default:
          expect(answer.json()).toEqual({ length: JSON.stringify({ n, more: 'x'.repeat(100_000) }).length, items: allItemsOf(n) });
      }
    }
  });

  test('a kept connection carries nothing from one request to the next', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    const two = await issuer.credential(tenant(2));
    expect((await send(`${app.url}/items`, { headers: one, agent })).text).toBe(JSON.stringify(allItemsOf(1)));
    expect((await send(`${app.url}/health`, { agent })).json()).toEqual({ context: null });
    expect((await send(`${app.url}/items`, { agent })).status).toBe(401);
    const body = JSON.stringify({ n: 2 });
    const posted = await send(`${app.url}/parsed`, { method: 'POST', headers: { ...two, 'content-type': 'application/json' }, body, agent });
    expect(posted.json()).toEqual({ body: { n: 2 }, items: allItemsOf(2) });
    expect((await send(`${app.url}/stream`, { headers: two, agent })).text).toBe(`${tenant(2)} ${itemOf(2)}\n`.repeat(chunks));
  });

  test('a body that ends later goes on in the context of its request, on a connection that served another one before', async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    expect((await send(`${app.url}/items`, { headers: one, agent })).status).toBe(200);
    slow.begun = Promise.withResolvers();
    const headers = { ...(await issuer.credential(tenant(2))), 'content-type': 'text/plain' };
    const answer = await send(`${app.url}/events`, { method: 'POST', headers, agent, body: 'begun, ', rest: slow.begun.promise.then(() => 'and ended') });
    expect(answer.json()).toEqual({ length: 'begun, and ended'.length, items: allItemsOf(2) });
  });

  test('an aborted request keeps its context to its end, and the next one is served', async () => {
    slow.begun = Promise.withResolvers();
    slow.late = Promise.withResolvers();
    const abort = new AbortController();
    const answer = send(`${app.url}/slow`, { headers: await issuer.credential(tenant(9)), signal: abort.signal });
    answer.catch(() => undefined);
    await slow.begun.promise;
    abort.abort();
    await expect(answer).rejects.toThrow();
    expect(await slow.late.promise).toEqual({ tenant: tenant(9), first: itemOf(9) });
    expect((await get('/items', one)).status).toBe(200);
  });

  test('no cache keeps the answer of a tenant for another, unless the handler says how', async () => {
    expect((await get('/items', one)).headers['cache-control']).toBe('no-store');
    expect((await get('/items')).headers['cache-control']).toBe('no-store');
    expect((await get('/cached', one)).headers['cache-control']).toBe('private, max-age=60');
    expect((await get('/health')).headers['cache-control']).toBeUndefined();
  });

  test('public paths run without credential and without context, also with a credential', async () => {
    expect((await get('/health')).json()).toEqual({ context: null });
    expect((await get('/health', one)).json()).toEqual({ context: null });
    expect((await get('/assets/logo.png')).status).toBe(404);
    for (const path of ['/health/', '/healthy', '/assets', '/Health', '//health', '/items']) expect((await get(path)).status, path).toBe(401);
  });

  describe('the tenant', () => {
    test('may be named by the header, where the credential holds for it', async () => {
      for (const named of [tenant(2), tenant(2).toUpperCase(), ` ${tenant(2)} `, encodeURIComponent(tenant(2)), `${tenant(2)}, ${tenant(2)}`]) {
        expect((await get('/context', { ...several, 'x-tenant-id': named })).json(), named).toMatchObject({ tenant: tenant(2) });
      }
      expect((await get('/context', { ...several, 'x-tenant-id': [tenant(2), tenant(2)] })).json()).toMatchObject({ tenant: tenant(2) });
    });

    test('of another is refused with 403 and its code, and the handler does not run', async () => {
      const { message } = wallErrors.tenant_foreign;
      const foreign = [tenant(3), `${tenant(1)}, ${tenant(3)}`, `${tenant(1)}\t`.padEnd(300, 'x'), "' or true --", '*', '%00', '%zz', 'null', 'é'];
      for (const named of foreign) {
        const answer = await get('/items', { ...one, 'x-tenant-id': named });
        expect([answer.status, answer.headers['content-type']], named).toEqual([403, 'application/problem+json']);
        expect(answer.json()).toEqual({
          type: 'urn:partywall:problem:tenant_foreign',
          title: 'Forbidden',
          status: 403,
          code: 'tenant_foreign',
          detail: message,
          requestId: answer.headers['x-request-id'],
        });
      }
      expect((await get('/items', { ...one, 'x-tenant-id': [tenant(1), tenant(3)] })).status).toBe(403);
    });

    test('has to be named where there are several, and where it is required', async () => {
      expect((await get('/items', several)).json()).toMatchObject({ status: 400, code: 'tenant_required' });
      expect((await get('/items', { ...several, 'x-tenant-id': `${tenant(1)},${tenant(2)}` })).json()).toMatchObject({ status: 400, code: 'tenant_required' });
      expect((await get('/items', one, strict)).json()).toMatchObject({ status: 400, detail: 'the header X-Tenant-ID is required' });
      expect((await get('/items', { ...one, 'x-tenant-id': '' }, strict)).status).toBe(400);
      expect((await get('/items', { ...one, 'x-tenant-id': tenant(1) }, strict)).status).toBe(200);
    });

    test('may be named by the subdomain, which has to agree with the rest', async () => {
      const at = (host: string, more = {}) => get('/context', { ...several, host, ...more });
      expect((await at('acme.app.example.com')).json()).toMatchObject({ tenant: tenant(1) });
      expect((await at('GLOBEX.app.example.com.:8080')).json()).toMatchObject({ tenant: tenant(2) });
      expect((await at('acme.app.example.com', { 'x-tenant-id': tenant(1) })).status).toBe(200);
      expect((await at('acme.app.example.com', { 'x-tenant-id': tenant(2) })).status).toBe(400);
      for (const host of ['nobody.app.example.com', 'x.acme.app.example.com']) expect((await at(host)).json(), host).toMatchObject({ code: 'tenant_foreign' });
      for (const host of ['www.app.example.com', 'app.example.com', 'acme.app.example.com.evil.example']) expect((await at(host)).status, host).toBe(400);
      expect((await get('/items', { ...one, host: 'globex.app.example.com' })).status).toBe(403);
      expect((await at('www.app.example.com', { 'x-forwarded-host': 'acme.app.example.com' })).status).toBe(400);
    });

    test('that is suspended or gone is refused by the database, and nothing of its answer gets out', async () => {
      await wall.setState(tenant(50), 'suspended');
      onTestFinished(() => wall.setState(tenant(50), 'active'));
      const suspended = await get('/items', await issuer.credential(tenant(50)));
      expect(suspended.json()).toMatchObject({ status: 403, code: 'tenant_suspended', detail: wallErrors.tenant_suspended.message });
      expect(suspended.text).not.toContain(tenant(50));
      const gone = await get('/items', await issuer.credential('00000000-0000-0000-0000-00000000dead'));
      expect([gone.status, gone.json()['code'], gone.headers['www-authenticate']]).toEqual([401, 'unauthenticated', 'Bearer']);
    });
  });

  describe('a credential', () => {
    test('that does not hold is answered 401, whatever else the request says', async () => {
      for (const authorization of ['', 'Bearer', 'Bearer x', 'Basic dTpw', `${one.authorization}x`, one.authorization.slice(7), 'Bearer a.b.c']) {
        const answer = await get('/items', { authorization, 'x-tenant-id': tenant(3), 'x-unit-id': '2' });
        expect([answer.status, answer.json()['code']], authorization).toEqual([401, 'unauthenticated']);
      }
    });

    test('is asked of a browser on its page, and of a program by status', async () => {
      const page = await get('/items', { accept: 'text/html,*/*' }, strict);
      expect([page.status, page.headers.location, page.text]).toEqual([303, '/sign-in?from=app', '']);
      expect((await get('/sign-in?from=app', { accept: 'text/html' }, strict)).status).toBe(404);
      expect((await get('/items', { accept: 'application/json' }, strict)).status).toBe(401);
      const posted = await send(`${strict.url}/parsed`, { method: 'POST', headers: { accept: 'text/html', 'content-type': 'application/json' }, body: '{}' });
      expect(posted.status).toBe(401);
    });
  });

  describe('a business unit', () => {
    test('of the tenant is in the context', async () => {
      expect((await get('/context', { ...one, 'x-unit-id': '1' })).json()).toMatchObject({ tenant: tenant(1), unit: '1' });
      const bound = await issuer.credential(tenant(1), { unit: '1' });
      expect((await get('/context', bound)).json()).toMatchObject({ unit: '1' });
      expect((await get('/context', { ...bound, 'x-unit-id': '1' })).json()).toMatchObject({ unit: '1' });
    });

    test('of another tenant, of nobody or of no form is refused with 403: it does not belong to your tenant', async () => {
      for (const unit of ['2', '99', 'x', "1' or true", '1,2', '9'.repeat(400), '%00', '1;drop table units']) {
        const answer = await get('/items', { ...one, 'x-unit-id': unit });
        expect(answer.json(), unit).toMatchObject({ status: 403, code: 'unit_foreign', detail: 'the business unit does not belong to your tenant' });
      }
      expect((await get('/items', await issuer.credential(tenant(1), { unit: '2' }))).status).toBe(403);
      expect((await get('/items', { ...(await issuer.credential(tenant(2), { unit: '2' })), 'x-unit-id': '1' })).status).toBe(403);
    });
  });

  describe('an error', () => {
    test('of the handler stays with the application, in whichever way it is thrown', async () => {
      for (const path of ['/throws/sync', '/throws/async']) {
        const answer = await get(path, one);
        expect([answer.status, answer.json()], path).toEqual([500, { own: true }]);
      }
    });

    test('of the wall is a problem without what the database said', async () => {
      const answer = await get('/throws/cross', { ...one, 'x-request-id': 'cross-1' });
      expect(answer.json()).toEqual({
        type: 'urn:partywall:problem:cross_tenant',
        title: 'Forbidden',
        status: 403,
        code: 'cross_tenant',
        detail: wallErrors.cross_tenant.message,
        requestId: 'cross-1',
      });
    });

    test('in a stream breaks the answer off, and the next request is served', async () => {
      await expect(get('/throws/stream', one)).rejects.toThrow();
      expect((await get('/items', one)).status).toBe(200);
    });

    test('of the verifier is not taken for a missing credential', async () => {
      const failing = await start({ verify: (_request: RequestFacts) => Promise.reject(new Error('a secret of the verifier')) }, work);
      onTestFinished(() => failing.close());
      const answer = await get('/items', one, failing);
      expect(answer.status).toBe(500);
      expect(answer.text).not.toContain('secret of the verifier');
    });
  });

  describe('the request id', () => {
    test('is the one that came where it is well-formed, and one of our own elsewhere', async () => {
      expect((await get('/items', { ...one, 'x-request-id': 'abc-1.2:3' })).headers['x-request-id']).toBe('abc-1.2:3');
      for (const odd of ['', 'a b', '<script>', 'x'.repeat(129), '"', 'a,b']) {
        const { headers } = await get('/items', { ...one, 'x-request-id': odd });
        expect(headers['x-request-id'], odd).toMatch(/^[0-9a-f-]{36}$/);
      }
      expect((await get('/health')).headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    });
  });

  test('very long headers are refused, and the next request is served', async () => {
    const long = await get('/items', { ...one, 'x-tenant-id': 'x'.repeat(12_000) });
    expect(long.status).toBe(403);
    expect((await get('/items', { ...one, 'x-tenant-id': Array.from({ length: 300 }, () => tenant(1)) })).status).toBe(200);
    expect((await get('/items', { ...one, 'x-tenant-id': Array.from({ length: 200 }, (_unused, n) => tenant(n)) })).status).toBe(403);
    // Node itself answers what is longer, or hangs up.
    expect(
      await get('/items', { ...one, 'x-tenant-id': 'x'.repeat(20_000) }).then(
        ({ status }) => status,
        () => 431,
      ),
    ).toBe(431);
    expect((await get('/items', one)).status).toBe(200);
  });
});
