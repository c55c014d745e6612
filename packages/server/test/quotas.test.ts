import { run } from '@partywall/wall';
import { expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture((app, { app: pool }) => {
  app.post('/api/customers', { config: { access: 'member' } }, async (request) => {
    await pool.query('insert into customers (tenant_id, name) values (partywall.tenant_id(), $1)', ['x']);
    return { tenant: request.tenant };
  });
  app.get('/api/ping', { config: { access: 'member' } }, async () => ({ pong: true }));
});
const { server, database } = fixture;
const operator = await fixture.person({ superAdmin: true });

type Method = 'GET' | 'PUT' | 'POST' | 'DELETE';

function ask(who: { headers: Record<string, string> }, method: Method, url: string, body?: object) {
  return server.inject({ method, url, headers: who.headers, ...(body && { payload: body }) });
}

const tiny = { title: 'Tiny', tier: 'free', limits: { customers: 2, api_calls: 5 }, requestsPerMinute: 1000, retentionDays: 1, auditRetentionDays: 1 };
await ask(operator, 'PUT', '/api/admin/plans/tiny', tiny);

async function tenantWithAdmin(name: string, plan: string) {
  const tenant = await fixture.tenant(name, plan);
  return { tenant, admin: await fixture.person({ memberships: { [tenant]: 'admin' } }) };
}

const tomorrow = () => new Date(Date.now() + 86_400_000).toISOString();

test('a plan is added, shown, replaced, listed and deleted, and each is recorded', async () => {
  expect((await ask(operator, 'PUT', '/api/admin/plans/team', { ...tiny, title: 'Team' })).statusCode).toBe(201);
  const replaced = await ask(operator, 'PUT', '/api/admin/plans/team', { ...tiny, title: 'Teams', limits: { users: 7 } });
  expect(replaced.statusCode).toBe(200);
  expect(replaced.json()).toMatchObject({ name: 'team', title: 'Teams', limits: { users: 7 }, tenants: 0 });
  expect((await ask(operator, 'GET', '/api/admin/plans/team')).json()).toEqual(replaced.json());
  const { items } = (await ask(operator, 'GET', '/api/admin/plans')).json<{ items: { name: string }[] }>();
  expect(items.map(({ name }) => name)).toEqual(['enterprise', 'free', 'pro', 'starter', 'team', 'tiny']);
  expect((await ask(operator, 'DELETE', '/api/admin/plans/team?reason=unsold')).statusCode).toBe(204);
  expect((await ask(operator, 'DELETE', '/api/admin/plans/team')).statusCode).toBe(404);
  expect((await ask(operator, 'GET', '/api/admin/plans/team')).statusCode).toBe(404);
  const { rows } = await database.query(
    "select action, reason, details -> 'before' ->> 'title' as before, details -> 'after' ->> 'title' as after from partywall_control.audit_records where target = 'plan:team' order by seq",
  );
  expect(rows).toEqual([
    { action: 'plan.create', reason: null, before: null, after: 'Team' },
    { action: 'plan.change', reason: null, before: 'Team', after: 'Teams' },
    { action: 'plan.delete', reason: 'unsold', before: 'Teams', after: null },
  ]);
});

test('a plan that tenants are on cannot be deleted, and one that limits what nothing counts cannot be written', async () => {
  await fixture.tenant('On free', 'free');
  const used = await ask(operator, 'DELETE', '/api/admin/plans/free');
  expect(used.json()).toMatchObject({ status: 409, code: 'plan_in_use', tenants: 1 });
  const misspelt = await ask(operator, 'PUT', '/api/admin/plans/odd', { ...tiny, limits: { custmers: 1 } });
  expect(misspelt.json()).toMatchObject({ status: 400, code: 'input_invalid', detail: 'writing plan odd: limits: nothing counts custmers' });
  // The plans that come with Partywall name common quotas, and can be written back as they are.
  const { name, changedAt, tenants, ...free } = (await ask(operator, 'GET', '/api/admin/plans/free')).json();
  expect([name, typeof changedAt, tenants]).toEqual(['free', 'string', 1]);
  expect((await ask(operator, 'PUT', '/api/admin/plans/free', free)).statusCode).toBe(200);
});

test('what exceeds a quota is refused with 403 and the quota, limit, usage and reset', async () => {
  const { tenant, admin } = await tenantWithAdmin('Refused', 'tiny');
  for (let n = 0; n < 2; n += 1) expect((await ask(admin, 'POST', '/api/customers')).statusCode).toBe(200);
  const refused = await ask(admin, 'POST', '/api/customers');
  expect(refused.statusCode).toBe(403);
  expect(refused.headers['content-type']).toContain('application/problem+json');
  expect(refused.json()).toMatchObject({ code: 'quota_exceeded', quota: 'customers', limit: 2, usage: 2, requested: 1, reset: null });
  expect((await database.query('select from customers where tenant_id = $1', [tenant])).rowCount).toBe(2);
});

test('of many parallel requests at the limit, as many succeed as there is room for', async () => {
  const { tenant, admin } = await tenantWithAdmin('Parallel', 'pro');
  await ask(operator, 'PUT', '/api/admin/plans/seven', { ...tiny, limits: { customers: 7 } });
  await ask(operator, 'POST', `/api/admin/tenants/${tenant}/plan`, { plan: 'seven' });
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask(admin, 'POST', '/api/customers')));
  expect(answers.map(({ statusCode }) => statusCode).toSorted()).toEqual([...Array.from({ length: 7 }, () => 200), ...Array.from({ length: 43 }, () => 403)]);
});

