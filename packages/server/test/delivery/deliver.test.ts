import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  type ChannelTarget,
  type Delivery,
  deleteAlertChannel,
  enqueueTest,
  evaluateAlerts,
  listAlerts,
  listDeliveries,
  setAlertChannel,
} from '@partywall/engine';
import { beforeEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { type DeliveryOptions, deliverDue, startDelivering } from '../../src/delivery/deliver.ts';
import { verifyWebhook } from '../../src/delivery/signature.ts';
import { receiver } from './receiver.ts';

const fixture = await controlDatabase();
const { query } = fixture.database;
const { control } = fixture;
const secret = 'a secret of enough length';
const allowed: DeliveryOptions = { allowPrivateTargets: true, timeoutMs: 5_000 };

/** A condition is waited for, however slow the machine. */
const patient = { timeout: 30_000 };

beforeEach(async () => {
  await query('truncate partywall_control.alerts, partywall_control.alert_channels, partywall_control.deliveries');
  await query('delete from tenants');
  await query("update partywall_control.alert_rules set enabled = metric <> 'connections'");
});

async function channel(
  name: string,
  target: ChannelTarget,
  changes: { severities?: ('warning' | 'critical')[]; tenants?: string[]; rules?: string[] } = {},
): Promise<void> {
  const { severities = ['warning', 'critical'], tenants = null, rules = null } = changes;
  await setAlertChannel(fixture.operation(), { name, kind: target.kind, target, severities, rules, tenants, enabled: true });
}

/** A tenant at 90 of its 100 customers, and its alert. */
async function alarm(name: string): Promise<{ tenant: string; id: string }> {
  const tenant = await fixture.tenant(name, 'free');
  await query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 90) n', [tenant]);
  await evaluateAlerts(fixture.operation());
  const [alert] = await listAlerts(fixture.operation(), { tenant, limit: 1 });
  return { tenant, id: alert?.id ?? '' };
}

/** Takes the backoff's time away. */
const makeDue = (): Promise<unknown> => query("update partywall_control.deliveries set due_at = now() where status = 'waiting'");
const deliveries = (): Promise<Delivery[]> => listDeliveries(fixture.operation(), { limit: 200 });

