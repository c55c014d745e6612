import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture();
const { server, database } = fixture;
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
await database.query(`insert into customers (tenant_id, name) select '${alder}', 'Customer ' || n from generate_series(1, 2000) n`);
await database.query(`insert into customers (tenant_id, name) values ('${birch}', 'of birch')`);
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
