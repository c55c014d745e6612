import { randomUUID } from 'node:crypto';
import {
  type Alert,
  acknowledgeAlert,
  countOpenAlerts,
  evaluateAlerts,
  listAlerts,
  type Operation,
  refreshAlerts,
  setAlertChannel,
  setAlertOverride,
  setAlertRule,
  showAlertRule,
} from '@partywall/engine';
import { beforeEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { query } = fixture.database;

/** Minutes after a fixed time. */
let minute = 0;
const start = Date.now();
const clock = (): Date => new Date(start + minute * 60_000);
const operation = (changes: Partial<Operation> = {}): Operation => fixture.operation({ database: { ...fixture.control, clock }, ...changes });

beforeEach(async () => {
  minute = 0;
  await query('truncate partywall_control.alerts, partywall_control.alert_evaluation, partywall_control.alert_channels, partywall_control.deliveries');
  await query('truncate partywall_control.request_minutes');
  await query('delete from tenants');
  await query("update partywall_control.alert_rules set enabled = metric <> 'connections'");
});

/** On plan free 100 customers are allowed. */
async function tenantWith(name: string, customers: number): Promise<string> {
  const tenant = await fixture.tenant(name, 'free');
  await addCustomers(tenant, customers);
  return tenant;
}

async function addCustomers(tenant: string, count: number): Promise<void> {
  await query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, $2) n', [tenant, count]);
}

async function requests(tenant: string, of: { calls: number; errors?: number; bucket?: number }): Promise<void> {
  const buckets = Array.from({ length: 11 }, (_, index) => (index === (of.bucket ?? 0) ? of.calls : 0));
  await query(
    `insert into partywall_control.request_minutes (tenant_id, minute, calls, errors, millis, buckets) values ($1, date_trunc('minute', $2::timestamptz), $3, $4, 0, $5)`,
    [tenant, clock(), of.calls, of.errors ?? 0, buckets],
  );
}

const all = (filter: { tenant?: string } = {}): Promise<Alert[]> => listAlerts(operation(), { status: 'all', limit: 200, ...filter });

describe('quotas', () => {
  test('at 80 and 95 per cent open a warning and a critical alert, below nothing', async () => {
    const [below, warning, critical] = [await tenantWith('below', 79), await tenantWith('warning', 80), await tenantWith('critical', 95)];
    expect(await evaluateAlerts(operation())).toMatchObject({ opened: 2, escalated: 0, resolved: 0 });
    const alerts = await all();
    expect(alerts.map(({ tenantId, severity, value, threshold, quota }) => ({ tenantId, severity, value, threshold, quota }))).toEqual(
      expect.arrayContaining([
        { tenantId: warning, severity: 'warning', value: 80, threshold: 80, quota: 'customers' },
        { tenantId: critical, severity: 'critical', value: 95, threshold: 95, quota: 'customers' },
      ]),
    );
    expect(alerts.some(({ tenantId }) => tenantId === below)).toBe(false);
    expect(alerts.find(({ tenantId }) => tenantId === warning)).toMatchObject({
      message: 'warning: Quota customers at 80 % (warning at 80 %)',
      details: { used: 80, limit: 100 },
    });
  });

  test('of storage and of API calls have their own rules', async () => {
    const tenant = await tenantWith('big', 1);
    await query("insert into files (tenant_id, name, size_bytes) values ($1, 'dump', 104857600 * 0.9)", [tenant]);
    await query(
      "insert into partywall_control.api_calls (tenant_id, month, leased, used) values ($1, date_trunc('month', now() at time zone 'UTC'), 9600, 9600)",
      [tenant],
    );
    await evaluateAlerts(operation());
    expect((await all()).map(({ rule, severity }) => ({ rule, severity })).toSorted((a, b) => a.rule.localeCompare(b.rule))).toEqual([
      { rule: 'api_calls', severity: 'critical' },
      { rule: 'storage', severity: 'warning' },
    ]);
  });

  test('is opened, escalated and resolved once each, however often it is evaluated', async () => {
    const tenant = await tenantWith('growing', 85);
    const steps = [];
    for (const [at, change] of [
      [0, 0],
      [1, 0],
      [2, 11],
      [3, 0],
      [4, -90],
      [5, 0],
      [9, 0],
      [10, 0],
    ] as const) {
      minute = at;
      if (change > 0) await addCustomers(tenant, change);
      if (change < 0) await query('delete from customers where id in (select id from customers where tenant_id = $1 limit $2)', [tenant, -change]);
      const { opened, escalated, resolved } = await evaluateAlerts(operation());
      steps.push(`${at}: ${opened} ${escalated} ${resolved}`);
    }
    expect(steps).toEqual(['0: 1 0 0', '1: 0 0 0', '2: 0 1 0', '3: 0 0 0', '4: 0 0 0', '5: 0 0 0', '9: 0 0 1', '10: 0 0 0']);
    expect(await all()).toMatchObject([
      {
        status: 'resolved',
        severity: 'critical',
        resolution: 'cleared',
        openedAt: new Date(start).toISOString(),
        escalatedAt: new Date(start + 2 * 60_000).toISOString(),
        resolvedAt: new Date(start + 9 * 60_000).toISOString(),
      },
    ]);
  });
});

