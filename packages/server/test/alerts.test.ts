import { readFile } from 'node:fs/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { receiver } from './delivery/receiver.ts';
import { serverFixture } from './server.ts';

const fixture = await serverFixture(undefined, { delivery: { allowPrivateTargets: true, timeoutMs: 2_000, pollMs: 50 } });
const { server } = fixture;
const { query } = fixture.database;
const operator = await fixture.person({ superAdmin: true });

/** A tenant with so many of its 100 customers, and the headers of its admin and of a member. */
async function tenantWith(name: string, customers: number): Promise<{ tenant: string; admin: Headers; member: Headers }> {
  const tenant = await fixture.tenant(name, 'free');
  await query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, $2) n', [tenant, customers]);
  const [admin, member] = [await fixture.person({ memberships: { [tenant]: 'admin' } }), await fixture.person({ memberships: { [tenant]: 'member' } })];
  return { tenant, admin: admin.headers, member: member.headers };
}
type Headers = Record<string, string>;

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown> & { items?: Record<string, unknown>[] };
}

async function ask(method: 'GET' | 'POST' | 'PUT' | 'DELETE', url: string, body?: object, headers: Headers = operator.headers): Promise<Answer> {
  const answer = await server.inject({ method, url, headers, ...(body && { payload: body }) });
  return { status: answer.statusCode, body: answer.body === '' ? {} : answer.json() };
}

/** A condition is waited for, however slow the machine. */
const patient = { timeout: 30_000 };

beforeEach(async () => {
  await query('truncate partywall_control.alerts, partywall_control.alert_evaluation, partywall_control.alert_channels, partywall_control.deliveries');
  await query('truncate partywall_control.request_minutes');
  await query('delete from tenants');
  await query("update partywall_control.alert_rules set enabled = metric <> 'connections'");
});

describe('GET /api/admin/alerts', () => {
  test('shows all alerts, how many are open, how old that is, and the metrics of the system, with nothing but a token', async () => {
    const [warned, critical] = [await tenantWith('Warned', 85), await tenantWith('Critical', 99)];
    await tenantWith('Fine', 3);
    const { status, body } = await ask('GET', '/api/admin/alerts');
    expect(status).toBe(200);
    expect(body).toMatchObject({
      nextCursor: null,
      open: { warning: 1, critical: 1, acknowledged: 0 },
      evaluatedAt: expect.stringMatching(/Z$/),
      metrics: { tenants: { total: 3, byStatus: { active: 3 } }, connections: { max: expect.any(Number) } },
    });
    expect(body.items).toHaveLength(2);
    expect(body.items).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ tenantId: warned.tenant, tenantName: 'Warned', severity: 'warning', quota: 'customers', value: 85, threshold: 80 }),
        expect.objectContaining({ tenantId: critical.tenant, severity: 'critical', value: 99, threshold: 95 }),
      ]),
    );
  });

  test('filters, and pages through the rest', async () => {
    const { tenant } = await tenantWith('A', 85);
    await tenantWith('B', 99);
    await tenantWith('C', 99);
    const names = async (of: string): Promise<unknown[]> => (await ask('GET', `/api/admin/alerts?${of}`)).body.items?.map(({ tenantName }) => tenantName) ?? [];
    expect(await names('severity=warning')).toEqual(['A']);
    expect((await names('severity=critical')).toSorted()).toEqual(['B', 'C']);
    expect(await names(`tenantId=${tenant}`)).toEqual(['A']);
    expect(await names('status=resolved')).toEqual([]);
    expect(await names('acknowledged=true')).toEqual([]);
    const first = await ask('GET', '/api/admin/alerts?limit=2');
    const second = await ask('GET', `/api/admin/alerts?limit=2&cursor=${String(first.body['nextCursor'])}`);
    expect([...(first.body.items ?? []), ...(second.body.items ?? [])].map((alert) => alert['tenantName']).toSorted()).toEqual(['A', 'B', 'C']);
    expect(second.body).toMatchObject({ nextCursor: null, metrics: null });
  });

  test('refuses what it does not document', async () => {
    for (const of of ['status=closed', 'severity=fatal', 'limit=0', 'limit=1000000', 'sort=id', 'acknowledged=maybe', 'cursor=garbage', 'tenantId=%00']) {
      expect((await ask('GET', `/api/admin/alerts?${of}`)).status, of).toBe(400);
    }
  });
});