describe('a webhook', () => {
  test('gets the alert, signed over its time and its bytes, under an id of its own', async () => {
    const target = await receiver();
    await channel('hook', { kind: 'webhook', url: `${target.url}/alerts?key=1`, secret });
    const { tenant, id } = await alarm('Ålesund Bryggeri');
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 1, failed: 0 });
    const [message] = target.received;
    const body = JSON.parse(message?.body ?? '');
    const [delivery] = await deliveries();
    expect(message?.path).toBe('/alerts?key=1');
    expect(body).toMatchObject({
      id: delivery?.id,
      event: 'opened',
      alert: { id, tenantId: tenant, tenantName: 'Ålesund Bryggeri', severity: 'warning', value: 90 },
    });
    expect(message?.headers['idempotency-key']).toBe(delivery?.id);
    expect(verifyWebhook({ secret, signature: String(message?.headers['partywall-signature']), body: message?.body ?? '' })).toBe(true);
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 0, failed: 0 });
    expect(target.received).toHaveLength(1);
  });

  test.each([
    ['answers with 503', 503 as const, 'HTTP 503'],
    ['answers with 429', 429 as const, 'HTTP 429'],
    ['closes the connection', 'close' as const, 'ECONNRESET'],
    ['never answers', 'silent' as const, 'no answer within 300 ms'],
  ])('that %s is tried again with the same id and bytes', async (_what, treatment, failure) => {
    const target = await receiver();
    target.treat(treatment);
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    await alarm('again');
    expect(await deliverDue(control, { ...allowed, timeoutMs: 300 })).toEqual({ delivered: 0, failed: 1 });
    const [waiting] = await deliveries();
    expect(waiting).toMatchObject({ status: 'waiting', attempts: 1, failure });
    expect(Date.parse(waiting?.dueAt ?? '') - Date.parse(waiting?.createdAt ?? '')).toBeGreaterThanOrEqual(2_500);
    await makeDue();
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 1, failed: 0 });
    const [first, second] = target.received;
    expect(second?.body).toBe(first?.body);
    expect(second?.headers['idempotency-key']).toBe(first?.headers['idempotency-key']);
    expect(await deliveries()).toMatchObject([{ status: 'delivered', attempts: 2, failure: null }]);
  });

  test.each([400, 401, 404, 410, 301, 307])('that answers with %i is given up at once, with the reason, and no redirect is followed', async (status) => {
    const elsewhere = await receiver();
    const target = await receiver({ location: elsewhere.url });
    target.treat(status);
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    await alarm('refused');
    await deliverDue(control, allowed);
    expect(await deliveries()).toMatchObject([{ status: 'failed', attempts: 1, failure: `HTTP ${status}` }]);
    expect(elsewhere.received).toEqual([]);
  });

  test('that stays broken is given up after twelve attempts', async () => {
    const target = await receiver();
    target.treat(...Array.from({ length: 20 }, () => 500));
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    await alarm('broken');
    for (let attempt = 0; attempt < 15; attempt += 1) {
      await makeDue();
      await deliverDue(control, allowed);
    }
    expect(target.received).toHaveLength(12);
    expect(await deliveries()).toMatchObject([{ status: 'failed', failure: 'given up after 12 attempts: HTTP 500' }]);
  });

  test('hears of the end after the beginning, never before, and not of an end alone', async () => {
    const target = await receiver();
    target.treat(503);
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    const { tenant } = await alarm('order');
    await deliverDue(control, allowed);
    await channel('late', { kind: 'webhook', url: `${target.url}/late`, secret });
    await query("update tenants set status = 'suspended' where id = $1", [tenant]);
    await evaluateAlerts(fixture.operation());
    await query("update partywall_control.deliveries set due_at = now() + interval '1 hour' where event = 'opened'");
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 0, failed: 0 });
    await makeDue();
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 2, failed: 0 });
    expect(target.received.map(({ path, body }) => [path, JSON.parse(body).event])).toEqual([
      ['/', 'opened'],
      ['/', 'opened'],
      ['/', 'resolved'],
    ]);
  });
});

describe('targets', () => {
  test.each([
    'http://127.0.0.1:PORT',
    'http://localhost:PORT',
    'http://2130706433:PORT',
    'http://[::1]:PORT',
    'http://[::ffff:127.0.0.1]:PORT',
    'http://0.0.0.0:PORT',
    'http://169.254.169.254/latest/meta-data',
  ])('%s is refused unless private networks are allowed', async (address) => {
    const target = await receiver();
    await channel('hook', { kind: 'webhook', url: address.replace('PORT', new URL(target.url).port), secret });
    await alarm('inside');
    await deliverDue(control, { timeoutMs: 2_000 });
    expect(target.received).toEqual([]);
    expect(await deliveries()).toMatchObject([{ status: 'failed', failure: 'the address leads into a private network' }]);
  });
});

describe('Slack', () => {
  test('gets a line of text in which a tenant cannot call everybody', async () => {
    const target = await receiver();
    await channel('chat', { kind: 'slack', url: `${target.url}/services/T0/B0/x` });
    await alarm('<!channel> & co');
    await deliverDue(control, allowed);
    expect(JSON.parse(target.received[0]?.body ?? '')).toEqual({
      text: '[warning] &lt;!channel&gt; &amp; co: Quota customers at 90 % (warning at 80 %)',
    });
  });
});

describe('PagerDuty', () => {
  test('gets a trigger and its resolve under one key', async () => {
    const target = await receiver();
    await channel('pager', { kind: 'pagerduty', routingKey: 'R0123456789', url: `${target.url}/v2/enqueue` });
    const { tenant, id } = await alarm('paged');
    await query("update tenants set status = 'suspended' where id = $1", [tenant]);
    await evaluateAlerts(fixture.operation());
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 2, failed: 0 });
    const [trigger, resolve] = target.received.map(({ body }) => JSON.parse(body));
    expect(trigger).toMatchObject({
      routing_key: 'R0123456789',
      event_action: 'trigger',
      dedup_key: `partywall-${id}`,
      payload: { source: 'partywall', severity: 'warning', component: 'quotas', custom_details: { tenantId: tenant, value: 90 } },
    });
    expect(trigger.payload.summary).toContain('paged: Quota customers at 90 %');
    expect(resolve).toEqual({ routing_key: 'R0123456789', event_action: 'resolve', dedup_key: `partywall-${id}` });
  });
});