test('an increase lets a tenant grow until its date, is listed, revoked and recorded', async () => {
  const { tenant, admin } = await tenantWithAdmin('Increased', 'tiny');
  await run({ tenant }, () => fixture.app.query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 2) n', [tenant]));
  const until = tomorrow();
  const url = `/api/admin/tenants/${tenant}/quotas`;
  const increased = await ask(operator, 'POST', url, { quota: 'customers', limit: 3, until, reason: 'a trade fair' });
  expect(increased.json()).toMatchObject({ quota: 'customers', usage: 2, limit: 3, planLimit: 2, increase: { limit: 3, until, reason: 'a trade fair' } });
  expect((await ask(admin, 'POST', '/api/customers')).statusCode).toBe(200);
  expect((await ask(admin, 'POST', '/api/customers')).statusCode).toBe(403);

  const own = await ask(admin, 'GET', '/api/tenants/quotas');
  expect(own.json()).toEqual((await ask(operator, 'GET', url)).json());
  expect(own.json()).toMatchObject({ tenantId: tenant, plan: 'tiny', rateLimit: { requestsPerMinute: 1000, override: null } });
  const { quotas } = own.json<{ quotas: { quota: string; usage: number; limit: number | null; reset: string | null }[] }>();
  expect(quotas.map(({ quota, usage, limit }) => [quota, usage, limit])).toEqual([
    ['api_calls', 2, 5],
    ['customers', 3, 3],
    ['storage', 0, null],
    ['users', 0, null],
  ]);
  expect(quotas[0]?.reset).toMatch(/-01T00:00:00.000Z$/);

  expect((await ask(operator, 'DELETE', `${url}/customers`)).json()).toMatchObject({ usage: 3, limit: 2, increase: null });
  expect((await ask(operator, 'DELETE', `${url}/customers`)).statusCode).toBe(404);
  expect((await ask(admin, 'POST', '/api/customers')).json()).toMatchObject({ limit: 2, usage: 3 });
  const { rows } = await database.query(
    "select action, reason, target, details from partywall_control.audit_records where tenant_id = $1 and outcome = 'done' order by seq",
    [tenant],
  );
  expect(rows).toEqual([
    {
      action: 'quota.increase',
      reason: 'a trade fair',
      target: 'quota:customers',
      details: { before: null, after: { limit: 3, until }, planLimit: 2, usage: 2 },
    },
    { action: 'quota.increase_revoke', reason: null, target: 'quota:customers', details: { before: { limit: 3, until } } },
  ]);
});

