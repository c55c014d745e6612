import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { run, system, TenantContextError, TenantSuspendedError, UnknownTenantError } from '../src/index.ts';
import { allItemsOf, failure, ids, tenant, tenantCount, walledDatabase } from './walled-database.ts';

/**
 * Debian's PgBouncer in transaction mode: the statements of one client are served by whichever server connection is free, and it keeps
 * no prepared statements. It refuses to run as root.
 */
const binary = '/usr/sbin/pgbouncer';
const serverConnections = 2;
const nobodyId = 65534;
const select = 'select id from items';

describe.skipIf(!existsSync(binary) && process.env['PARTYWALL_NO_SKIPS'] !== '1')('behind PgBouncer in transaction mode', async () => {
  const wall = await walledDatabase();
  const bouncer = await startBouncer(wall.database.url, wall.app);
  afterAll(() => bouncer.stop());
  const pool = wall.pool({ connectionString: bouncer.urlAs(wall.app), max: 10, preparedStatements: false });

  test('many tenants over more clients than server connections see only their own rows', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 300 }, (_, index) => {
        const n = (index % tenantCount) + 1;
        return run({ tenant: tenant(n) }, async () => ({ n, rows: ids(await pool.query(select)) }));
      }),
    );
    for (const { n, rows } of outcomes) expect(rows).toEqual(allItemsOf(n));
    const { rows } = await wall.database.query<{ n: number }>('select count(*)::int as n from pg_stat_activity where usename = $1', [wall.app]);
    expect(rows[0]?.n).toBeLessThanOrEqual(serverConnections);
  });

  test('transactions keep their tenant from BEGIN to COMMIT', async () => {
    await Promise.all(
      Array.from({ length: 40 }, (_, index) => {
        const n = (index % tenantCount) + 1;
        return run({ tenant: tenant(n) }, async () => {
          const client = await pool.connect();
          await client.query('begin isolation level repeatable read');
          expect(ids(await client.query(select))).toEqual(allItemsOf(n));
          await client.query('savepoint a');
          await client.query('rollback to a');
          expect(ids(await client.query('select id from items where id > $1', [0]))).toEqual(allItemsOf(n));
          await client.query('commit');
          client.release();
        });
      }),
    );
  });

  test('several statements in a string, which take two round trips, stay on one server connection', async () => {
    await Promise.all(
      Array.from({ length: 40 }, (_, index) => {
        const n = (index % tenantCount) + 1;
        return run({ tenant: tenant(n) }, async () => {
          const results = (await pool.query('select 1 as one; select id from items')) as { rows: { id: number }[] } | pg.QueryResult<{ id: number }>[];
          expect(ids((Array.isArray(results) ? results[1] : undefined) ?? { rows: [] })).toEqual(allItemsOf(n));
        });
      }),
    );
  });

  test('no server connection carries a tenant to the next client', async () => {
    await run({ tenant: tenant(1) }, () => pool.query(select));
    for (let n = 0; n < 2 * serverConnections; n += 1) {
      expect(await failure(system('look', () => pool.query(select)))).toBeInstanceOf(TenantContextError);
    }
    const plain = new pg.Client(bouncer.urlAs(wall.app));
    await plain.connect();
    expect(await failure(plain.query(select))).toMatchObject({ code: 'PW001' });
    await plain.end();
  });

  test('a pool that keeps prepared statements is told what to change', async () => {
    const prepared = wall.pool({ connectionString: bouncer.urlAs(wall.app), max: 4 });
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => run({ tenant: tenant(1) }, () => prepared.query(select))));
    const reasons = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
    expect(reasons.length).toBeGreaterThan(0);
    for (const reason of reasons) expect(reason).toMatchObject({ hint: expect.stringContaining('preparedStatements: false') });
  });

  test('a refused tenant leaves clients and server connections in step', async () => {
    await wall.setState(tenant(9), 'suspended');
    await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const id = index % 3 === 0 ? tenant(9) : index % 3 === 1 ? tenant(999) : tenant(1);
        const outcome = await run({ tenant: id }, () => pool.query(select)).catch((error: Error) => error);
        if (id === tenant(9)) expect(outcome).toBeInstanceOf(TenantSuspendedError);
        else if (id === tenant(999)) expect(outcome).toBeInstanceOf(UnknownTenantError);
        else expect(ids(outcome as pg.QueryResult<{ id: number }>)).toEqual(allItemsOf(1)); // an Error would fail here
      }),
    );
    await run({ tenant: tenant(9) }, async () => {
      const client = await pool.connect();
      await client.query('begin');
      expect(await failure(client.query(select))).toBeInstanceOf(TenantSuspendedError);
      await client.query('rollback');
      client.release();
    });
    await wall.setState(tenant(9), 'active');
    expect(ids(await run({ tenant: tenant(9) }, () => pool.query(select)))).toEqual(allItemsOf(9));
  });
});

async function startBouncer(target: string, user: string): Promise<{ urlAs(role: string): string; stop(): Promise<void> }> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-bouncer-'));
  await fs.chmod(folder, 0o755);
  const port = await freePort();
  const { port: serverPort } = new URL(target);
  await fs.writeFile(path.join(folder, 'users.txt'), `"${user}" ""\n`);
  await fs.writeFile(
    path.join(folder, 'pgbouncer.ini'),
    `[databases]
* = host=127.0.0.1 port=${serverPort}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${folder}/users.txt
pool_mode = transaction
default_pool_size = ${serverConnections}
max_client_conn = 100
`,
  );
  const owner = process.getuid?.() === 0 ? { uid: nobodyId, gid: nobodyId } : {};
  const child = spawn(binary, [path.join(folder, 'pgbouncer.ini')], { ...owner, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-4_000);
  });
  await listening(child, port, () => log);
  const url = new URL(target);
  url.port = String(port);
  return {
    urlAs: (role) => {
      url.username = role;
      return url.toString();
    },
    stop: async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGQUIT'); // PgBouncer ends at once, with open connections
      await ended;
      await fs.rm(folder, { recursive: true, force: true });
    },
  };
}

async function listening(child: ChildProcess, port: number, log: () => string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline && child.exitCode === null) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = net.connect(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 20)); // until it listens or ends, not for a time
  }
  throw new Error(`PgBouncer does not listen on port ${port}: ${log()}`);
}

async function freePort(): Promise<number> {
  const probe = net.createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