describe('GET /api/tenants/alerts', () => {
  test("shows the own tenant's alerts alone, and none of the system's", async () => {
    const [own, other] = [await tenantWith('Own', 85), await tenantWith('Another', 99)];
    await query(
      "insert into partywall_control.request_minutes (tenant_id, minute, calls, errors, millis, buckets) values ('', date_trunc('minute', now()), 1000, 900, 0, '{1000,0,0,0,0,0,0,0,0,0,0}')",
    );
    const { status, body } = await ask('GET', '/api/tenants/alerts', undefined, own.admin);
    expect(status).toBe(200);
    expect(body).toMatchObject({ open: { warning: 1, critical: 0 }, items: [{ quota: 'customers', severity: 'warning', value: 85 }] });
    expect(JSON.stringify(body)).not.toContain('Another');
    expect(JSON.stringify(body)).not.toContain(other.tenant);
    expect((await ask('GET', '/api/admin/alerts')).body.items).toHaveLength(3);
  });

  test("keeps the operators' notes from the tenant", async () => {
    const own = await tenantWith('Own', 85);
    const [alert] = (await ask('GET', '/api/admin/alerts')).body.items ?? [];
    await ask('POST', `/api/admin/alerts/${String(alert?.['id'])}/acknowledge`, { note: 'they never pay' });
    const { body } = await ask('GET', '/api/tenants/alerts', undefined, own.admin);
    expect(body.items).toMatchObject([{ acknowledgedAt: expect.any(String) }]);
    expect(JSON.stringify(body)).not.toMatch(/never pay|acknowledgedBy|Person/);
  });

  test('is for admins of that tenant', async () => {
    const [own, other] = [await tenantWith('Own', 85), await tenantWith('Other', 99)];
    expect((await ask('GET', '/api/tenants/alerts', undefined, own.member)).status).toBe(403);
    expect((await ask('GET', `/api/tenants/alerts?tenantId=${other.tenant}`, undefined, own.admin)).status).toBe(404);
    expect((await ask('GET', `/api/tenants/alerts?tenantId=${other.tenant}`)).body.items).toHaveLength(1);
  });
});

test.each([
  ['GET', '/api/admin/alerts'],
  ['POST', '/api/admin/alerts/evaluate'],
  ['POST', '/api/admin/alerts/9ac5d9f2-63b5-4a64-8f4d-1bb5a4f7b6f1/acknowledge'],
  ['GET', '/api/admin/alert-rules'],
  ['GET', '/api/admin/alert-rules/storage'],
  ['PUT', '/api/admin/alert-rules/storage'],
  ['DELETE', '/api/admin/alert-rules/storage'],
  ['GET', '/api/admin/alert-rules/storage/tenants'],
  ['PUT', '/api/admin/alert-rules/storage/tenants/x'],
  ['DELETE', '/api/admin/alert-rules/storage/tenants/x'],
  ['GET', '/api/admin/alert-channels'],
  ['GET', '/api/admin/alert-channels/ops'],
  ['PUT', '/api/admin/alert-channels/ops'],
  ['DELETE', '/api/admin/alert-channels/ops'],
  ['POST', '/api/admin/alert-channels/ops/test'],
  ['GET', '/api/admin/alert-deliveries'],
] as const)('%s %s is for super-admins', async (method, url) => {
  const { admin } = await tenantWith('Own', 0);
  expect((await ask(method, url, undefined, admin)).status).toBe(403);
  expect((await ask(method, url, undefined, {})).status).toBe(401);
});