describe('routing', () => {
  test('a channel hears of its severities, its rules and its tenants', async () => {
    const target = await receiver();
    const one = await alarm('one');
    await query('truncate partywall_control.alerts cascade');
    const hook = (path: string): ChannelTarget => ({ kind: 'webhook', url: `${target.url}/${path}`, secret });
    await channel('critical', hook('critical'), { severities: ['critical'] });
    await channel('storage', hook('storage'), { rules: ['storage'] });
    await channel('quotas', hook('quotas'), { rules: ['quotas'] });
    await channel('one', hook('one'), { tenants: [one.tenant] });
    await alarm('other');
    await deliverDue(control, allowed);
    const heard = target.received.map(({ path, body }) => `${path} ${JSON.parse(body).alert.tenantName}`);
    expect(heard.toSorted()).toEqual(['/one one', '/quotas one', '/quotas other']);
  });

  test('a storm reaches people as twenty messages, the critical ones and a digest of the rest', async () => {
    const target = await receiver();
    await channel('chat', { kind: 'slack', url: target.url });
    await query("insert into tenants (name, slug, plan) select 'storm ' || n, 'storm-' || n, 'free' from generate_series(1, 60) n");
    await query('insert into users (tenant_id, email, name) select t.id, n::text, n::text from tenants t, generate_series(1, 3) n where t.slug like $1', [
      'storm-_',
    ]);
    await query('insert into customers (tenant_id, name) select t.id, n::text from tenants t, generate_series(1, 85) n where t.slug like $1', ['storm-__']);
    expect(await evaluateAlerts(fixture.operation())).toMatchObject({ opened: 60, deliveries: 20 });
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 20, failed: 0 });
    const texts = target.received.map(({ body }) => String(JSON.parse(body).text));
    expect(texts.filter((text) => text.startsWith('[critical] storm'))).toHaveLength(9);
    expect(texts).toContain('[warning] 41 more alerts: 41 opened, 0 escalated, 0 resolved (quotas 41)');
  });
});

describe('what a channel keeps secret', () => {
  test('is neither in the database nor in the audit log, and no use without the keyring', async () => {
    await channel('hook', { kind: 'webhook', url: 'https://hooks.example/T0123/path-that-is-secret', secret });
    const { rows } = await query<{ everything: string }>(
      `select (select string_agg(c::text || encode(c.target, 'escape'), '') from partywall_control.alert_channels c) ||
        (select string_agg(r::text, '') from partywall_control.audit_records r) as everything`,
    );
    expect(rows[0]?.everything).toContain('https://hooks.example');
    expect(rows[0]?.everything).not.toContain('path-that-is-secret');
    expect(rows[0]?.everything).not.toContain(secret);
    await alarm('sealed');
    await deliverDue({ ...control, keyring: `${control.keyring}/elsewhere` }, allowed);
    expect(await deliveries()).toMatchObject([{ status: 'waiting', failure: 'secret_unreadable' }]);
  });
});

