import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { CallLeases, type CallVerdict, type ControlDatabase, increaseQuota, removeRateLimit, setRateLimit } from '@partywall/engine';
import { afterEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;

await database.query(`insert into partywall_control.plans (name, title, tier, limits, requests_per_minute, retention_days, audit_retention_days) values
  ('calls', 'Calls', 'pro', '{"api_calls": 500}', null, 30, 30),
  ('many', 'Many', 'pro', '{"api_calls": 10000}', null, 30, 30),
  ('none', 'None', 'pro', '{}', null, 30, 30),
  ('slow', 'Slow', 'pro', '{}', 5, 30, 30)`);

/** A process's leases, closed after the test; reports only when asked to, unless told otherwise. */
const opened: CallLeases[] = [];
function leases(of: Partial<ControlDatabase> = {}, reportMs = 1_000_000): CallLeases {
  const made = new CallLeases({ ...control, ...of }, { reportMs });
  opened.push(made);
  return made;
}
afterEach(async () => {
  for (const made of opened.splice(0)) await made.close();
});

interface Calls {
  readonly leased: number;
  readonly used: number;
}

async function calls(tenant: string): Promise<Calls | undefined> {
  const { rows } = await database.query<{ leased: number; used: number }>(
    'select leased::int, used::int from partywall_control.api_calls where tenant_id = $1 order by month desc',
    [tenant],
  );
  return rows[0];
}

async function takeUntilRefused(from: CallLeases, tenant: string): Promise<number> {
  for (let taken = 0; ; taken += 1) {
    const verdict = await from.take(tenant);
    if (verdict.kind !== 'admitted') return taken;
  }
}

describe('calls of a month', () => {
  test('three processes that all go on admit exactly the limit', async () => {
    const tenant = await fixture.tenant('Three', 'calls');
    const taken = await Promise.all([leases(), leases(), leases()].map((one) => takeUntilRefused(one, tenant)));
    expect(taken.reduce((sum, one) => sum + one, 0)).toBe(500);
    expect(await calls(tenant)).toMatchObject({ leased: 500 });
  });

  test('a burst of parallel requests is admitted exactly to the limit, by one question at a time', async () => {
    const tenant = await fixture.tenant('Burst', 'calls');
    const one = leases();
    const verdicts = await Promise.all(Array.from({ length: 700 }, async () => one.take(tenant)));
    expect(verdicts.filter(({ kind }) => kind === 'admitted')).toHaveLength(500);
  });

  test('the refusal names limit, usage and the start of the next month', async () => {
    const tenant = await fixture.tenant('Refused', 'calls');
    const one = leases({ clock: () => new Date('2031-12-31T23:59:00Z') });
    await takeUntilRefused(one, tenant);
    expect(await one.take(tenant)).toEqual({ kind: 'used_up', limit: 500, usage: 500, reset: new Date('2032-01-01T00:00:00Z') });
  });

  test('while a lease is held, nothing waits for the database', async () => {
    const tenant = await fixture.tenant('Held', 'many');
    const one = leases();
    await one.take(tenant);
    const verdicts: (CallVerdict | Promise<CallVerdict>)[] = Array.from({ length: 50 }, () => one.take(tenant));
    expect(verdicts).toEqual(Array.from({ length: 50 }, () => ({ kind: 'admitted' })));
  });

  test('what is not used goes back when the process closes', async () => {
    const tenant = await fixture.tenant('Closes', 'many');
    const one = leases();
    for (let n = 0; n < 7; n += 1) await one.take(tenant);
    expect(await calls(tenant)).toEqual({ leased: 100, used: 0 });
    await one.close();
    expect(await calls(tenant)).toEqual({ leased: 7, used: 7 });
  });

  test('what an idle process holds goes back where it is scarce, and serves another', async () => {
    const tenant = await fixture.tenant('Scarce', 'calls');
    let now = Date.now();
    const idle = leases({ clock: () => new Date(now) }, 1_000);
    await idle.take(tenant);
    const busy = leases();
    expect(await takeUntilRefused(busy, tenant)).toBe(495);
    now += 1_500;
    await idle.report(); // learns that the limit is near
    await idle.report();
    expect(await calls(tenant)).toEqual({ leased: 496, used: 1 });
    expect(await takeUntilRefused(leases(), tenant)).toBe(4);
  });

  test('a month that ends is settled, and the next begins with nothing used', async () => {
    const tenant = await fixture.tenant('Months', 'many');
    let now = new Date('2031-01-31T23:59:59Z');
    const one = leases({ clock: () => now });
    for (let n = 0; n < 3; n += 1) await one.take(tenant);
    now = new Date('2031-02-01T00:00:00Z');
    for (let n = 0; n < 2; n += 1) await one.take(tenant);
    await one.close();
    const { rows } = await database.query('select month::text, leased::int, used::int from partywall_control.api_calls where tenant_id = $1 order by 1', [
      tenant,
    ]);
    expect(rows).toEqual([
      { month: '2031-01-01', leased: 3, used: 3 },
      { month: '2031-02-01', leased: 2, used: 2 },
    ]);
  });

  test('without a limit calls are counted, at no question of each', async () => {
    const tenant = await fixture.tenant('Unlimited', 'none');
    const one = leases();
    await one.take(tenant);
    for (let n = 0; n < 5_000; n += 1) expect(one.take(tenant)).toEqual({ kind: 'admitted' });
    await one.report();
    expect(await calls(tenant)).toEqual({ leased: 5_001, used: 5_001 });
  });

  test('a limit that comes counts what was used before it', async () => {
    const tenant = await fixture.tenant('Limited later', 'none');
    const one = leases();
    for (let n = 0; n < 400; n += 1) await one.take(tenant);
    await database.query("update partywall_control.directory set plan = 'calls' where tenant_id = $1", [tenant]);
    await one.report();
    expect(await takeUntilRefused(one, tenant)).toBe(100);
  });

  test('an increase admits again with the next report', async () => {
    const tenant = await fixture.tenant('Increased', 'calls');
    const one = leases();
    await takeUntilRefused(one, tenant);
    await increaseQuota(fixture.operation(), { tenant, quota: 'api_calls', limit: 510, until: new Date(Date.now() + 60_000) });
    await one.report();
    expect(await takeUntilRefused(one, tenant)).toBe(10);
  });

  test('a tenant that is not there is held to nothing and leaves nothing', async () => {
    const one = leases();
    expect(await one.take('nobody')).toEqual({ kind: 'admitted' });
    expect(await calls('nobody')).toBeUndefined();
    const tenant = await fixture.tenant('Deleted', 'none');
    await one.take(tenant);
    await database.query('delete from tenants where id = $1', [tenant]);
    await one.report();
    expect(await one.take(tenant)).toEqual({ kind: 'admitted' });
  });

  test('a report that fails is told with the next one', async () => {
    const tenant = await fixture.tenant('Reported late', 'none');
    let fails = false;
    const failing: ControlDatabase['pool'] = new Proxy(control.pool, {
      get: (pool, name) => {
        if (name === 'query' && fails) return () => Promise.reject(new Error('the connection is lost'));
        const value: unknown = Reflect.get(pool, name);
        return typeof value === 'function' ? value.bind(pool) : value;
      },
    });
    const one = leases({ pool: failing });
    await one.take(tenant);
    fails = true;
    await expect(one.report()).rejects.toThrow('the connection is lost');
    fails = false;
    await one.report();
    expect(await calls(tenant)).toEqual({ leased: 1, used: 1 });
  });

  test('a process that is killed loses at most one lease', async () => {
    const tenant = await fixture.tenant('Killed', 'many');
    const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'leasing-process.ts')], {
      env: { ...process.env, SERVICE_URL: fixture.urls.service, TENANT: tenant },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const taken = await killedAfter(child, 1_234);
    expect(taken).toBeGreaterThanOrEqual(1_234);
    const before = await calls(tenant);
    const lost = (before?.leased ?? 0) - taken;
    expect(lost).toBeGreaterThanOrEqual(0);
    expect(lost).toBeLessThanOrEqual(100);
    expect(await takeUntilRefused(leases(), tenant)).toBe(10_000 - taken - lost);
  });
});