describe('requests', () => {
  test('open alerts by error rate and by response time over enough calls in the window', async () => {
    const [failing, slow, few, old] = [await tenantWith('failing', 0), await tenantWith('slow', 0), await tenantWith('few', 0), await tenantWith('old', 0)];
    minute = -30;
    await requests(old, { calls: 1_000, errors: 1_000 });
    minute = 0;
    await requests(failing, { calls: 100, errors: 6 });
    await requests(slow, { calls: 100, bucket: 7 });
    await requests(few, { calls: 3, errors: 3, bucket: 10 });
    await requests('', { calls: 10_000 });
    await evaluateAlerts(operation());
    const found = (await all()).map(({ tenantId, rule, severity }) => ({ tenantId, rule, severity }));
    expect(found).toHaveLength(2);
    expect(found).toEqual(
      expect.arrayContaining([
        { tenantId: failing, rule: 'error_rate', severity: 'critical' },
        { tenantId: slow, rule: 'response_time', severity: 'warning' },
      ]),
    );
  });

  test('of all tenants together open an alert of the system', async () => {
    await requests('', { calls: 200, errors: 3 });
    await evaluateAlerts(operation());
    expect(await all()).toMatchObject([
      { tenantId: null, rule: 'total_error_rate', severity: 'warning', message: 'System: Error rate of all tenants together at 1.5 % (warning over 1 %)' },
    ]);
  });
});

test('connections are measured against what the server allows', async () => {
  const rule = await showAlertRule(operation(), 'connections');
  await setAlertRule(operation(), { ...rule, enabled: true, warning: 0.1, critical: 100 });
  await evaluateAlerts(operation());
  const { rows } = await query<{ max: string }>("select current_setting('max_connections') as max");
  const [alert] = await all();
  expect(alert).toMatchObject({ tenantId: null, rule: 'connections', severity: 'warning', details: { limit: Number(rows[0]?.max) } });
  expect(alert?.value).toBeGreaterThan(0);
  await setAlertRule(operation(), { ...rule, enabled: true });
});

test('ten evaluations at once open and escalate an alert once, and tell of it once', async () => {
  const tenant = await tenantWith('crowd', 90);
  await setAlertChannel(operation(), {
    name: 'ops',
    kind: 'webhook',
    target: { kind: 'webhook', url: 'https://hooks.example/x', secret: 'a secret of enough length' },
    severities: ['warning', 'critical'],
    rules: null,
    tenants: null,
    enabled: true,
  });
  const tenAtOnce = async (): Promise<{ opened: number; escalated: number }> => {
    const evaluations = await Promise.all(Array.from({ length: 10 }, () => evaluateAlerts(operation())));
    const sum = (of: 'opened' | 'escalated'): number => evaluations.reduce((total, evaluation) => total + evaluation[of], 0);
    return { opened: sum('opened'), escalated: sum('escalated') };
  };
  expect(await tenAtOnce()).toEqual({ opened: 1, escalated: 0 });
  await addCustomers(tenant, 6);
  expect(await tenAtOnce()).toEqual({ opened: 0, escalated: 1 });
  const { rows } = await query('select event, status from partywall_control.deliveries order by seq');
  expect(rows).toEqual([
    { event: 'opened', status: 'waiting' },
    { event: 'escalated', status: 'waiting' },
  ]);
});

test('alerts of a tenant that is suspended, deleted or gone end quietly: people are not told, machines are', async () => {
  const channel = { severities: ['warning', 'critical'], rules: null, tenants: null, enabled: true } as const;
  await setAlertChannel(operation(), {
    ...channel,
    name: 'hook',
    kind: 'webhook',
    target: { kind: 'webhook', url: 'https://hooks.example/x', secret: 'a secret of enough length' },
  });
  await setAlertChannel(operation(), { ...channel, name: 'mail', kind: 'email', target: { kind: 'email', to: ['ops@partywall.example'] } });
  const [suspended, gone, stays] = [await tenantWith('suspended', 90), await tenantWith('gone', 90), await tenantWith('stays', 90)];
  await evaluateAlerts(operation());
  await query("update tenants set status = 'suspended' where id = $1", [suspended]);
  await query('delete from tenants where id = $1', [gone]);
  expect(await evaluateAlerts(operation())).toMatchObject({ opened: 0, resolved: 2 });
  expect((await all()).filter(({ status }) => status === 'resolved').map(({ resolution }) => resolution)).toEqual(['tenant_inactive', 'tenant_inactive']);
  expect((await all({ tenant: stays })).map(({ status }) => status)).toEqual(['open']);
  const { rows } = await query("select distinct channel from partywall_control.deliveries where event = 'resolved'");
  expect(rows).toEqual([{ channel: 'hook' }]);
});

