import pg from 'pg';
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { attemptLimits } from '../../../engine/src/wall/runtime/attempts-sql.ts';
import { type AttemptOptions, createWalledPool, crossTenantAttempts, type GuardOptions, unitIn } from '../../src/index.ts';
import { failure, tenant, walledDatabase } from '../walled-database.ts';
import { warnings } from '../warnings.ts';
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

/** The address that comes so many after one of IPv4. */
function addressAfter(first: string, count: number): string {
  const number = first.split('.').reduce((sum, part) => sum * 256 + Number(part), 0) + count;
  return [24, 16, 8, 0].map((bits) => (number >>> bits) & 255).join('.');
}

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

  /** Records of as many sources as there is room for, twenty minutes old. */
  const fill = async (): Promise<void> => {
    await database.query(
      `insert into partywall.attempts (at, last_at, times, kind, source) select now() - interval '20 minutes', now() - interval '20 minutes', 1, 'tenant', set_masklen('10.0.0.0'::inet + n, 32)
      from generate_series(1, ${attemptLimits.rowsMax}) n`,
    );
  };
  const stored = async () => {
    const { rows } = await database.query<{ rows: number; times: number; gone: number; younger: number }>(
      `select count(*) filter (where kind <> 'gone')::int as rows, sum(times)::int as times, coalesce(sum(times) filter (where kind = 'gone'), 0)::int as gone,
        count(*) filter (where kind <> 'gone' and at > now() - interval '1 minute')::int as younger from partywall.attempts`,
    );
    return rows[0] ?? { rows: 0, times: 0, gone: 0, younger: 0 };
  };

  test('of many sources pushes out the oldest records and no others, says how many, and keeps nobody from being recorded and blocked', async () => {
    const { rowsMax, makesRoomEvery } = attemptLimits;
    await fill();
    const [from, late] = [address(), address()];
    for (let at = 0; at < 5; at += 1) await record({ kind: 'tenant', source: from, route: 'GET /' });
    expect((await rowsOf(from)).map(({ kind, times, route }) => [kind, times, route])).toEqual(Array.from({ length: 5 }, () => ['tenant', '1', 'GET /']));
    expect(await blocksOf(from)).toHaveLength(1);
    await attacker.query(`select partywall.record_attempt(jsonb_build_object('source', host('203.0.0.0'::inet + n))) from generate_series(1, 1000) n`);
    for (let at = 0; at < 5; at += 1) await record({ kind: 'tenant', source: late });
    expect(await blocksOf(late)).toHaveLength(1);
    const { rows, times, gone, younger } = await stored();
    expect(rows).toBeLessThan(rowsMax + makesRoomEvery);
    expect([times, younger, rows + gone]).toEqual([rowsMax + 1_010, 1_010, times]);
    const { rows: oldest } = await database.query(
      "select host(min(source)) as first, host(max(source)) as last from partywall.attempts where source << '10.0.0.0/8'",
    );
    expect(oldest).toEqual([{ first: addressAfter('10.0.0.0', gone + 1), last: addressAfter('10.0.0.0', rowsMax) }]);
  });

  test('keeps its numbers while nobody may remove anything, and is made up for after that', async () => {
    await fill();
    await attacker.query('begin');
    await attacker.query(`select partywall.record_attempt(jsonb_build_object('source', host('203.0.0.0'::inet + n))) from generate_series(1, 200) n`);
    const other = await wall.client();
    const from = address();
    await other.query("set statement_timeout = '10s'");
    await other.query(`select partywall.record_attempt(jsonb_build_object('source', host('203.1.0.0'::inet + n))) from generate_series(1, 200) n`);
    const seconds = await other.query<{ seconds: number }>('select partywall.record_attempt($1) as seconds', [JSON.stringify({ source: from, times: 5 })]);
    expect(seconds.rows[0]?.seconds).toBe(900);
    await attacker.query('rollback');
    await other.query(`select partywall.record_attempt(jsonb_build_object('source', host('203.2.0.0'::inet + n))) from generate_series(1, 200) n`);
    const { rows, times, gone } = await stored();
    expect(rows).toBeLessThan(attemptLimits.rowsMax + attemptLimits.makesRoomEvery);
    // One record stands for five.
    expect([times, rows + gone]).toEqual([attemptLimits.rowsMax + 405, times - 4]);
  });

  test('makes a record no dearer: it reads a few rows of an index, however many there are since it was planned', async () => {
    const read = async (): Promise<number> => {
      await attacker.query('select pg_stat_force_next_flush()');
      const { rows } = await database.query<{ read: number }>(
        `select (t.seq_tup_read + sum(i.idx_tup_read))::int as read from pg_stat_user_tables t join pg_stat_user_indexes i using (relid)
        where t.relid = 'partywall.attempts'::regclass group by t.seq_tup_read`,
      );
      return rows[0]?.read ?? 0;
    };
    // Plans that are made now do not know how many there will be.
    await attacker.query('discard plans');
    await attacker.query(
      `do $$begin for n in 1..200 loop perform partywall.record_attempt(jsonb_build_object('source', host('203.3.0.0'::inet + n))); end loop; end$$`,
    );
    await fill();
    const before = await read();
    const from = address();
    for (let at = 0; at < 100; at += 1) await record({ source: at % 2 ? from : address() });
    expect(((await read()) - before) / 100).toBeLessThan(3 * attemptLimits.perSourceMinute);
  });

  test('of blocks lets the oldest automatic one go, and never an operator’s', async () => {
    const { blocksMax } = attemptLimits;
    await database.query(
      `insert into partywall.attempt_blocks (source, blocked_at, until, attempts, blocked_by, told)
        select set_masklen('10.2.0.0'::inet + n, 32), now() - interval '1 minute' + n * interval '1 millisecond', now() + interval '10 minutes', 5, null, true from generate_series(1, ${blocksMax}) n
        union all select '10.3.0.0/16', now() - interval '2 minutes', now() + interval '10 minutes', 0, 'operator', true`,
    );
    const [from, late] = [address(), address()];
    expect([await record({ source: from, times: 5 }), await record({ source: late, times: 5 })]).toEqual([900, 900]);
    const { rows } = await database.query<{ source: string }>('select source from partywall.attempt_blocks order by blocked_at');
    expect(rows).toHaveLength(blocksMax + 1);
    expect(rows.slice(0, 2)).toEqual([{ source: '10.3.0.0/16' }, { source: '10.2.0.3/32' }]);
    expect(rows.slice(-2)).toEqual([{ source: `${from}/32` }, { source: `${late}/32` }]);
  });

  test.each(['read committed', 'repeatable read', 'serializable'])('is counted to the last attempt where transactions are %s', async (level) => {
    await database.query('update partywall.attempt_settings set threshold = 0');
    const pools = [
      wall.pool({ max: 4, options: `-c default_transaction_isolation=${level.replace(' ', '\\ ')}` }),
      wall.pool({ max: 4, options: `-c default_transaction_isolation=${level.replace(' ', '\\ ')}` }),
    ];
    const processes = pools.map((one) => crossTenantAttempts({ pool: one, trustedProxies: [], onTrouble: (error) => trouble.push(error) }));
    const from = address();
    const request = { method: 'GET', path: '/', address: from, header: () => null };
    const told = { kind: 'tenant', actor: 'mallory', tenant: tenant(1), claimed: tenant(2) } as const;
    await Promise.all(processes.flatMap((one) => Array.from({ length: 60 }, (_, at) => one.record(request, told, `r-${at}`))));
    await vi.waitFor(async () => expect((await rowsOf(from)).reduce((sum, { times }) => sum + Number(times), 0)).toBe(120), { timeout: 10_000 });
    expect(trouble).toEqual([]);
    await database.query('update partywall.attempt_settings set threshold = 5');
    await processes[0]?.record(request, told, 'r-last');
    expect(await crossTenantAttempts({ pool, trustedProxies: [], onTrouble: (error) => trouble.push(error) }).blockedSeconds(request)).toBeGreaterThan(0);
  });

  test('is counted in a transaction whose snapshot is older than the record that counts', async () => {
    await database.query('update partywall.attempt_settings set threshold = 0');
    const from = address();
    for (let at = 0; at < 15; at += 1) await record({ source: from });
    const other = await wall.client();
    await other.query('begin isolation level repeatable read');
    await other.query('select');
    await record({ source: from });
    await other.query('select partywall.record_attempt($1)', [JSON.stringify({ source: from })]);
    await other.query('commit');
    expect((await rowsOf(from)).slice(attemptLimits.perSourceMinute).map(({ kind, times }) => [kind, times])).toEqual([
      ['more', '6'],
      ['more', '1'],
    ]);
  });

  test('of more sources than can wait is told of once', async () => {
    const attempts = crossTenantAttempts({ pool, trustedProxies: [], onTrouble: (error) => trouble.push(error) });
    const told = { kind: 'tenant', actor: 'mallory', tenant: tenant(1), claimed: tenant(2) } as const;
    const from = (n: number) => ({ method: 'GET', path: '/', address: addressAfter('10.4.0.0', n), header: () => null });
    await Promise.all(Array.from({ length: 1_500 }, (_, at) => attempts.record(from(at), told, 'r')));
    expect(trouble).toMatchObject([{ message: expect.stringContaining('1000 sources wait') }]);
    await vi.waitFor(async () => expect((await database.query("select from partywall.attempts where source << '10.4.0.0/16'")).rowCount).toBe(1_004), {
      timeout: 20_000,
    });
  });

  test('takes old records along, a bounded number at a time, and tells of none', async () => {
    const { makesRoomEvery, purgedAtOnce } = attemptLimits;
    await database.query(
      `insert into partywall.attempts (at, last_at, times, kind) select now() - interval '31 days', now() - interval '31 days', 1, 'tenant' from generate_series(1, ${purgedAtOnce + 50});
      insert into partywall.attempts (at, last_at, times, kind) values (now() - interval '29 days', now() - interval '29 days', 7, 'tenant'), (now() - interval '31 days', now(), 1, 'tenant')`,
    );
    const kept = async () =>
      (await database.query<{ n: number }>("select count(*)::int as n from partywall.attempts where at < now() - interval '1 day'")).rows[0]?.n;
    for (let at = 0; at < makesRoomEvery; at += 1) await record({ source: address() });
    expect(await kept()).toBe(52);
    for (let at = 0; at < makesRoomEvery; at += 1) await record({ source: address() });
    const { rows } = await database.query('select times, kind from partywall.attempts order by id');
    expect(rows).toEqual([{ times: '7', kind: 'tenant' }, ...Array.from({ length: 2 * makesRoomEvery }, () => ({ times: '1', kind: 'tenant' }))]);
  });
});