test('an increase that has ended is in force no more, and no longer shown', async () => {
  const { tenant, admin } = await tenantWithAdmin('Ended', 'tiny');
  await ask(operator, 'POST', `/api/admin/tenants/${tenant}/quotas`, { quota: 'customers', limit: 9, until: tomorrow() });
  await database.query("update partywall_control.quota_increases set until = now() - interval '1 second' where tenant_id = $1", [tenant]);
  for (let n = 0; n < 2; n += 1) await ask(admin, 'POST', '/api/customers');
  expect((await ask(admin, 'POST', '/api/customers')).json()).toMatchObject({ code: 'quota_exceeded', limit: 2 });
  expect((await ask(operator, 'GET', `/api/admin/tenants/${tenant}/quotas`)).json().quotas[1]).toMatchObject({ limit: 2, increase: null });
});

test.each([
  ['a date that has passed', { until: '2020-01-01T00:00:00Z' }],
  ['a date that is too far', { until: '2999-01-01T00:00:00Z' }],
  ['a limit that is no increase', { limit: 2 }],
  ['a quota that is not', { quota: 'nothing' }],
  ['a quota that the plan does not limit', { quota: 'users' }],
  ['a limit that is no number', { limit: 'many' }],
  ['a limit beyond what is exact', { limit: 2 ** 60 }],
  ['an unknown field', { forever: true }],
])('an increase with %s is refused', async (_what, change) => {
  const tenant = await fixture.tenant(`Bad ${JSON.stringify(change)}`, 'tiny');
  const answer = await ask(operator, 'POST', `/api/admin/tenants/${tenant}/quotas`, { quota: 'customers', limit: 3, until: tomorrow(), ...change });
  expect(answer.statusCode).toBe(400);
});

test('a downgrade keeps what is there, names what exceeds the plan, and is in the root and the log', async () => {
  const { tenant, admin } = await tenantWithAdmin('Downgraded', 'pro');
  for (let n = 0; n < 4; n += 1) await ask(admin, 'POST', '/api/customers');
  const changed = await ask(operator, 'POST', `/api/admin/tenants/${tenant}/plan`, { plan: 'tiny', reason: 'asked for' });
  expect(changed.json()).toMatchObject({ tenantId: tenant, before: 'pro', after: 'tiny', exceeded: [{ quota: 'customers', usage: 4, limit: 2 }] });
  expect((await database.query('select plan from tenants where id = $1', [tenant])).rows).toEqual([{ plan: 'tiny' }]);
  expect((await ask(admin, 'POST', '/api/customers')).json()).toMatchObject({ quota: 'customers', limit: 2, usage: 4 });
  expect((await ask(operator, 'POST', `/api/admin/tenants/${tenant}/plan`, { plan: 'nope' })).json()).toMatchObject({ status: 400, code: 'plan_unknown' });
  const { rows } = await database.query("select reason, details from partywall_control.audit_records where tenant_id = $1 and action = 'tenant.plan_change'", [
    tenant,
  ]);
  expect(rows).toEqual([{ reason: 'asked for', details: { before: 'pro', after: 'tiny', exceeded: [{ quota: 'customers', usage: 4, limit: 2 }] } }]);
});

test('API calls beyond the month’s are refused with 403 and the start of the next month, and can still be looked at', async () => {
  const { admin } = await tenantWithAdmin('Calls', 'tiny');
  for (let n = 0; n < 5; n += 1) expect((await ask(admin, 'GET', '/api/ping')).statusCode).toBe(200);
  const refused = await ask(admin, 'GET', '/api/ping');
  expect(refused.statusCode).toBe(403);
  expect(refused.json()).toMatchObject({ code: 'quota_exceeded', quota: 'api_calls', limit: 5, usage: 5, requested: 1 });
  expect(new Date(refused.json().reset).getUTCDate()).toBe(1);
  const own = await ask(admin, 'GET', '/api/tenants/quotas');
  expect(own.json().quotas[0]).toMatchObject({ quota: 'api_calls', usage: 5, limit: 5, reset: refused.json().reset });
});

