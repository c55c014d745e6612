import pg from 'pg';
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { attemptLimits } from '../../../engine/src/wall/runtime/attempts-sql.ts';
import { type AttemptOptions, crossTenantAttempts, type GuardOptions, unitIn } from '../../src/index.ts';
import { failure, tenant, walledDatabase } from '../walled-database.ts';
import { type App, expressApp, fastifyApp, honoApp, webApp } from './apps.ts';
import { type Answered, send, tokenIssuer } from './client.ts';

const wall = await walledDatabase();
const { database } = wall;
await database.query(`create table units (id int primary key, tenant_id uuid not null);
  alter table units enable row level security; alter table units force row level security;
  create policy pw_tenant on units using (tenant_id = partywall.tenant_id());
  grant select on units to ${wall.app}; insert into units values (1, '${tenant(1)}'), (2, '${tenant(2)}')`);
const pool = wall.pool({ max: 5 });
const issuer = await tokenIssuer();
const one = await issuer.credential(tenant(1), { sub: 'mallory' });
const frameworks = Object.entries({ express: expressApp, fastify: fastifyApp, hono: honoApp, web: webApp });
let verified = 0;
const trouble: unknown[] = [];

function options(given: Partial<AttemptOptions> = {}): GuardOptions {
  return {
    verify: (request) => {
      verified += 1;
      return issuer.verify(request);
    },
    public: ['/health'],
    unit: { belongs: unitIn(pool, { table: 'units' }) },
    attempts: crossTenantAttempts({ pool, trustedProxies: ['127.0.0.1'], onTrouble: (error) => trouble.push(error), ...given }),
  };
}

async function start(make: typeof expressApp = expressApp, given: Partial<AttemptOptions> = {}): Promise<App> {
  const app = await make(options(given), { pool, onBegun: () => undefined, onLate: () => undefined });
  onTestFinished(() => app.close());
  return app;
}

/** An address of its own for each test. */
let lastAddress = 0;
function address(): string {
  lastAddress += 1;
  return `198.51.100.${lastAddress}`;
}
const ask = (app: App, from: string, headers: Record<string, string> = {}, path = '/items'): Promise<Answered> =>
  send(`${app.url}${path}`, { headers: { ...one, 'x-forwarded-for': from, ...headers } });
const attempt = (app: App, from: string, headers: Record<string, string> = {}): Promise<Answered> => ask(app, from, { 'x-tenant-id': tenant(2), ...headers });

/** What the application's role can do with SQL of its own. */
const attacker = await wall.client();
const record = async (attempt: unknown): Promise<number | null> => {
  const { rows } = await attacker.query<{ seconds: number | null }>('select partywall.record_attempt($1) as seconds', [JSON.stringify(attempt)]);
  return rows[0]?.seconds ?? null;
};
const rowsOf = async (source: string) =>
  (await database.query('select * from partywall.attempts where source is not distinct from $1 order by id', [source])).rows;
const blocksOf = async (source: string) => (await database.query('select * from partywall.attempt_blocks where source = $1', [source])).rows;

beforeEach(async () => {
  trouble.length = 0;
  await database.query(
    'truncate partywall.attempts, partywall.attempt_blocks; update partywall.attempt_settings set threshold = 5, window_minutes = 10, block_minutes = 15, exempt = default',
  );
});
afterAll(() => attacker.end());