test('what onTrouble throws reaches no request: it is said once by a warning', async () => {
  const warned = warnings();
  const gone = createWalledPool();
  await gone.end();
  for (const fail of [
    () => {
      throw new Error('the listener failed');
    },
    () => Promise.reject(new Error('the listener failed')),
  ]) {
    const attempts = crossTenantAttempts({ pool: gone, trustedProxies: [], onTrouble: fail });
    const request = { method: 'GET', path: '/', address: address(), header: () => null };
    for (let at = 0; at < 3; at += 1) {
      expect(await attempts.blockedSeconds(request)).toBe(0);
      await attempts.record(request, { kind: 'tenant', actor: null, tenant: null, claimed: null }, 'r');
    }
  }
  await vi.waitFor(() => expect(warned).toHaveLength(2));
  for (const message of warned) expect(message).toMatch(/^onTrouble of crossTenantAttempts failed, which is said once: Error: the listener failed/);
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

  test('can make attempts up for one address at a time, for as long as a block lasts', async () => {
    for (const source of ['0.0.0.0/0', '10.0.0.0/8', '::/0']) expect(await record({ source, times: 1_000 })).toBe(900);
    const { rows } = await database.query('select source from partywall.attempt_blocks order by source');
    expect(rows).toEqual([{ source: '0.0.0.0/32' }, { source: '10.0.0.0/32' }, { source: '::/64' }]);
    for (const { source } of rows) expect(await rowsOf(source)).toMatchObject([{ times: '1000' }]);
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