test('a super-admin acts on a tenant without using up its calls', async () => {
  const { tenant, admin } = await tenantWithAdmin('Operated', 'tiny');
  for (let n = 0; n < 6; n += 1) {
    expect((await server.inject({ url: '/api/ping', headers: { ...operator.headers, 'x-tenant-id': tenant } })).statusCode).toBe(200);
  }
  expect((await ask(admin, 'GET', '/api/ping')).statusCode).toBe(200);
});

test('a tenant that is rate limited gets 429 with Retry-After, its neighbours do not, and it ends when taken away', async () => {
  const { tenant, admin } = await tenantWithAdmin('Limited', 'pro');
  const neighbour = await tenantWithAdmin('Neighbour', 'pro');
  const url = `/api/admin/tenants/${tenant}/rate-limit`;
  expect((await ask(admin, 'GET', '/api/ping')).statusCode).toBe(200);
  const limited = await ask(operator, 'POST', url, { requestsPerMinute: 1, reason: 'it keeps the others waiting' });
  expect(limited.json()).toMatchObject({ requestsPerMinute: 1, override: { requestsPerMinute: 1, until: null, reason: 'it keeps the others waiting' } });
  const answers = [await ask(admin, 'GET', '/api/ping'), await ask(admin, 'GET', '/api/ping')];
  const refused = answers.find(({ statusCode }) => statusCode === 429);
  expect(refused?.json()).toMatchObject({ code: 'too_many_requests' });
  expect(Number(refused?.headers['retry-after'])).toBeGreaterThan(0);
  expect((await ask(neighbour.admin, 'GET', '/api/ping')).statusCode).toBe(200);
  expect((await ask(operator, 'DELETE', url)).json()).toEqual({ requestsPerMinute: 1200, override: null });
  expect((await ask(admin, 'GET', '/api/ping')).statusCode).toBe(200);
  expect((await ask(operator, 'DELETE', url)).statusCode).toBe(404);
});

test('a tenant that does not exist has no plan, quotas or rate to change', async () => {
  const at = (rest: string) => `/api/admin/tenants/00000000-0000-0000-0000-000000000000/${rest}`;
  const answers = await Promise.all([
    ask(operator, 'GET', at('quotas')),
    ask(operator, 'POST', at('plan'), { plan: 'pro' }),
    ask(operator, 'POST', at('quotas'), { quota: 'customers', limit: 9, until: tomorrow() }),
    ask(operator, 'DELETE', at('quotas/customers')),
    ask(operator, 'POST', at('rate-limit'), { requestsPerMinute: 9 }),
    ask(operator, 'DELETE', at('rate-limit')),
  ]);
  expect(answers.map(({ statusCode }) => statusCode)).toEqual(answers.map(() => 404));
});

test('neither a tenant’s admin nor anybody else changes plans, quotas and rates', async () => {
  const { tenant, admin } = await tenantWithAdmin('Own', 'tiny');
  const other = await tenantWithAdmin('Other', 'tiny');
  for (const [method, url, body] of [
    ['POST', `/api/admin/tenants/${tenant}/plan`, { plan: 'enterprise' }],
    ['POST', `/api/admin/tenants/${tenant}/quotas`, { quota: 'customers', limit: 99, until: tomorrow() }],
    ['POST', `/api/admin/tenants/${tenant}/rate-limit`, { requestsPerMinute: 1_000_000 }],
    ['PUT', '/api/admin/plans/tiny', tiny],
    ['GET', `/api/admin/tenants/${tenant}/quotas`, undefined],
  ] as const) {
    expect((await ask(admin, method, url, body)).statusCode, url).toBe(403);
    expect((await ask({ headers: {} }, method, url, body)).statusCode, url).toBe(401);
  }
  expect((await ask(other.admin, 'GET', `/api/tenants/quotas?tenantId=${tenant}`)).statusCode).toBe(404);
  const member = await fixture.person({ memberships: { [tenant]: 'member' } });
  expect((await ask(member, 'GET', '/api/tenants/quotas')).statusCode).toBe(403);
});
