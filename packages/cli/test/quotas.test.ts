import { expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('expand', { quotas: { customers: { rows: 'public.customers' } } });
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari' } };
const run = (...args: string[]) => partywall(args, operator);

const { rows } = await on.database.query<{ tenant_id: string }>('select tenant_id from partywall_control.directory order by tenant_id');
const tenant = rows[0]?.tenant_id ?? '';
const there = (await on.database.query('select from customers where tenant_id = $1', [tenant])).rowCount ?? 0;

test('a plan is added, changed in what is named, listed and deleted', async () => {
  const added = await run('plans', 'set', 'team', '--title', 'Team', '--limit', 'api_calls=5', '--requests-per-minute', '30', '--json');
  expect(json(added)).toMatchObject({ created: true, plan: { name: 'team', tier: 'starter', limits: { api_calls: 5 }, requestsPerMinute: 30 } });
  const changed = await run('plans', 'set', 'team', '--limit', 'api_calls=none', '--tier', 'pro', '--requests-per-minute', 'none', '--json');
  expect(json(changed)).toMatchObject({ created: false, plan: { title: 'Team', tier: 'pro', limits: {}, requestsPerMinute: null } });
  expect((await run('plans', 'list')).stdout).toMatch(/^team {2}Team, tier pro, 0 tenants\n {2}limits {5}none\n {2}rate {7}no limit$/m);
  expect(await run('plans', 'delete', 'team')).toMatchObject({ status: 0, stdout: 'deleted team\n' });
  expect(await run('plans', 'delete', 'team')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is none') });
  const { rows: records } = await on.database.query("select distinct actor_kind, actor_id from partywall_control.audit_records where target = 'plan:team'");
  expect(records).toEqual([{ actor_kind: 'operator', actor_id: 'kari' }]);
});

test('a tenant changes its plan, and the command says what exceeds it', async () => {
  await run('plans', 'set', 'small', '--limit', `customers=${there - 1}`, '--requests-per-minute', 'none');
  const { status, stdout, stderr } = await run('plans', 'change', tenant, 'small', '--reason', 'asked for');
  expect(stderr).toBe('');
  expect(status).toBe(1);
  expect(stdout).toBe(`${tenant}: free → small\n  customers: ${there} where the plan allows ${there - 1}; it stays, and cannot grow\n`);
  expect(await run('plans', 'delete', 'small')).toMatchObject({ status: 1 });
  expect(await run('plans', 'change', 'nobody', 'small')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is none') });
});

test('a quota is shown, increased and revoked', async () => {
  expect(await run('quotas', 'show', tenant)).toMatchObject({ status: 1, stdout: expect.stringContaining(`customers: ${there} of ${there - 1} (`) });
  const until = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
  const increased = await run('quotas', 'increase', tenant, 'customers', String(there + 5), '--until', until, '--reason', 'a fair');
  expect(increased).toMatchObject({ status: 0, stdout: expect.stringContaining(`customers: ${there} of ${there + 5}`) });
  expect(increased.stdout).toContain(`increased until ${until}T00:00:00.000Z`);
  expect((await run('quotas', 'show', tenant)).status).toBe(0);
  expect((await run('quotas', 'revoke', tenant, 'customers')).status).toBe(0);
  expect((await run('quotas', 'revoke', tenant, 'customers')).status).toBe(1);
});

test('a tenant gets a rate of its own, and its plan’s again', async () => {
  expect((await run('quotas', 'rate', tenant, '60')).stdout).toBe('60 requests per minute and server, its own\n');
  expect((await run('quotas', 'rate', tenant, 'none')).stdout).toBe('no limit\n');
  expect((await run('quotas', 'rate', tenant, 'none')).status).toBe(1);
});

test('recounting says that all is right, or what was not', async () => {
  expect(await run('quotas', 'recount')).toMatchObject({ status: 0, stdout: `counted ${rows.length} tenants, repaired 0 counters\n` });
  await on.database.query(
    'set session_replication_role = replica; delete from customers where tenant_id = (select tenant_id from customers limit 1); reset session_replication_role',
  );
  expect(await run('quotas', 'recount')).toMatchObject({ status: 1, stdout: expect.stringMatching(/repaired 1 counter\n {2}\S+ customers: \d+, counted 0/) });
});

test.each([
  [['plans', 'set', 'Team']],
  [['plans', 'set', 'team', '--limit', 'customers']],
  [['plans', 'set', 'team', '--limit', 'custmers=1']],
  [['plans', 'set', 'team', '--requests-per-minute', '0']],
  [['quotas', 'increase', tenant, 'customers', '5', '--until', 'soon']],
  [['quotas', 'increase', tenant, 'customers', '5', '--until', '2020-01-01']],
  [['quotas', 'increase', tenant, 'customers', '5']],
  [['quotas', 'rate', tenant, 'fast']],
  [['quotas', 'show', 'nobody']],
  [['quotas', 'recount', 'nobody']],
  [['quotas']],
  [['plans']],
])('%j cannot be done', async (args) => {
  const { status, stdout, stderr } = await run(...args);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).not.toContain('internal');
});