describe('an attempt', () => {
  test.each(frameworks)('under %s is recorded with source, route, actor, tenants and request id', async (_, make) => {
    const app = await start(make);
    const from = address();
    await attempt(app, from, { 'x-request-id': 'r-1' });
    await ask(app, from, { 'x-unit-id': '2', 'x-request-id': 'r-2' });
    await ask(app, from, { 'x-request-id': 'r-3' }, '/throws/cross?token=secret');
    const common = { source: `${from}/32`, actor: 'mallory', tenant: tenant(1), times: '1' };
    expect(await rowsOf(from)).toMatchObject([
      { ...common, kind: 'tenant', route: 'GET /items', claimed: tenant(2), request_id: 'r-1' },
      { ...common, kind: 'unit', route: 'GET /items', claimed: '2', request_id: 'r-2' },
      { ...common, kind: 'row', route: 'GET /throws/cross', claimed: null, request_id: 'r-3' },
    ]);
    expect(trouble).toEqual([]);
  });

  test('is none where no credential holds, or nothing foreign is named', async () => {
    const app = await start();
    const from = address();
    await ask(app, from, { authorization: 'Bearer x', 'x-tenant-id': tenant(2) });
    await ask(app, from, { 'x-tenant-id': tenant(1) });
    await ask(app, from, {}, '/throws/sync');
    expect(await rowsOf(from)).toEqual([]);
  });

  test('that says odd things is recorded as text of one short line', async () => {
    const app = await start();
    const from = address();
    const odd = `a\tb${'x'.repeat(5_000)}`;
    expect((await attempt(app, from, { 'x-tenant-id': odd })).status).toBe(403);
    await send(`${app.url}/items/%0a%00${'y'.repeat(1_000)}`, { headers: { ...one, 'x-forwarded-for': from, 'x-tenant-id': "'; drop table items --" } });
    const rows = await rowsOf(from);
    expect(rows.map(({ claimed }) => claimed)).toEqual([`a b${'x'.repeat(197)}`, "'; drop table items --"]);
    expect(rows.map(({ route }) => route.length)).toEqual(['GET /items'.length, 200]);
  });

  test('does not change the answer where it cannot be recorded, and somebody hears of it', async () => {
    await database.query(`revoke execute on function partywall.record_attempt(jsonb), partywall.blocked_sources(text[]) from ${wall.app}`);
    onTestFinished(
      async () => void (await database.query(`grant execute on function partywall.record_attempt(jsonb), partywall.blocked_sources(text[]) to ${wall.app}`)),
    );
    const app = await start();
    expect((await attempt(app, address())).json()).toMatchObject({ status: 403, code: 'tenant_foreign' });
    expect((await ask(app, address())).status).toBe(200);
    expect(trouble).toHaveLength(3);
    expect(trouble).toEqual(expect.arrayContaining([expect.objectContaining({ code: '42501' })]));
  });
});

describe('a source that makes too many', () => {
  test.each(frameworks)('is refused by %s before anything else is done', async (_, make) => {
    const app = await start(make);
    const [from, other] = [address(), address()];
    for (let at = 0; at < 5; at += 1) expect((await attempt(app, from)).status).toBe(403);
    const before = verified;
    const refused = await ask(app, from, { 'x-request-id': 'r-9' });
    expect(refused.json()).toMatchObject({ status: 429, code: 'source_blocked', title: 'Too many requests', requestId: 'r-9' });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(14 * 60);
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(15 * 60);
    expect((await ask(app, from, {}, '/health')).status).toBe(429);
    expect(verified).toBe(before);
    expect((await ask(app, other)).status).toBe(200);
    expect(await blocksOf(from)).toMatchObject([{ attempts: '5', blocked_by: null, told: false }]);
  });

  test('is blocked in every process within seconds, and in a new one at once', async () => {
    const [first, second] = [await start(), await start()];
    const from = address();
    expect((await ask(second, from)).status).toBe(200);
    for (let at = 0; at < 5; at += 1) await attempt(first, from);
    expect((await ask(first, from)).status).toBe(429);
    await vi.waitFor(async () => expect((await ask(second, from)).status).toBe(429), { timeout: 5_000 });
    expect((await ask(await start(), from)).status).toBe(429);
  });

  test('is served again when the block has ended, and what it did before counts no more', async () => {
    const app = await start();
    const from = address();
    for (let at = 0; at < 5; at += 1) await attempt(app, from);
    expect((await ask(app, from)).status).toBe(429);
    await database.query('update partywall.attempt_blocks set until = clock_timestamp()');
    await vi.waitFor(async () => expect((await ask(app, from)).status).toBe(200), { timeout: 5_000 });
    for (let at = 0; at < 4; at += 1) expect((await attempt(app, from)).status).toBe(403);
    expect((await ask(app, from)).status).toBe(200);
    expect((await attempt(app, from)).status).toBe(403);
    expect((await ask(app, from)).status).toBe(429);
  });

  test('is the address of the connection, whatever headers say, where no proxy is trusted', async () => {
    const app = await start(expressApp, { trustedProxies: [] });
    for (let at = 0; at < 5; at += 1) await attempt(app, `203.0.113.${at}`);
    expect((await ask(app, '203.0.113.77')).status).toBe(429);
    expect(await blocksOf('127.0.0.1')).toHaveLength(1);
    expect(await rowsOf('203.0.113.1')).toEqual([]);
  });

  test('is a whole /64 of IPv6, and no proxy of one’s own', async () => {
    const app = await start();
    for (let at = 0; at < 5; at += 1) await attempt(app, `2001:db8:1:2::${at}`);
    expect((await ask(app, '2001:db8:1:2:ffff::')).status).toBe(429);
    expect((await ask(app, '2001:db8:1:3::')).status).toBe(200);
    for (let at = 0; at < 6; at += 1) expect((await attempt(app, '127.0.0.1')).status).toBe(403);
    expect((await database.query('select from partywall.attempts where source is null')).rowCount).toBe(6);
  });

  test('is not blocked from an exempt network, nor where the threshold is 0', async () => {
    const app = await start();
    const from = address();
    await database.query(`update partywall.attempt_settings set exempt = array[network('${from}/24'::inet)]::cidr[]`);
    for (let at = 0; at < 7; at += 1) expect((await attempt(app, from)).status).toBe(403);
    await database.query("update partywall.attempt_settings set exempt = '{}', threshold = 0");
    for (let at = 0; at < 7; at += 1) expect((await attempt(app, from)).status).toBe(403);
    expect(await blocksOf(from)).toEqual([]);
  });

  test('fails by attempts of the window alone', async () => {
    const app = await start();
    const from = address();
    for (let at = 0; at < 4; at += 1) await attempt(app, from);
    await database.query("update partywall.attempts set at = at - interval '11 minutes', last_at = last_at - interval '11 minutes'");
    for (let at = 0; at < 4; at += 1) expect((await attempt(app, from)).status).toBe(403);
    expect((await ask(app, from)).status).toBe(200);
  });
});

