import { current } from '@partywall/wall';
import { expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture((app, { app: pool }) => {
  app.get('/api/customers', { config: { access: 'member' } }, async () => ({
    tenant: current().tenant,
    names: (await pool.query<{ name: string }>('select name from customers order by name')).rows.map(({ name }) => name),
  }));
});
const { server } = fixture;
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
await fixture.database.query('insert into customers (tenant_id, name) values ($1, $2), ($3, $4)', [alder, 'of alder', birch, 'of birch']);
const ofAlder = await fixture.person({ memberships: { [alder]: 'member' } });

test('a route of the application runs in the context of the tenant that the token belongs to', async () => {
  const answer = await server.inject({ url: '/api/customers', headers: ofAlder.headers });
  expect(answer.json()).toEqual({ tenant: alder, names: ['of alder'] });
});

test('a header that names another tenant is answered as if there were none, and recorded', async () => {
  const answer = await server.inject({ url: '/api/customers', headers: { ...ofAlder.headers, 'x-tenant-id': birch } });
  expect(answer.statusCode).toBe(404);
  const { rows } = await fixture.database.query('select actor_id, action, outcome from partywall_control.audit_records where tenant_id = $1', [birch]);
  expect(rows).toEqual([{ actor_id: ofAlder.id, action: 'access.cross_tenant', outcome: 'denied' }]);
});

test('a request without a token, or with a made-up one, is refused', async () => {
  expect((await server.inject('/api/customers')).statusCode).toBe(401);
  const answer = await server.inject({ url: '/api/customers', headers: { authorization: 'Bearer made-up' } });
  expect(answer.statusCode).toBe(401);
  expect(answer.json()).toMatchObject({ code: 'unauthorized', type: 'urn:partywall:problem:unauthorized' });
});

test('health tells that the database answers', async () => {
  expect((await server.inject('/api/health')).json()).toEqual({ status: 'ok', live: true, ready: true, database: 'ok' });
});
