import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture();
const { server, database } = fixture;
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
await database.query(`insert into customers (tenant_id, name) select '${alder}', 'Customer ' || n from generate_series(1, 2000) n`);
await database.query(`insert into customers (tenant_id, name) values ('${birch}', 'of birch')`);
await server.listen({ port: 0, host: '127.0.0.1' });
const operator = await fixture.person({ superAdmin: true });
const admin = await fixture.person({ memberships: { [alder]: 'admin' } });
const member = await fixture.person({ memberships: { [alder]: 'member' } });

test('an admin exports the own tenant with or without its id, a super-admin any, a member none', async () => {
  const own = await server.inject({ url: '/api/tenants/export', headers: admin.headers });
  expect(own.statusCode).toBe(200);
  expect(own.headers).toMatchObject({
    'content-type': expect.stringContaining('application/json'),
    'content-disposition': expect.stringContaining('tenant-export.json'),
  });
  expect(own.json()).toMatchObject({ header: { tenant: { id: alder, name: 'Alder' } }, trailer: { rows: 2001 } });
  const named = await server.inject({ url: `/api/tenants/export?tenantId=${birch}`, headers: operator.headers });
  expect(named.json().tables['public.customers']).toMatchObject([{ name: 'of birch' }]);
  expect((await server.inject({ url: `/api/tenants/export?tenantId=${alder}`, headers: member.headers })).statusCode).toBe(403);
  expect((await server.inject({ url: `/api/tenants/export?tenantId=${birch}`, headers: admin.headers })).statusCode).toBe(404);
  expect((await server.inject({ url: `/api/tenants/export?tenantId=${alder}` })).statusCode).toBe(401);
  expect((await server.inject({ url: '/api/tenants/export?tenantId=nobody', headers: operator.headers })).json()).toMatchObject({
    status: 404,
    code: 'tenant_unknown',
  });
});

test('what was exported is restored as the documented curl sends it, without its line ends and past the limit of bodies', async () => {
  const document = await server.inject({ url: `/api/tenants/export?tenantId=${alder}`, headers: operator.headers });
  const { sha256 } = document.json().trailer;
  await database.query(`update customers set name = 'lost' where tenant_id = '${alder}'`);
  const payload = document.body.replaceAll(/[\r\n]/g, '');
  expect(payload.length).toBeGreaterThan(100_000);
  const headers = { ...operator.headers, 'content-type': 'application/json' };

  const dry = await server.inject({ method: 'POST', url: '/api/admin/tenants/restore?dryRun=true', headers, payload });
  expect(dry.json()).toMatchObject({ applied: false, hashEqual: null });
  expect(dry.json().tables).toContainEqual({ table: 'public.customers', inserted: 0, updated: 2000, deleted: 0, unchanged: 0 });
  const done = await server.inject({ method: 'POST', url: '/api/admin/tenants/restore', headers, payload: Readable.from([payload]) });

  expect(done.json()).toMatchObject({ tenant: alder, applied: true, hashEqual: true, sha256 });
});

test('only a super-admin restores, with a body of JSON', async () => {
  const url = '/api/admin/tenants/restore';
  const json = { 'content-type': 'application/json' };
  expect((await server.inject({ method: 'POST', url, headers: { ...admin.headers, ...json }, payload: '{}' })).statusCode).toBe(403);
  expect((await server.inject({ method: 'POST', url, headers: { ...operator.headers, ...json }, payload: '{}' })).json()).toMatchObject({
    status: 400,
    code: 'export_invalid',
  });
  expect((await server.inject({ method: 'POST', url, headers: operator.headers })).statusCode).toBe(400);
  expect((await server.inject({ method: 'POST', url, headers: { ...operator.headers, 'content-type': 'text/plain' }, payload: '{}' })).statusCode).toBe(415);
});

const copyingFiles = `datname = current_database() and query like 'copy (%"files"%' and state = 'active'`;

test('an export that fails in the middle ends the connection and not the document', async () => {
  const tenant = await large('Cedar');
  const answer = await ask({ path: `/api/tenants/export?tenantId=${tenant}` }, '');
  expect(answer.statusCode).toBe(200);
  await once(answer, 'readable');
  await until(`select from pg_stat_activity where ${copyingFiles}`, 1);
  await database.query(`select pg_terminate_backend(pid) from pg_stat_activity where ${copyingFiles}`);
  const characters = drain(answer).then(({ length }) => length);
  await expect(characters).rejects.toThrow('aborted');
  await recorded(tenant, false);
});

test('a client that leaves in the middle of an export frees its connection and is on record', async () => {
  const tenant = await large('Dogwood');
  const answer = await ask({ path: `/api/tenants/export?tenantId=${tenant}` }, '');
  await once(answer, 'readable');
  answer.destroy();
  await recorded(tenant, false);
  await until(`select from pg_stat_activity where ${copyingFiles}`, 0);
});

test('a client that leaves in the middle of a restore leaves the tenant as it is', async () => {
  const tenant = await large('Elm');
  const document = (await server.inject({ url: `/api/tenants/export?tenantId=${tenant}`, headers: operator.headers })).body;
  await database.query(`update files set name = 'changed' where tenant_id = '${tenant}'`);
  const request = post();
  request.on('error', () => undefined);
  request.write(document.slice(0, document.length / 2));
  await until(`select from pg_stat_activity where datname = current_database() and application_name = 'partywall test' and query like 'copy pg_temp.%'`, 1);
  request.destroy();
  await until(
    `select from pg_stat_activity where datname = current_database() and application_name = 'partywall test' and query like 'copy pg_temp.%' and state <> 'idle'`,
    0,
  );
  const { rows } = await database.query(`select distinct name from files where tenant_id = '${tenant}'`);
  expect(rows).toEqual([{ name: 'changed' }]);
});

test('a body that is refused early is answered before it has all arrived', async () => {
  const request = post();
  request.on('error', () => undefined);
  request.write('{"header":{"format":"another"}');
  const [answer] = await once(request, 'response');
  expect(answer.statusCode).toBe(400);
  expect(JSON.parse(await drain(answer))).toMatchObject({ code: 'export_invalid' });
  request.destroy();
});

/** A tenant whose export is longer than all buffers on its way. */
async function large(name: string): Promise<string> {
  const id = await fixture.tenant(name);
  await database.query(`insert into files (tenant_id, name, size_bytes) select '${id}', n || repeat('x', 100000), 1 from generate_series(1, 400) n`);
  return id;
}

function options(more: http.RequestOptions): http.RequestOptions {
  const { port } = server.server.address() as AddressInfo; // it listens on TCP
  return { port, host: '127.0.0.1', agent: false, ...more, headers: { ...operator.headers, ...more.headers } };
}

function post(): http.ClientRequest {
  return http.request(options({ method: 'POST', path: '/api/admin/tenants/restore', headers: { 'content-type': 'application/json' } }));
}

async function ask(more: http.RequestOptions, body: string): Promise<http.IncomingMessage> {
  const request = http.request(options(more));
  request.end(body);
  const [answer] = (await once(request, 'response')) as [http.IncomingMessage]; // the only argument of this event
  return answer;
}

async function drain(answer: http.IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of answer) text += chunk;
  return text;
}

async function recorded(tenant: string, complete: boolean): Promise<void> {
  await until(
    `select from partywall_control.audit_records where tenant_id = '${tenant}' and action = 'tenant.export' and details -> 'complete' = '${complete}'`,
    1,
  );
}

/** Waits until a query finds so many rows. */
async function until(query: string, count: number): Promise<void> {
  while ((await database.query(query)).rowCount !== count) await new Promise((resolve) => setImmediate(resolve));
}
