import { once } from 'node:events';
import fs from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { root } from '../../../../test/support/repository.ts';
import { tenant, walledDatabase } from '../walled-database.ts';

/** The recipes of docs/guide/frameworks.md, run as they are written there. */
const wall = await walledDatabase();
await wall.database.query(`create table invoices (id int generated always as identity, tenant_id uuid not null default partywall.tenant_id(), total int not null, primary key (tenant_id, id));
  create table business_units (id int primary key, tenant_id uuid not null);
  insert into invoices (tenant_id, total) select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, n * 100 from generate_series(1, 3) n;
  insert into business_units values (1, '${tenant(1)}'), (2, '${tenant(2)}');
  grant select, insert on invoices to ${wall.app}; grant select on business_units to ${wall.app}`);
for (const table of ['invoices', 'business_units']) {
  await wall.database.query(`alter table ${table} enable row level security; alter table ${table} force row level security;
    create policy pw_tenant on ${table} using (tenant_id = partywall.tenant_id()) with check (tenant_id = partywall.tenant_id())`);
}

type Ask = (method: string, url: string, init?: { headers?: Record<string, string>; body?: string }) => Promise<{ status: number; text: string }>;

const { publicKey, privateKey } = await generateKeyPair('ES256');
let folder = '';
let keys: http.Server;

beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-recipes-'));
  await fs.symlink(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
  const text = await fs.readFile(path.join(root, 'docs/guide/frameworks.md'), 'utf8');
  for (const [, name = '', code = ''] of text.matchAll(/<!-- file: (\S+) -->\n```ts\n([\s\S]*?)```/g)) await fs.writeFile(path.join(folder, name), code);
  const jwk = { ...(await exportJWK(publicKey)), alg: 'ES256' };
  keys = http.createServer((_, response) => response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: [jwk] })));
  keys.listen(0, '127.0.0.1');
  await once(keys, 'listening');
  process.env['AUTH_JWKS_URL'] = `http://127.0.0.1:${(keys.address() as AddressInfo).port}/jwks.json`; // it listens on TCP
  process.env['DATABASE_URL'] = wall.database.urlAs(wall.app);
});

afterAll(async () => {
  const { pool } = await load('tenants.ts');
  await Reflect.get(Object(pool), 'end').call(pool);
  keys.close();
  await fs.rm(folder, { recursive: true, force: true });
});

function load(name: string): Promise<Record<string, unknown>> {
  return import(pathToFileURL(path.join(folder, name)).href);
}

async function token(n: number): Promise<{ authorization: string }> {
  const signed = await new SignJWT({ tenant: tenant(n) })
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer('https://login.example.com')
    .setAudience('invoices')
    .setSubject('u_1')
    .setExpirationTime('5m')
    .sign(privateKey);
  return { authorization: `Bearer ${signed}` };
}

/** Each recipe as something to ask; `called` is its server or its exports. */
const recipes: Readonly<Record<string, () => Promise<{ ask: Ask; end?: () => unknown }>>> = {
  'express.ts': async () => {
    const { app } = await load('express.ts');
    const server = http.createServer(app as http.RequestListener); // an Express application is one
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { ask: async (method, url, init) => told(await fetch(`${origin}${url}`, { method, ...init })), end: () => server.close() };
  },
  'fastify.ts': async () => {
    const { app } = (await load('fastify.ts')) as { app: import('fastify').FastifyInstance }; // as the recipe says
    return {
      ask: async (method, url, { headers = {} } = {}) => {
        const answer = await app.inject({ method: method as 'GET', url, headers });
        return { status: answer.statusCode, text: answer.body };
      },
      end: () => app.close(),
    };
  },
  'hono.ts': async () => {
    const { app } = (await load('hono.ts')) as { app: import('hono').Hono }; // as the recipe says
    return { ask: async (method, url, init) => told(await app.request(url, { method, ...init })) };
  },
  'route.ts': async () => {
    const route = await load('route.ts');
    return {
      ask: async (method, url, init) => {
        const handler = route[method] as (request: Request, route: object) => Promise<Response>; // as Next.js calls it
        return told(await handler(new Request(`http://localhost${url}`, { method, ...init }), { params: Promise.resolve({}) }));
      },
    };
  },
};

async function told(response: Response): Promise<{ status: number; text: string }> {
  return { status: response.status, text: await response.text() };
}

describe.each(Object.keys(recipes))('the recipe %s', (name) => {
  test('serves each tenant its own rows, and refuses who names another tenant or unit', async () => {
    const { ask, end } = (await recipes[name]?.()) ?? {};
    if (!ask) throw new TypeError(`no recipe ${name}`);
    try {
      for (const n of [1, 2, 3]) expect(JSON.parse((await ask('GET', '/invoices', { headers: await token(n) })).text)).toEqual([{ id: n, total: n * 100 }]);
      expect((await ask('GET', '/invoices')).status).toBe(401);
      const headers = await token(1);
      expect((await ask('GET', '/invoices', { headers: { ...headers, 'x-tenant-id': tenant(2) } })).status).toBe(403);
      const unit = await ask('GET', '/invoices', { headers: { ...headers, 'x-unit-id': '2' } });
      expect(JSON.parse(unit.text)).toMatchObject({ status: 403, detail: 'the business unit does not belong to your tenant' });
      expect((await ask('GET', '/invoices', { headers: { ...headers, 'x-unit-id': '1' } })).status).toBe(200);
      if (name !== 'route.ts') expect(await ask('GET', '/health')).toEqual({ status: 200, text: 'ok' });
    } finally {
      await end?.();
    }
  });
});

test('an application goes on when the server has ended its idle connections, as a rotation of the password does', async () => {
  const { ask } = (await recipes['route.ts']?.()) ?? {};
  const headers = await token(2);
  expect((await ask?.('GET', '/invoices', { headers }))?.status).toBe(200);
  const { pool } = (await load('tenants.ts')) as { pool: import('pg').Pool }; // as the recipe says
  await wall.database.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [wall.app]);
  await vi.waitFor(() => expect(pool.totalCount).toBe(0));
  expect((await ask?.('GET', '/invoices', { headers }))?.status).toBe(200);
});

test('the handler of Next.js writes for the tenant of its request', async () => {
  const { ask } = (await recipes['route.ts']?.()) ?? {};
  const body = JSON.stringify({ total: 7 });
  const written = await ask?.('POST', '/invoices', { headers: { ...(await token(4)), 'content-type': 'application/json' }, body });
  expect(written?.status).toBe(201);
  expect((await wall.database.query('select total from invoices where tenant_id = $1', [tenant(4)])).rows).toEqual([{ total: 7 }]);
});