describe('a flood', () => {
  test('of one source leaves a few records, which account for all of it', async () => {
    await database.query('update partywall.attempt_settings set threshold = 0');
    const app = await start();
    const from = address();
    await Promise.all(Array.from({ length: 300 }, () => attempt(app, from)));
    const { perSourceMinute } = attemptLimits;
    await vi.waitFor(async () => {
      const rows = await rowsOf(from);
      expect(rows.reduce((sum, { times }) => sum + Number(times), 0)).toBe(300);
      // Records at the same moment do not see each other: some sessions more, whatever the flood.
      expect(rows.length).toBeLessThanOrEqual(perSourceMinute + 2 * 4);
    });
  });

  test('of many sources fills the day’s room and no more, and each is still blocked for its own', async () => {
    const { detailsPerDay, rowsPerDay } = attemptLimits;
    await database.query(
      `insert into partywall.attempts (at, last_at, times, kind, source) select now() - interval '1 hour', now() - interval '1 hour', 1, 'tenant', set_masklen('10.0.0.0'::inet + n, 32)
      from generate_series(1, ${detailsPerDay}) n`,
    );
    const from = address();
    for (let at = 0; at < 5; at += 1) await record({ kind: 'tenant', source: from, route: 'GET /' });
    expect(await rowsOf(from)).toMatchObject([{ kind: 'more', times: '5', route: null }]);
    expect(await blocksOf(from)).toHaveLength(1);
    await database.query(
      `insert into partywall.attempts (at, last_at, times, kind, source) select now() - interval '1 hour', now() - interval '1 hour', 1, 'more', set_masklen('10.1.0.0'::inet + n, 32)
      from generate_series(1, ${rowsPerDay - detailsPerDay}) n`,
    );
    const { rows: before } = await database.query<{ count: number }>('select count(*)::int as count from partywall.attempts');
    for (let at = 0; at < 50; at += 1) await record({ kind: 'tenant', source: address() });
    const { rows: after } = await database.query<{ count: number }>('select count(*)::int as count from partywall.attempts');
    expect((after[0]?.count ?? 0) - (before[0]?.count ?? 0)).toBe(1);
    expect((await database.query('select times from partywall.attempts where source is null')).rows).toEqual([{ times: '50' }]);
  });

  test('takes old records along, a bounded number at a time', async () => {
    await database.query(
      `insert into partywall.attempts (at, last_at, times, kind) select now() - interval '31 days', now() - interval '31 days', 1, 'tenant' from generate_series(1, 150);
      insert into partywall.attempts (at, last_at, times, kind) values (now() - interval '29 days', now() - interval '29 days', 7, 'tenant')`,
    );
    await record({ source: address() });
    expect((await database.query('select from partywall.attempts')).rowCount).toBe(52);
    await record({ source: address() });
    expect((await database.query('select times from partywall.attempts order by id')).rows).toEqual([{ times: '7' }, { times: '1' }, { times: '1' }]);
  });
});