describe('processes', () => {
  test('five deliverers at once send each delivery once', async () => {
    const target = await receiver();
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    await query("insert into tenants (name, slug, plan) select n::text, n::text, 'free' from generate_series(1, 50) n");
    await query('insert into users (tenant_id, email, name) select t.id, n::text, n::text from tenants t, generate_series(1, 3) n');
    await evaluateAlerts(fixture.operation());
    const counts = await Promise.all(Array.from({ length: 5 }, () => deliverDue(control, allowed)));
    expect(counts.reduce((sum, { delivered }) => sum + delivered, 0)).toBe(50);
    expect(new Set(target.received.map(({ headers }) => headers['idempotency-key'])).size).toBe(50);
    expect(target.received).toHaveLength(50);
  });

  test('what a process was sending when it was killed is taken over, under the same id', async () => {
    const target = await receiver();
    target.treat('silent');
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    await alarm('killed');
    const child = fork(new URL('./deliverer-process.ts', import.meta.url), [fixture.urls.service, control.keyring], {
      execArgv: ['--conditions=partywall-source'],
    });
    await expect.poll(() => target.received.length, patient).toBe(1);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await deliveries()).toMatchObject([{ status: 'waiting', attempts: 1 }]);
    await expect.poll(() => deliverDue(control, allowed), patient).toEqual({ delivered: 1, failed: 0 });
    expect(target.received.map(({ headers }) => headers['idempotency-key'])).toEqual([
      target.received[0]?.headers['idempotency-key'],
      (await deliveries())[0]?.id,
    ]);
    expect(target.received[1]?.body).toBe(target.received[0]?.body);
  });

  test('who lost a claim to another cannot say how it went', async () => {
    const [slow, quick] = [await receiver(), await receiver()];
    slow.treat('silent');
    await channel('hook', { kind: 'webhook', url: slow.url, secret });
    await alarm('overtaken');
    const overtaken = deliverDue(control, { ...allowed, timeoutMs: 60_000, leaseMs: 1 });
    await expect.poll(() => slow.received.length, patient).toBe(1);
    await channel('hook', { kind: 'webhook', url: quick.url, secret });
    await expect.poll(() => deliverDue(control, allowed), patient).toEqual({ delivered: 1, failed: 0 });
    slow.hangUp();
    await overtaken;
    expect(await deliveries()).toMatchObject([{ status: 'delivered', attempts: 2, failure: null }]);
  });

  test('a deliverer that runs sends what comes, and stops when it is told to', async () => {
    const target = await receiver();
    const deliverer = startDelivering(control, { ...allowed, pollMs: 20 }, (error) => {
      throw error;
    });
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    await alarm('running');
    await expect.poll(() => target.received.length, patient).toBe(1);
    await deliverer.stop();
    await alarm('stopped');
    expect(await deliveries()).toMatchObject([{ status: 'waiting', attempts: 0 }, { status: 'delivered' }]);
  });

  test('a receiver that does not answer holds up no other channel', async () => {
    const [dead, alive] = [await receiver(), await receiver()];
    dead.treat(...Array.from({ length: 50 }, () => 'silent' as const));
    await channel('dead', { kind: 'webhook', url: dead.url, secret });
    await channel('alive', { kind: 'webhook', url: alive.url, secret });
    const deliverer = startDelivering(control, { ...allowed, timeoutMs: 60_000, pollMs: 20 }, (error) => {
      throw error;
    });
    await alarm('first');
    await expect.poll(() => [dead.received.length, alive.received.length], patient).toEqual([1, 1]);
    await alarm('second');
    await expect.poll(() => alive.received.length, patient).toBe(2);
    expect(dead.received).toHaveLength(1);
    const stopped = deliverer.stop();
    dead.hangUp();
    await stopped;
  });

  test('a channel that is removed takes what is on its way along', async () => {
    const target = await receiver();
    await channel('hook', { kind: 'webhook', url: target.url, secret });
    await alarm('removed');
    await deleteAlertChannel(fixture.operation(), 'hook');
    expect(await deliverDue(control, allowed)).toEqual({ delivered: 0, failed: 0 });
    expect(target.received).toEqual([]);
  });
});

test('a test message goes out once, whatever comes of it, also where the channel is switched off', async () => {
  const target = await receiver();
  target.treat(500);
  await channel('hook', { kind: 'webhook', url: target.url, secret });
  await query('update partywall_control.alert_channels set enabled = false');
  const failed = await enqueueTest(fixture.operation(), 'hook');
  expect(await deliverDue(control, allowed, { id: failed })).toEqual({ delivered: 0, failed: 1 });
  const delivered = await enqueueTest(fixture.operation(), 'hook');
  expect(await deliverDue(control, allowed, { id: delivered })).toEqual({ delivered: 1, failed: 0 });
  expect(await deliveries()).toMatchObject([
    { event: 'test', status: 'delivered' },
    { event: 'test', status: 'failed', failure: 'HTTP 500' },
  ]);
});
