import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import pg from 'pg';
import { beforeEach, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { controlPool } from '../../src/db/control-pool.ts';
import { type CountedRequest, latencyBoundsMs, RequestMeter } from '../../src/metering/requests.ts';

const fixture = await controlDatabase();
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');

const counted = (changes: Partial<CountedRequest> = {}): CountedRequest => ({ tenant: alder, user: undefined, milliseconds: 20, failed: false, ...changes });

interface MinuteRow {
  readonly tenant_id: string;
  readonly calls: number;
  readonly errors: number;
  readonly millis: number;
}

async function minutes(table = 'request_minutes'): Promise<MinuteRow[]> {
  const { rows } = await fixture.database.query<MinuteRow>(
    `select tenant_id, sum(calls)::int as calls, sum(errors)::int as errors, sum(millis) as millis from partywall_control.${table} group by 1 order by 1`,
  );
  return rows;
}

const callsOf = async (tenant: string): Promise<number> => (await minutes()).find((row) => row.tenant_id === tenant)?.calls ?? 0;

beforeEach(async () => {
  await fixture.database.query('truncate partywall_control.request_minutes, partywall_control.request_hours, partywall_control.active_users');
});

test('the buckets of the database are those of the process', async () => {
  const { rows } = await fixture.control.pool.query<{ bounds: number[] }>('select partywall_control.latency_bounds() as bounds');
  expect(rows[0]?.bounds).toEqual(latencyBoundsMs);
});

test('requests are added up by tenant, minute and hour, with errors and times in their buckets', async () => {
  const meter = new RequestMeter(fixture.control);
  for (const milliseconds of [1, 5, 5.1, 70, 9_000]) meter.count(counted({ milliseconds }));
  meter.count(counted({ failed: true, milliseconds: 600 }));
  meter.count(counted({ tenant: birch }));
  meter.count(counted({ tenant: null }));
  await meter.flush();
  await meter.flush();
  for (const table of ['request_minutes', 'request_hours']) {
    const of = new Map((await minutes(table)).map((row) => [row.tenant_id, row]));
    expect(of.get(alder)).toMatchObject({ calls: 6, errors: 1, millis: 9_681.1 });
    expect(of.get(birch)).toMatchObject({ calls: 1, errors: 0 });
    expect(of.get('')).toMatchObject({ calls: 1, errors: 0 });
  }
  const { rows } = await fixture.database.query<{ buckets: string[] }>('select buckets from partywall_control.request_hours where tenant_id = $1', [alder]);
  expect(rows[0]?.buckets.map(Number)).toEqual([2, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1]);
});

test('requests before and after a full minute and hour are told apart', async () => {
  let now = new Date('2026-05-01T09:59:59.900Z');
  const meter = new RequestMeter({ ...fixture.control, clock: () => now });
  meter.count(counted());
  now = new Date('2026-05-01T10:00:00.100Z');
  meter.count(counted());
  meter.count(counted());
  await meter.flush();
  const { rows } = await fixture.database.query<{ hour: Date; calls: string }>('select hour, calls from partywall_control.request_hours order by hour');
  expect(rows.map(({ hour, calls }) => [hour.toISOString(), calls])).toEqual([
    ['2026-05-01T09:00:00.000Z', '1'],
    ['2026-05-01T10:00:00.000Z', '2'],
  ]);
});

test('a person is active once a day, whatever they ask, and again on the next day', async () => {
  let now = new Date('2026-05-01T23:00:00Z');
  const meter = new RequestMeter({ ...fixture.control, clock: () => now });
  const active = async () => (await fixture.database.query<{ n: number }>('select count(*)::int as n from partywall_control.active_users')).rows[0]?.n;
  for (let n = 0; n < 20; n += 1) meter.count(counted({ user: `person ${n % 2}` }));
  meter.count(counted({ user: 'person 0', tenant: birch }));
  meter.count(counted({ user: 'nobody in particular', tenant: null }));
  await meter.flush();
  meter.count(counted({ user: 'person 0' }));
  await meter.flush();
  expect(await active()).toBe(3);
  now = new Date('2026-05-02T01:00:00Z');
  meter.count(counted({ user: 'person 0' }));
  await meter.flush();
  expect(await active()).toBe(4);
});

test('fifty processes that write the same tenants at once lose no request and never deadlock', async () => {
  const meters = Array.from({ length: 50 }, () => new RequestMeter(fixture.control));
  for (let round = 0; round < 3; round += 1) {
    for (const [at, meter] of meters.entries()) {
      // Each sees the tenants in another order.
      for (const tenant of at % 2 === 0 ? [alder, birch] : [birch, alder]) meter.count(counted({ tenant, user: `person ${at % 5}` }));
    }
    await Promise.all(meters.map((meter) => meter.flush()));
  }
  expect(await callsOf(alder)).toBe(150);
  expect(await callsOf(birch)).toBe(150);
});

test('a batch whose answer was lost is sent again, and counts once', async () => {
  let losing = false;
  const { hostname, port } = new URL(fixture.urls.service);
  const proxy = net.createServer((client) => {
    const server = net.connect(Number(port), hostname);
    client.pipe(server);
    // The server answers after it has committed: the answer and the connection are lost, the batch is there.
    server.on('data', (data) => (losing ? client.destroy() : client.write(data)));
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const)
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  const address = proxy.address();
  const url = new URL(fixture.urls.service);
  url.hostname = '127.0.0.1';
  url.port = String(typeof address === 'object' ? address?.port : '');
  const pool = controlPool(url.href, { purpose: 'test', max: 1 });
  await pool.query('select');
  const meter = new RequestMeter({ ...fixture.control, pool });
  meter.count(counted());
  losing = true;
  await expect(meter.flush()).rejects.toThrow('Connection terminated');
  losing = false;
  expect(await callsOf(alder)).toBe(1);
  meter.count(counted());
  await meter.stop();
  expect(await callsOf(alder)).toBe(2);
  await pool.end();
  proxy.close();
});

test('while the database is away nothing is lost, and beyond its memory requests are counted as nobody’s', async () => {
  const broken = new pg.Pool({ connectionString: 'postgresql://nobody@127.0.0.1:1/none', connectionTimeoutMillis: 1_000 });
  let pool: pg.Pool = broken;
  const meter = new RequestMeter(
    {
      ...fixture.control,
      get pool() {
        return pool;
      },
    },
    { linesMax: 2 },
  );
  meter.count(counted());
  await expect(meter.flush()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  for (let n = 0; n < 5; n += 1) for (const tenant of [alder, birch, 'a third', 'a fourth']) meter.count(counted({ tenant }));
  expect(meter.unattributed).toBe(10);
  pool = fixture.control.pool;
  await meter.stop();
  expect((await minutes()).map(({ tenant_id, calls }) => [tenant_id, calls]).toSorted()).toEqual(
    [
      ['', 10],
      [alder, 6],
      [birch, 5],
    ].toSorted(),
  );
  await broken.end();
});

test('a name that no tenant has, or that PostgreSQL cannot store, counts as nobody’s and keeps nothing else out', async () => {
  const meter = new RequestMeter(fixture.control);
  for (const tenant of ['no such tenant', 'nul\0', '\ud800', "'; drop table partywall_control.directory; --", '__proto__'])
    meter.count(counted({ tenant, user: 'x\0' }));
  meter.count(counted({ user: 'somebody' }));
  await meter.flush();
  expect((await minutes()).map(({ tenant_id, calls }) => [tenant_id, calls])).toEqual([
    ['', 5],
    [alder, 1],
  ]);
  expect((await fixture.database.query('select user_id from partywall_control.active_users')).rows).toEqual([{ user_id: 'somebody' }]);
});

test('nothing of a tenant that is being erased comes back', async () => {
  const gone = await fixture.tenant('Gone');
  await fixture.database.query("update partywall_control.directory set status = 'erasing' where tenant_id = $1", [gone]);
  const meter = new RequestMeter(fixture.control);
  meter.count(counted({ tenant: gone, user: 'somebody' }));
  await meter.flush();
  expect((await minutes()).map(({ tenant_id }) => tenant_id)).toEqual(['']);
  expect((await fixture.database.query('select from partywall_control.active_users')).rowCount).toBe(0);
});

test('a process that is killed loses what it had not written, and nothing before', async () => {
  const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'killed-meter.ts'), fixture.urls.service, alder], {
    stdio: 'inherit',
  });
  const [, signal] = await once(child, 'exit');
  expect(signal).toBe('SIGKILL');
  expect(await callsOf(alder)).toBe(10);
});

test('a started meter writes on its own', async () => {
  const meter = new RequestMeter(fixture.control, { flushIntervalMs: 10 });
  meter.start();
  meter.count(counted());
  await expect.poll(() => callsOf(alder)).toBe(1);
  await meter.stop();
});
