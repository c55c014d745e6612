import { hash, randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture((app, { app: pool }) => {
  app.get('/api/customers', { config: { access: 'member', scope: 'customers:read' } }, async () => ({
    rows: (await pool.query('select name from customers')).rowCount,
  }));
  app.get('/api/slow', { config: { access: 'member', scope: 'customers:read' } }, async () => (await pool.query('select pg_sleep(60)')).rows);
});
const { server, database } = fixture;
const root = await fixture.person({ superAdmin: true });

/** A tenant with a person who has a session, and an API key. */
async function tenantWithKeys(name: string): Promise<{ id: string; session: Record<string, string>; key: Record<string, string> }> {
  const id = await fixture.tenant(name);
  const { headers } = await fixture.person({ memberships: { [id]: 'admin' } });
  const key = `pwk_${randomUUID()}`;
  await database.query(
    `insert into partywall_people."apikey" ("id", "configId", "name", "referenceId", "key", "enabled", "createdAt", "updatedAt", "permissions")
values ($1, 'default', 'test', $2, $3, true, now(), now(), '{"customers":["read"]}')`,
    [randomUUID(), id, hash('sha256', key, 'base64url')],
  );
  return { id, session: headers, key: { authorization: `Bearer ${key}` } };
}

async function move(id: string, action: string, body?: object) {
  return server.inject({ method: 'POST', url: `/api/admin/tenants/${id}/${action}`, headers: root.headers, ...(body && { payload: body }) });
}

async function status(url: string, headers: Record<string, string>): Promise<number> {
  return (await server.inject({ url, headers })).statusCode;
}

describe('over HTTP a suspension', () => {
  test('reaches session and API key with their next request, and no neighbour', async () => {
    const [tenant, neighbour] = [await tenantWithKeys('Stopped'), await tenantWithKeys('Neighbour')];
    for (const headers of [tenant.session, tenant.key]) expect(await status('/api/customers', headers)).toBe(200);
    expect((await move(tenant.id, 'suspend')).statusCode).toBe(200);
    for (const headers of [tenant.session, tenant.key]) expect(await status('/api/customers', headers)).toBe(403);
    for (const headers of [neighbour.session, neighbour.key]) expect(await status('/api/customers', headers)).toBe(200);
    await move(tenant.id, 'reactivate');
    for (const headers of [tenant.session, tenant.key]) expect(await status('/api/customers', headers)).toBe(200);
  });

  test('ends a request that is in the database', async () => {
    const tenant = await tenantWithKeys('Busy');
    const request = server.inject({ url: '/api/slow', headers: tenant.session });
    await expect
      .poll(
        async () =>
          (await database.query("select from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid() and state = 'active'")).rowCount,
      )
      .toBe(1);
    expect((await move(tenant.id, 'suspend')).json()).toMatchObject({ changed: true, endedSessions: 1 });
    expect((await request).statusCode).toBeGreaterThanOrEqual(500);
    expect(await status('/api/customers', tenant.session)).toBe(403);
  });

  test('and so do a cancellation, a deletion, and an erasure, after which the key is as good as none', async () => {
    const tenant = await tenantWithKeys('Going');
    for (const action of ['cancel', 'delete']) {
      expect((await move(tenant.id, action)).statusCode).toBe(200);
      for (const headers of [tenant.session, tenant.key]) expect(await status('/api/customers', headers), action).toBe(403);
    }
    expect((await move(tenant.id, 'delete', { hardDelete: true, force: true })).statusCode).toBe(200);
    for (const headers of [tenant.session, tenant.key]) await expect.poll(() => status('/api/customers', headers)).toBe(401);
  });
});
