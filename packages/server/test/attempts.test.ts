import { system } from '@partywall/wall';
import { beforeAll, expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture();
const { server } = fixture;
const tenant = await fixture.tenant('Alder');
const superAdmin = await fixture.person({ superAdmin: true });
const admin = await fixture.person({ memberships: { [tenant]: 'admin' } });

const get = async (query = '', { headers } = superAdmin) => {
  const answer = await server.inject({ url: `/api/admin/attempts${query}`, headers });
  return { status: answer.statusCode, body: answer.json() };
};

beforeAll(async () => {
  for (let at = 0; at < 6; at += 1) {
    const attempt = { kind: 'tenant', source: '198.51.100.7', route: 'GET /items', actor: 'mallory', tenant, claimed: 'other', requestId: `r-${at}` };
    await system('attempt', () => fixture.app.query('select partywall.record_attempt($1)', [JSON.stringify(attempt)]));
  }
});

test('super-admins see attempts by pages, and which sources are blocked', async () => {
  const first = await get('?limit=4');
  expect(first.status).toBe(200);
  expect(first.body.items.map(({ requestId }: { requestId: string }) => requestId)).toEqual(['r-5', 'r-4', 'r-3', 'r-2']);
  expect(first.body.items[0]).toMatchObject({
    kind: 'tenant',
    source: '198.51.100.7',
    route: 'GET /items',
    actor: 'mallory',
    tenant,
    claimed: 'other',
    times: 1,
  });
  expect(first.body.blocks).toMatchObject([{ source: '198.51.100.7', attempts: 5, active: true, blockedBy: null }]);
  const rest = await get(`?limit=4&cursor=${first.body.nextCursor}`);
  expect(rest.body).toMatchObject({ items: [{ requestId: 'r-1' }, { requestId: 'r-0' }], nextCursor: null, blocks: [] });
});

test('a source, a tenant and a time narrow the list', async () => {
  expect((await get('?source=198.51.100.0/24')).body.items).toHaveLength(6);
  expect((await get('?source=203.0.113.0/24')).body.items).toEqual([]);
  expect((await get(`?tenantId=${tenant}&from=2026-01-01T00:00:00Z`)).body.items).toHaveLength(6);
  expect((await get('?tenantId=nobody')).body.items).toEqual([]);
});

test('what is no source, no cursor or no filter is refused with its name', async () => {
  expect(await get('?source=somewhere')).toMatchObject({ status: 400, body: { code: 'invalid_request', errors: [{ field: 'querystring/source' }] } });
  expect(await get('?cursor=e30')).toMatchObject({ status: 400, body: { code: 'invalid_cursor' } });
  expect((await get('?other=1')).status).toBe(400);
});

test('nobody else sees them, the admin of the tenant neither', async () => {
  expect((await get('', admin)).status).toBe(403);
  expect((await server.inject('/api/admin/attempts')).statusCode).toBe(401);
});