describe('acting on alerts', () => {
  test('evaluating takes no body, and takes a tenant', async () => {
    const { tenant } = await tenantWith('One', 85);
    await tenantWith('Two', 85);
    expect(await ask('POST', '/api/admin/alerts/evaluate', { tenantId: tenant })).toMatchObject({ status: 200, body: { opened: 1 } });
    expect(await ask('POST', '/api/admin/alerts/evaluate')).toMatchObject({ status: 200, body: { opened: 1, kept: 1 } });
    expect(await ask('POST', '/api/admin/alerts/evaluate', { tenantId: 'nobody' })).toMatchObject({ status: 404, body: { code: 'tenant_unknown' } });
  });

  test('acknowledging says who, once', async () => {
    await tenantWith('One', 85);
    const [alert] = (await ask('GET', '/api/admin/alerts')).body.items ?? [];
    const url = `/api/admin/alerts/${String(alert?.['id'])}/acknowledge`;
    expect(await ask('POST', url)).toMatchObject({ status: 200, body: { acknowledgedBy: expect.stringMatching(/^Person/), note: null } });
    expect(await ask('POST', url, { note: 'me too' })).toMatchObject({ status: 200, body: { note: null } });
    expect((await ask('GET', '/api/admin/alerts?acknowledged=false')).body.items).toEqual([]);
    expect(await ask('POST', '/api/admin/alerts/9ac5d9f2-63b5-4a64-8f4d-1bb5a4f7b6f1/acknowledge')).toMatchObject({
      status: 404,
      body: { code: 'alert_unknown' },
    });
    expect((await ask('POST', '/api/admin/alerts/1/acknowledge')).status).toBe(400);
  });
});

describe('rules', () => {
  const rule = { title: 'Notes', metric: 'quota', quota: 'notes', warning: 50, critical: 60 };

  test('the documented thresholds are there from the start', async () => {
    const { body } = await ask('GET', '/api/admin/alert-rules');
    const thresholds = body.items?.map(
      ({ name, warning, critical, minCalls }) => `${String(name)} ${String(warning)}/${String(critical)} from ${String(minCalls)}`,
    );
    expect(thresholds).toEqual([
      'api_calls 80/95 from 0',
      'backup_failed 1/3 from 0',
      'connections 80/95 from 0',
      'cross_tenant 1/5 from 0',
      'drill_failed 1/2 from 0',
      'error_rate 1/5 from 20',
      'jobs 1/3 from 0',
      'quotas 80/95 from 0',
      'response_time 500/2000 from 20',
      'rollout_context_errors 10/10 from 0',
      'rollout_gate 1/1 from 0',
      'rollout_p99 200/1000 from 1000',
      'rollout_step_back 1/1 from 0',
      'rpo_missed 100/200 from 0',
      'scheduler_stopped 15/60 from 0',
      'storage 80/95 from 0',
      'total_error_rate 1/5 from 100',
    ]);
  });

  test('are added, replaced and removed, each recorded with what was before', async () => {
    expect(await ask('PUT', '/api/admin/alert-rules/notes', rule)).toMatchObject({ status: 201, body: { name: 'notes', clearMinutes: 5, enabled: true } });
    expect(await ask('PUT', '/api/admin/alert-rules/notes', { ...rule, warning: 55 })).toMatchObject({ status: 200, body: { warning: 55 } });
    expect(await ask('GET', '/api/admin/alert-rules/notes')).toMatchObject({ status: 200, body: { warning: 55, critical: 60 } });
    expect((await ask('DELETE', '/api/admin/alert-rules/notes')).status).toBe(204);
    expect(await ask('DELETE', '/api/admin/alert-rules/notes')).toMatchObject({ status: 404, body: { code: 'alert_rule_unknown' } });
    expect((await ask('GET', '/api/admin/alert-rules/notes')).status).toBe(404);
    const { rows } = await query<{ action: string; before: number | null }>(
      "select action, (details -> 'before' ->> 'warning')::integer as before from partywall_control.audit_records where target = 'alert_rule:notes' order by seq",
    );
    expect(rows).toEqual([
      { action: 'alert_rule.set', before: null },
      { action: 'alert_rule.set', before: 50 },
      { action: 'alert_rule.delete', before: 55 },
    ]);
  });

  test('that make no sense are refused', async () => {
    const refused = [
      { ...rule, critical: 40 },
      { ...rule, warning: -1 },
      { ...rule, metric: 'temperature' },
      { ...rule, metric: 'error_rate' },
      { ...rule, quota: 'storage' },
      { ...rule, quota: null },
      { ...rule, unknown: 1 },
      { ...rule, title: '' },
    ];
    for (const body of refused) expect((await ask('PUT', '/api/admin/alert-rules/notes', body)).status, JSON.stringify(body)).toBe(400);
    expect((await ask('PUT', '/api/admin/alert-rules/Not%20a%20name', rule)).status).toBe(400);
  });

  test('hold differently for a tenant that is overridden', async () => {
    const { tenant } = await tenantWith('Strict', 30);
    const url = `/api/admin/alert-rules/quotas/tenants/${tenant}`;
    expect(await ask('PUT', url, { warning: 20 })).toMatchObject({ status: 200, body: { tenantId: tenant, warning: 20, critical: null, enabled: null } });
    expect((await ask('GET', '/api/admin/alert-rules/quotas/tenants')).body.items).toMatchObject([{ tenantId: tenant }]);
    expect((await ask('POST', '/api/admin/alerts/evaluate')).body).toMatchObject({ opened: 1 });
    expect((await ask('DELETE', url)).status).toBe(204);
    expect((await ask('GET', '/api/admin/alert-rules/quotas/tenants')).body.items).toEqual([]);
    expect(await ask('PUT', '/api/admin/alert-rules/quotas/tenants/nobody', { warning: 20 })).toMatchObject({ status: 404, body: { code: 'tenant_unknown' } });
    expect((await ask('PUT', url, { warning: 90, critical: 80 })).status).toBe(400);
  });
});