test('one tenant alone can be evaluated: no other is looked at, and an unknown one is an error', async () => {
  const [one, other] = [await tenantWith('one', 90), await tenantWith('other', 90)];
  await requests('', { calls: 1_000, errors: 500 });
  expect(await evaluateAlerts(operation(), { tenant: one })).toMatchObject({ opened: 1 });
  expect((await all()).map(({ tenantId }) => tenantId)).toEqual([one]);
  await evaluateAlerts(operation());
  expect(await evaluateAlerts(operation(), { tenant: other })).toMatchObject({ opened: 0, resolved: 0 });
  await expect(evaluateAlerts(operation(), { tenant: 'nobody' })).rejects.toMatchObject({ code: 'tenant_unknown' });
});

test('an override holds for its tenant', async () => {
  const [strict, usual] = [await tenantWith('strict', 30), await tenantWith('usual', 30)];
  await setAlertOverride(operation(), { rule: 'quotas', tenant: strict, warning: 25, critical: null, enabled: null });
  await evaluateAlerts(operation());
  expect((await all()).map(({ tenantId }) => tenantId)).toEqual([strict]);
  expect(await all({ tenant: usual })).toEqual([]);
});

test('a rule that waits opens after its minutes, and says nothing before', async () => {
  const rule = await showAlertRule(operation(), 'quotas');
  await setAlertRule(operation(), { ...rule, forMinutes: 10 });
  await tenantWith('patient', 90);
  expect(await evaluateAlerts(operation())).toMatchObject({ opened: 0 });
  expect(await all()).toEqual([]);
  minute = 10;
  expect(await evaluateAlerts(operation())).toMatchObject({ opened: 1 });
  await setAlertRule(operation(), rule);
});

test('a reader gets an evaluation that is at most a minute old', async () => {
  await tenantWith('read', 90);
  expect(await refreshAlerts(operation())).toBe(new Date(start).toISOString());
  expect(await countOpenAlerts(operation())).toEqual({ warning: 1, critical: 0, acknowledged: 0 });
  minute = 0.9;
  expect(await refreshAlerts(operation())).toBe(new Date(start).toISOString());
  minute = 1;
  expect(await refreshAlerts(operation())).toBe(new Date(start + 60_000).toISOString());
});

describe('acknowledging', () => {
  test('says who looks after it and why, once, in the audit log of its tenant', async () => {
    const tenant = await tenantWith('seen', 90);
    await evaluateAlerts(operation());
    const [alert] = await all();
    const id = alert?.id ?? '';
    const by = (name: string): Operation => operation({ actor: { kind: 'user', id: randomUUID(), name } });
    expect(await acknowledgeAlert(by('Ada'), { id, note: 'called them' })).toMatchObject({ acknowledgedBy: 'Ada', note: 'called them', status: 'open' });
    expect(await acknowledgeAlert(by('Bob'), { id })).toMatchObject({ acknowledgedBy: 'Ada', note: 'called them' });
    const { rows } = await query('select action, actor_name, target, reason from partywall_control.audit_records where tenant_id = $1 and action like $2', [
      tenant,
      'alert.%',
    ]);
    expect(rows).toEqual([{ action: 'alert.acknowledge', actor_name: 'Ada', target: `alert:${id}`, reason: 'called them' }]);
  });

  test('takes an alert that is there and not resolved', async () => {
    await expect(acknowledgeAlert(operation(), { id: randomUUID() })).rejects.toMatchObject({ code: 'alert_unknown' });
    const tenant = await tenantWith('late', 90);
    await evaluateAlerts(operation());
    const [alert] = await all();
    await query("update tenants set status = 'suspended' where id = $1", [tenant]);
    await evaluateAlerts(operation());
    await expect(acknowledgeAlert(operation(), { id: alert?.id ?? '' })).rejects.toMatchObject({ code: 'transition_refused' });
  });
});

test('pages of alerts show each once, latest first', async () => {
  for (const [index, name] of ['a', 'b', 'c', 'd', 'e'].entries()) {
    minute = index / 2;
    await tenantWith(name, 90);
    await evaluateAlerts(operation());
  }
  const seen: string[] = [];
  let after: { openedAt: string; id: string } | undefined;
  for (let page = 0; page < 10; page += 1) {
    const alerts = await listAlerts(operation(), { limit: 2, after });
    seen.push(...alerts.map(({ tenantName }) => tenantName ?? ''));
    after = alerts.at(-1);
    if (alerts.length < 2) break;
  }
  expect(seen).toEqual(['e', 'd', 'c', 'b', 'a']);
});
