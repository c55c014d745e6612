import {
  blockSource,
  evaluateAlerts,
  listAlerts,
  listAttempts,
  listBlocks,
  PartywallError,
  readAttemptSettings,
  searchAudit,
  setAlertChannel,
  setAttemptSettings,
  unblockSource,
} from '@partywall/engine';
import { system } from '@partywall/wall';
import { beforeEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { attemptLimits } from '../../src/wall/runtime/attempts-sql.ts';

const fixture = await controlDatabase();
const { query } = fixture.database;
const operation = fixture.operation();
const source = '198.51.100.7';

/** As a middleware does it. */
async function attempt(from: string | null, more: Record<string, unknown> = {}): Promise<number | null> {
  const text = JSON.stringify({ source: from, kind: 'tenant', route: 'GET /items', actor: 'mallory', tenant: 't_1', claimed: 't_2', ...more });
  const { rows } = await system('attempt', () => fixture.app.query<{ seconds: number | null }>('select partywall.record_attempt($1) as seconds', [text]));
  return rows[0]?.seconds ?? null;
}

const blocked = async (...sources: string[]): Promise<string[]> => {
  const { rows } = await system('look', () => fixture.app.query<{ source: string }>('select source from partywall.blocked_sources($1) order by 1', [sources]));
  return rows.map((row) => row.source);
};
const audited = async (action: string) =>
  (await searchAudit(operation, { tenant: null, action }, { limit: 10 })).map(({ target, details, reason, actor }) => ({
    target,
    details,
    reason,
    actor: actor.id,
  }));

beforeEach(async () => {
  await query('truncate partywall.attempts, partywall.attempt_blocks, partywall_control.alerts, partywall_control.deliveries');
  await query("update partywall.attempt_settings set threshold = 5, window_minutes = 10, block_minutes = 15, exempt = '{}'");
  await query("update partywall_control.alert_rules set enabled = name = 'cross_tenant'");
});

describe('attempts', () => {
  test('are listed latest first, by pages that skip and repeat nothing, and by source, tenant and time', async () => {
    for (let at = 0; at < 4; at += 1) await attempt(source, { requestId: `r-${at}` });
    await attempt('198.51.100.8', { tenant: 't_3', requestId: 'r-4' });
    await attempt('2001:db8::1', { requestId: 'r-5' });
    const all = await listAttempts(operation, { limit: 100 });
    expect(all.map(({ requestId }) => requestId)).toEqual(['r-5', 'r-4', 'r-3', 'r-2', 'r-1', 'r-0']);
    expect(all[1]).toMatchObject({ source: '198.51.100.8', times: 1, kind: 'tenant', route: 'GET /items', actor: 'mallory', tenant: 't_3', claimed: 't_2' });
    expect(all[0]?.source).toBe('2001:db8::/64');
    const paged: (string | null)[] = [];
    let after = undefined as (typeof all)[number]['cursor'] | undefined; // it narrows to undefined otherwise
    do {
      const page = await listAttempts(operation, { limit: 2, after });
      paged.push(...page.map(({ requestId }) => requestId));
      after = page.at(-1)?.cursor;
    } while (after);
    expect(paged).toEqual(all.map(({ requestId }) => requestId));
    const some = async (filter: object) => (await listAttempts(operation, { limit: 100, ...filter })).map(({ requestId }) => requestId);
    expect(await some({ source })).toEqual(['r-3', 'r-2', 'r-1', 'r-0']);
    expect(await some({ source: '198.51.100.0/24' })).toHaveLength(5);
    expect(await some({ source: '2001:db8::/32' })).toEqual(['r-5']);
    expect(await some({ tenant: 't_3' })).toEqual(['r-4']);
    expect(await some({ from: new Date(Date.now() + 60_000).toISOString() })).toEqual([]);
  });
});

describe('a source', () => {
  test('is blocked by an operator for a time, alone or with its network, and recorded', async () => {
    await blockSource(operation, { source, minutes: 60, reason: 'incident 12' });
    await blockSource(operation, { source: '203.0.113.9/24', minutes: 60 });
    await blockSource(operation, { source: '2001:DB8::1', minutes: 60 });
    expect(await blocked(source, '198.51.100.8', '203.0.113.200', '2001:db8::ffff', '2001:db8:0:1::')).toEqual([source, '2001:db8::ffff', '203.0.113.200']);
    expect((await listBlocks(operation, { limit: 10 })).map((block) => [block.source, block.blockedBy, block.attempts, block.reason])).toEqual([
      ['2001:db8::/64', 'test', 0, null],
      ['203.0.113.0/24', 'test', 0, null],
      [source, 'test', 0, 'incident 12'],
    ]);
    expect((await audited('source.block')).at(-1)).toMatchObject({ target: `source:${source}/32`, reason: 'incident 12', actor: 'test' });
  });

  test('is unblocked, and has to earn its next block anew', async () => {
    for (let at = 0; at < 5; at += 1) await attempt(source);
    expect(await blocked(source)).toEqual([source]);
    expect(await unblockSource(operation, { source, reason: 'a mistake' })).toMatchObject({ source, active: false, attempts: 5 });
    expect(await blocked(source)).toEqual([]);
    expect(await attempt(source)).toBeNull();
    expect(await unblockSource(operation, { source })).toBeUndefined();
    for (let at = 0; at < 3; at += 1) expect(await attempt(source)).toBeNull();
    expect(await attempt(source)).toBe(900);
    expect((await audited('source.unblock'))[0]).toMatchObject({ target: `source:${source}/32`, reason: 'a mistake' });
    expect(await listBlocks(operation, { limit: 10, ended: true })).toHaveLength(1);
  });

  test('inside a network that is blocked is not unblocked alone', async () => {
    await blockSource(operation, { source: '198.51.100.0/24', minutes: 60 });
    await expect(unblockSource(operation, { source })).rejects.toThrow('part of 198.51.100.0/24');
    expect(await blocked(source)).toEqual([source]);
  });

  test.each(['', 'example.com', '1.2.3', '0.0.0.0/0', '::/0', '10.0.0.0/7', '2001::/16', '1.2.3.4/33', "1.2.3.4'; --"])('%j is none', async (text) => {
    await expect(blockSource(operation, { source: text, minutes: 60 })).rejects.toMatchObject({ code: 'input_invalid' });
    await expect(unblockSource(operation, { source: text })).rejects.toBeInstanceOf(PartywallError);
    expect(await listBlocks(operation, { limit: 10, ended: true })).toEqual([]);
  });

  test('of an operator’s block keeps it, whatever it attempts', async () => {
    await blockSource(operation, { source, minutes: 600 });
    for (let at = 0; at < 6; at += 1) await attempt(source);
    const [block] = await listBlocks(operation, { limit: 10 });
    expect(block).toMatchObject({ blockedBy: 'test', attempts: 0 });
    expect(await attempt(source)).toBeGreaterThan(599 * 60);
  });
});

describe('the settings', () => {
  test('change in part, hold at once, and are recorded', async () => {
    expect(await setAttemptSettings(operation, { threshold: 2, exempt: ['203.0.113.0/24'] })).toEqual({
      threshold: 2,
      windowMinutes: 10,
      blockMinutes: 15,
      exempt: ['203.0.113.0/24'],
    });
    expect([await attempt(source), await attempt(source)]).toEqual([null, 900]);
    for (let at = 0; at < 3; at += 1) expect(await attempt('203.0.113.5')).toBeNull();
    expect((await audited('attempt_settings.set'))[0]).toMatchObject({ details: { before: { threshold: 5 }, after: { threshold: 2 } } });
  });

  test.each([{ threshold: -1 }, { windowMinutes: 0 }, { blockMinutes: 100_000 }, { exempt: ['x'] }, { exempt: ['10.0.0.1/8'] }, { threshold: 1e12 }])(
    'refuse %j and stay as they are',
    async (changes) => {
      await expect(setAttemptSettings(operation, changes)).rejects.toMatchObject({ code: 'input_invalid' });
      expect(await readAttemptSettings(operation)).toEqual({ threshold: 5, windowMinutes: 10, blockMinutes: 15, exempt: [] });
    },
  );
});

describe('the security event', () => {
  const open = async () => {
    await evaluateAlerts(operation);
    return (await listAlerts(operation, { limit: 100 })).map(({ message }) => message).sort();
  };

  test('is an alert of each source from the first attempt on, critical from the fifth, and ends when an hour has passed', async () => {
    expect(await open()).toEqual([]);
    await attempt(source);
    expect(await open()).toEqual([`System: Attempts on other tenants from ${source} at 1 attempts (warning at 1 attempts)`]);
    for (let at = 0; at < 4; at += 1) await attempt(source);
    await attempt(null);
    expect(await open()).toEqual([
      `System: Attempts on other tenants from ${source} at 5 attempts (critical at 5 attempts)`,
      'System: Attempts on other tenants of unknown source at 1 attempts (warning at 1 attempts)',
    ]);
    const [alert] = (await listAlerts(operation, { limit: 10 })).filter(({ severity }) => severity === 'critical');
    expect(alert).toMatchObject({ rule: 'cross_tenant', tenantId: null, details: { routes: ['GET /items'], actors: ['mallory'], tenants: ['t_1'] } });
    expect(alert?.details['blockedUntil']).not.toBeNull();
    await query("update partywall.attempts set at = at - interval '61 minutes', last_at = last_at - interval '61 minutes'");
    expect(await open()).toEqual([]);
  });

  test('tells of records that gave way to a flood, apart from attempts of unknown source, and the list does too', async () => {
    await query(`insert into partywall.attempts (at, last_at, times, kind, source)
      select now() - interval '2 hours', now() - interval '2 hours', 2, 'tenant', set_masklen('10.0.0.0'::inet + n, 32) from generate_series(1, ${attemptLimits.rowsMax}) n`);
    for (let at = 0; at < attemptLimits.makesRoomEvery; at += 1) await attempt(null);
    const { rows } = await query<{ gone: number }>("select sum(times)::int as gone from partywall.attempts where kind = 'gone'");
    const gone = rows[0]?.gone ?? 0;
    expect(gone).toBeGreaterThan(0);
    expect(await open()).toEqual([
      `System: Attempts on other tenants of unknown source at ${attemptLimits.makesRoomEvery} attempts (critical at 5 attempts)`,
      `System: Attempts on other tenants whose records gave way to a flood at ${gone} attempts (critical at 5 attempts)`,
    ]);
    const listed = (await listAttempts(operation, { limit: 100 })).filter(({ kind }) => kind === 'gone');
    expect(listed).toMatchObject([{ source: null, times: gone, route: null, tenant: null }]);
  });

  test('goes to a channel of its own, and to no other that wants other rules', async () => {
    const channel = { kind: 'email', severities: ['warning', 'critical'], tenants: null, enabled: true } as const;
    await setAlertChannel(operation, { ...channel, name: 'security', target: { kind: 'email', to: ['security@example.com'] }, rules: ['cross_tenant'] });
    await setAlertChannel(operation, { ...channel, name: 'ops', target: { kind: 'email', to: ['ops@example.com'] }, rules: ['connections'] });
    await attempt(source);
    await open();
    const { rows } = await query<{ channel: string; message: string }>("select channel, payload ->> 'message' as message from partywall_control.deliveries");
    expect(rows).toEqual([{ channel: 'security', message: expect.stringContaining(source) }]);
  });

  test('names at most twenty sources at once', async () => {
    for (let at = 1; at <= 25; at += 1) await attempt(`203.0.113.${at}`);
    expect(await open()).toHaveLength(20);
  });

  test('puts every block on record once', async () => {
    for (let at = 0; at < 6; at += 1) await attempt(source);
    const before = (await audited('source.blocked')).length;
    await open();
    await open();
    const records = await audited('source.blocked');
    expect(records).toHaveLength(before + 1);
    expect(records[0]).toMatchObject({ actor: 'attempts', details: { blocks: [{ source, attempts: 5 }] } });
  });
});