describe('channels', () => {
  const secret = 'a secret of enough length';

  test('are added, changed and removed, and never show what is secret', async () => {
    const target = await receiver();
    const url = `${target.url}/path-that-is-secret`;
    const answers = [
      await ask('PUT', '/api/admin/alert-channels/ops', { kind: 'webhook', target: { url, secret } }),
      await ask('PUT', '/api/admin/alert-channels/ops', { kind: 'webhook', severities: ['critical'] }),
      await ask('GET', '/api/admin/alert-channels/ops'),
      await ask('GET', '/api/admin/alert-channels'),
    ];
    expect(answers.map(({ status }) => status)).toEqual([201, 200, 200, 200]);
    expect(answers[2]?.body).toMatchObject({ name: 'ops', kind: 'webhook', severities: ['critical'], shown: target.url, enabled: true });
    expect(JSON.stringify(answers)).not.toMatch(/path-that-is-secret|a secret of/);
    expect((await ask('POST', '/api/admin/alert-channels/ops/test')).body).toMatchObject({ status: 'delivered', event: 'test' });
    expect(target.received[0]?.path, 'the target is as it was').toBe('/path-that-is-secret');
    expect((await ask('DELETE', '/api/admin/alert-channels/ops')).status).toBe(204);
    expect(await ask('GET', '/api/admin/alert-channels/ops')).toMatchObject({ status: 404, body: { code: 'alert_channel_unknown' } });
  });

  test('that cannot be are refused', async () => {
    const refused: object[] = [
      { kind: 'webhook' },
      { kind: 'carrier-pigeon', target: {} },
      { kind: 'webhook', target: { url: 'https://hooks.example' } },
      { kind: 'webhook', target: { url: 'https://hooks.example', secret: 'short' } },
      { kind: 'webhook', target: { url: 'ftp://hooks.example', secret } },
      { kind: 'webhook', target: { url: 'file:///etc/passwd', secret } },
      { kind: 'webhook', target: { url: 'https://user:password@hooks.example', secret } },
      { kind: 'webhook', target: { url: 'not an address', secret } },
      { kind: 'webhook', target: { to: ['a@b.example'] } },
      { kind: 'email', target: { to: [] } },
      { kind: 'email', target: { to: ['a@b.example\r\nBcc: c@d.example'] } },
      { kind: 'email', target: { to: ['nobody'] } },
      { kind: 'slack', target: { url: 'https://hooks.slack.com/x' }, severities: [] },
      { kind: 'slack', target: { url: 'https://hooks.slack.com/x' }, severities: ['fatal'] },
    ];
    for (const body of refused) expect((await ask('PUT', '/api/admin/alert-channels/ops', body)).status, JSON.stringify(body)).toBe(400);
    expect((await ask('GET', '/api/admin/alert-channels')).body.items).toEqual([]);
  });

  test('a kept key never goes to another kind', async () => {
    await ask('PUT', '/api/admin/alert-channels/ops', { kind: 'pagerduty', target: { routingKey: 'R0123456789' } });
    expect((await ask('PUT', '/api/admin/alert-channels/ops', { kind: 'webhook' })).status).toBe(400);
    expect((await ask('GET', '/api/admin/alert-channels/ops')).body).toMatchObject({ kind: 'pagerduty', shown: 'https://events.pagerduty.com' });
  });

  test('a test says why it failed', async () => {
    const target = await receiver();
    target.treat(404);
    await ask('PUT', '/api/admin/alert-channels/ops', { kind: 'slack', target: { url: target.url } });
    expect((await ask('POST', '/api/admin/alert-channels/ops/test')).body).toMatchObject({ status: 'failed', failure: 'HTTP 404', attempts: 1 });
    expect((await ask('GET', '/api/admin/alert-deliveries?status=failed&channel=ops')).body.items).toMatchObject([{ event: 'test', failure: 'HTTP 404' }]);
    expect((await ask('POST', '/api/admin/alert-channels/nothing/test')).status).toBe(404);
  });

  test('a running server delivers what is opened', async () => {
    const target = await receiver();
    await ask('PUT', '/api/admin/alert-channels/ops', { kind: 'webhook', target: { url: target.url, secret } });
    await tenantWith('Loud', 99);
    await ask('POST', '/api/admin/alerts/evaluate');
    await expect.poll(() => target.received.map(({ body }) => JSON.parse(body).alert.tenantName), patient).toEqual(['Loud']);
    await expect
      .poll(async () => (await ask('GET', '/api/admin/alert-deliveries')).body.items, patient)
      .toMatchObject([{ status: 'delivered', attempts: 1, dueAt: null }]);
  });

  test('a switched-off channel hears nothing', async () => {
    const target = await receiver();
    await ask('PUT', '/api/admin/alert-channels/ops', { kind: 'webhook', target: { url: target.url, secret }, enabled: false });
    await tenantWith('Quiet', 99);
    expect((await ask('POST', '/api/admin/alerts/evaluate')).body).toMatchObject({ opened: 1, deliveries: 0 });
  });
});