/** Kills the process once it has taken `wanted` calls; how many it took until it was dead. */
async function killedAfter(child: ChildProcess, wanted: number): Promise<number> {
  if (!child.stdout) throw new TypeError('the process has no output');
  let taken = 0;
  for await (const line of createInterface(child.stdout)) {
    taken = Number(line);
    if (taken >= wanted) child.kill('SIGKILL');
  }
  return taken;
}

describe('the rate of requests', () => {
  test('a minute’s worth comes at once, then one for each part of it, and a refused request uses nothing', async () => {
    const tenant = await fixture.tenant('Rate', 'slow');
    let now = Date.now();
    const one = leases({ clock: () => new Date(now) });
    for (let n = 0; n < 5; n += 1) expect(await one.take(tenant)).toEqual({ kind: 'admitted' });
    expect(await one.take(tenant)).toEqual({ kind: 'too_fast', retryAfterMs: 12_000 });
    now += 11_000;
    expect(await one.take(tenant)).toEqual({ kind: 'too_fast', retryAfterMs: 1_000 });
    now += 1_000;
    expect(await one.take(tenant)).toEqual({ kind: 'admitted' });
    await one.report();
    expect(await calls(tenant)).toMatchObject({ used: 6 });
  });

  test('an override is in force with the next report, and its removal too; both are recorded', async () => {
    const tenant = await fixture.tenant('Overridden', 'none');
    const one = leases();
    for (let n = 0; n < 50; n += 1) expect(await one.take(tenant)).toEqual({ kind: 'admitted' });
    await setRateLimit(fixture.operation(), { tenant, requestsPerMinute: 2, reason: 'it keeps the others waiting' });
    await one.report();
    expect([await one.take(tenant), await one.take(tenant)]).toEqual([{ kind: 'admitted' }, { kind: 'admitted' }]);
    expect(await one.take(tenant)).toMatchObject({ kind: 'too_fast' });
    expect(await removeRateLimit(fixture.operation(), { tenant })).toEqual({ requestsPerMinute: null, override: null });
    expect(await removeRateLimit(fixture.operation(), { tenant })).toBeUndefined();
    await one.report();
    expect(await one.take(tenant)).toEqual({ kind: 'admitted' });
    const { rows } = await database.query(
      "select action, reason, details -> 'after' ->> 'requestsPerMinute' as after from partywall_control.audit_records where tenant_id = $1 order by seq",
      [tenant],
    );
    expect(rows).toEqual([
      { action: 'rate_limit.set', reason: 'it keeps the others waiting', after: '2' },
      { action: 'rate_limit.remove', reason: null, after: null },
    ]);
  });

  test('an override that has ended is in force no more', async () => {
    const tenant = await fixture.tenant('Override ended', 'none');
    await setRateLimit(fixture.operation(), { tenant, requestsPerMinute: 1, until: new Date(Date.now() + 60_000) });
    await database.query("update partywall_control.rate_overrides set until = now() - interval '1 second' where tenant_id = $1", [tenant]);
    const one = leases();
    for (let n = 0; n < 3; n += 1) expect(await one.take(tenant)).toEqual({ kind: 'admitted' });
    await expect(setRateLimit(fixture.operation(), { tenant, requestsPerMinute: 1, until: new Date(0) })).rejects.toMatchObject({ code: 'input_invalid' });
    await expect(setRateLimit(fixture.operation(), { tenant: 'nobody', requestsPerMinute: 1 })).rejects.toMatchObject({ code: 'tenant_unknown' });
  });
});