describe('SQL of the application’s role', () => {
  test('cannot read, change or empty what is recorded, nor the settings', async () => {
    for (const table of ['attempts', 'attempt_blocks', 'attempt_settings']) {
      for (const statement of [
        `select from partywall.${table}`,
        `delete from partywall.${table}`,
        `insert into partywall.${table} default values`,
        `truncate partywall.${table}`,
      ]) {
        expect(await failure(attacker.query(statement)), statement).toMatchObject({ code: '42501' });
      }
    }
    expect(await failure(attacker.query('update partywall.attempt_settings set threshold = 0'))).toMatchObject({ code: '42501' });
    expect(await failure(attacker.query("select nextval('partywall.attempts_id_seq')"))).toMatchObject({ code: '42501' });
  });

  test('can make attempts up for one address at a time, for as long as a block lasts, and so many a day', async () => {
    for (const source of ['0.0.0.0/0', '10.0.0.0/8', '::/0']) expect(await record({ source, times: 1_000 })).toBe(900);
    const { rows } = await database.query('select source from partywall.attempt_blocks order by source');
    expect(rows).toEqual([{ source: '0.0.0.0/32' }, { source: '10.0.0.0/32' }, { source: '::/64' }]);
    await database.query(
      `insert into partywall.attempt_blocks (source, blocked_at, until, attempts, told) select set_masklen('10.2.0.0'::inet + n, 32), now(), now(), 5, false
      from generate_series(1, ${attemptLimits.blocksPerDay - 3}) n`,
    );
    const from = address();
    expect(await record({ source: from, times: 1_000 })).toBeNull();
    expect(await blocksOf(from)).toEqual([]);
  });

  test('with whatever it passes breaks nothing', async () => {
    const from = address();
    for (const odd of [
      null,
      [],
      'x',
      1,
      {},
      { source: 'nowhere' },
      { source: {} },
      { times: -5 },
      { times: '9'.repeat(50) },
      { times: 1e300 },
      { kind: 'more' },
    ]) {
      expect(await record(odd), JSON.stringify(odd)).toBeNull();
    }
    await record({
      source: from,
      kind: 'x'.repeat(1_000),
      route: '\r\n\u001b[31m',
      actor: 'x'.repeat(100_000),
      tenant: '%n',
      claimed: '\u007f',
      requestId: '\t',
    });
    const rows = await rowsOf(from);
    expect(rows).toMatchObject([{ kind: 'tenant', route: '   [31m', actor: 'x'.repeat(200), tenant: '%n', claimed: ' ', request_id: ' ', times: '1' }]);
  });

  test('that keeps a transaction open keeps nobody from recording', async () => {
    const from = address();
    await database.query('update partywall.attempt_settings set threshold = 0');
    // The record that counts is there: the open transaction has it locked, and another session needs it.
    for (let at = 0; at < 15; at += 1) await record({ source: from });
    await attacker.query('begin');
    await record({ source: from });
    const other = new pg.Client(database.urlAs(wall.app));
    await other.connect();
    onTestFinished(() => other.end());
    await other.query("set statement_timeout = '5s'");
    for (let at = 0; at < 15; at += 1) await other.query('select partywall.record_attempt($1)', [JSON.stringify({ source: from })]);
    await attacker.query('rollback');
    const rows = await rowsOf(from);
    expect(rows.reduce((sum, { times }) => sum + Number(times), 0)).toBe(30);
    expect(rows.length).toBe(attemptLimits.perSourceMinute + 2);
  });

  test('learns of a block only what it can name, and a shadow of our functions changes nothing', async () => {
    const from = address();
    for (let at = 0; at < 5; at += 1) await record({ source: from });
    const look = async (sources: string[]) =>
      (await attacker.query<{ source: string }>('select source from partywall.blocked_sources($1)', [sources])).rows.map(({ source }) => source);
    expect(await look([from, '203.0.113.200'])).toEqual([from]);
    expect(await look(['0.0.0.0/0', '198.51.100.0/24'])).toEqual([]);
    await attacker.query("create function pg_temp.clock_timestamp() returns timestamptz language sql as $$select '2000-01-01'::timestamptz$$");
    await attacker.query('set search_path = pg_temp, pg_catalog');
    expect(await record({ source: address(), times: 1_000 })).toBe(900);
    await attacker.query('reset search_path');
    expect(await failure(attacker.query('select partywall.blocked_sources($1)', [['x']]))).toMatchObject({ code: '22P02' });
  });
});