test('every request of docs/guide/alerts.md works as written', async () => {
  const target = await receiver();
  const { tenant, admin } = await tenantWith('Guide', 99);
  await ask('POST', '/api/admin/alerts/evaluate');
  const [alert] = (await ask('GET', '/api/admin/alerts')).body.items ?? [];
  const guide = await readFile(new URL('../../../docs/guide/alerts.md', import.meta.url), 'utf8');
  const filled = guide
    .replaceAll('\\\n', ' ')
    .replaceAll('$TENANT"', `${tenant}"`)
    .replaceAll('$TENANT/', `${tenant}/`)
    .replaceAll('$ALERT', String(alert?.['id']))
    .replaceAll('https://hooks.slack.com', target.url);
  const commands = filled.split('\n').filter((line) => line.startsWith('curl '));
  const asked = [];
  for (const command of commands) {
    const [, method = 'GET'] = /-X (\w+)/.exec(command) ?? [];
    const [, body] = /-d '([^']*)'/.exec(command) ?? [];
    const [, url = ''] = /http:\/\/localhost:5000([^\s"]+)/.exec(command) ?? [];
    const headers = { ...(command.includes('$TENANT_ADMIN_TOKEN') ? admin : operator.headers), ...(body && { 'content-type': 'application/json' }) };
    const answer = await server.inject({ method: method as 'GET', url, headers, ...(body && { payload: body }) });
    asked.push(`${method} ${url.replace(/\?.*/, '')}`);
    expect(answer.statusCode, `${command}\n${answer.body}`).toBeLessThan(300);
  }
  expect(asked.length).toBeGreaterThan(12);
  expect(target.received, 'the channel of the guide was tested').toHaveLength(1);
});
