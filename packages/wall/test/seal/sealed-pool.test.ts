import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import Cursor from 'pg-cursor';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createWalledPool, run, SealRefusedError, TenantSuspendedError, WallNotHeldError } from '../../src/index.ts';
import { WalledClient } from '../../src/walled-client.ts';
import { allItemsOf, failure, ids, tenant } from '../walled-database.ts';
import { sealedDatabase } from './sealed-database.ts';

const wall = await sealedDatabase();
const select = 'select id from items';
const rowsOf = (pool: { query(text: string): Promise<{ rows: { id: number }[] }> }, n: number): Promise<number[]> =>
  run({ tenant: tenant(n) }, async () => ids(await pool.query(select)));

afterEach(() => {
  vi.useRealTimers();
});

describe('a pool with a key', () => {
  test.each([true, false])('reads a sealed database in every way, preparedStatements: %s', async (preparedStatements) => {
    const pool = wall.pool({ seal: wall.key, preparedStatements });
    for (const n of [1, 2, 1, 3]) expect(await rowsOf(pool, n)).toEqual(allItemsOf(n));
    await run({ tenant: tenant(4) }, async () => {
      const client = await pool.connect();
      await client.query('begin');
      expect(ids(await client.query(select))).toEqual(allItemsOf(4));
      await client.query('savepoint a');
      await client.query('rollback to a');
      expect(ids(await client.query(select))).toEqual(allItemsOf(4));
      await client.query('commit and chain');
      expect(ids(await client.query(select))).toEqual(allItemsOf(4));
      await client.query('rollback');
      const cursor = client.query(new Cursor<{ id: number }>(select));
      expect((await cursor.read(100)).map((row) => row.id).sort((a, b) => a - b)).toEqual(allItemsOf(4));
      await cursor.close();
      client.release();
    });
  });

  test('works before the database is sealed, and goes on when it is sealed and unsealed under it', async () => {
    await wall.unseal();
    const pool = wall.pool({ seal: wall.key });
    expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1));
    await wall.seal();
    expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1));
    expect(await rowsOf(pool, 2)).toEqual(allItemsOf(2));
  });

  test('gives 50 tenants in one tick their own rows, each under its own seal', async () => {
    const pool = wall.pool({ seal: wall.key, max: 5 });
    const found = await Promise.all(Array.from({ length: 50 }, (_, index) => rowsOf(pool, index + 1)));
    found.forEach((rows, index) => {
      expect(rows).toEqual(allItemsOf(index + 1));
    });
  });

  test('is refused a suspended tenant as before', async () => {
    const pool = wall.pool({ seal: wall.key });
    expect(await rowsOf(pool, 9)).toEqual(allItemsOf(9));
    await wall.setState(tenant(9), 'suspended');
    expect(await failure(rowsOf(pool, 9))).toBeInstanceOf(TenantSuspendedError);
  });

  test('takes the best of its keys that the database has, so that it can be deployed before the database gets it', async () => {
    const next = `7:${randomBytes(32).toString('base64url')}`;
    const pool = wall.pool({ seal: `${next},${wall.key}` });
    expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1));
  });

  test('is refused from when its key is retired, and a pool with the next one is not', async () => {
    const second = await wall.addKey(2);
    const third = await wall.addKey(3);
    const [old, young] = [wall.pool({ seal: second }), wall.pool({ seal: `${third},${second}` })];
    expect([await rowsOf(old, 1), await rowsOf(young, 1)]).toEqual([allItemsOf(1), allItemsOf(1)]);
    await wall.retire(2);
    const refusal = await failure(rowsOf(old, 1));
    expect(refusal).toBeInstanceOf(SealRefusedError);
    expect(refusal).toMatchObject({ code: 'seal_refused', sqlstate: 'PW009', message: expect.stringContaining('unknown or retired') });
    expect(await rowsOf(young, 1)).toEqual(allItemsOf(1));
  });

  test('keeps the key out of its options and out of what is printed of it', async () => {
    const pool = createWalledPool({ connectionString: wall.database.urlAs(wall.app), seal: wall.key });
    const secret = wall.key.slice(2);
    expect(JSON.stringify(pool.options)).not.toContain(secret);
    expect(inspect(pool, { depth: 10, showHidden: true })).not.toContain(secret);
    await pool.end();
  });

  test('with a key that is none is not made', () => {
    expect(() => createWalledPool({ seal: 'secret' })).toThrow('reading the keys of the seal');
  });
});

test('a pool follows a tenant into another sealed database, with the same key', async () => {
  const second = await sealedDatabase();
  const key = await second.addKey(21, Buffer.alloc(32, 5));
  await wall.addKey(21, Buffer.alloc(32, 5));
  await wall.database.query("update partywall.registry set placement = 'second' where tenant_id = $1", [tenant(20)]);
  const where = 'select current_database() as name, count(*)::int as items from items';
  const pool = wall.pool({ seal: key, placements: { second: second.database.urlAs(second.app) } });
  for (let round = 0; round < 2; round += 1) {
    expect((await run({ tenant: tenant(20) }, () => pool.query(where))).rows).toEqual([{ name: second.database.name, items: 30 }]);
    expect((await run({ tenant: tenant(21) }, () => pool.query(where))).rows).toEqual([{ name: wall.database.name, items: 30 }]);
  }
});

test('a walled client without a pool seals too', async () => {
  const client = new WalledClient({ connectionString: wall.database.urlAs(wall.app), seal: wall.key });
  await client.connect();
  expect(await rowsOf(client, 3)).toEqual(allItemsOf(3));
  await client.end();
});

describe('the boot gate', () => {
  test('refuses a pool without a key on a sealed database, and says what to pass', async () => {
    const refusal = await failure(rowsOf(wall.pool(), 1));
    expect(refusal).toBeInstanceOf(WallNotHeldError);
    expect(refusal).toMatchObject({ message: expect.stringContaining('sealed'), hint: expect.stringContaining('PARTYWALL_SEAL_KEY') });
  });

  test('refuses a key that the database does not have, by number alone', async () => {
    const foreign = `9:${randomBytes(32).toString('base64url')}`;
    const refusal = await failure(rowsOf(wall.pool({ seal: foreign }), 1));
    expect(refusal).toBeInstanceOf(WallNotHeldError);
    expect(refusal.message).toContain('key 9');
    expect(refusal.message).not.toContain(foreign.slice(2));
  });

  test('lets a key of the right number through, whose seals the database then refuses', async () => {
    const refusal = await failure(rowsOf(wall.pool({ seal: `1:${randomBytes(32).toString('base64url')}` }), 1));
    expect(refusal).toBeInstanceOf(SealRefusedError);
    expect(refusal.message).toContain('does not fit');
  });

  test('does not help a pool without a key that passed it before the database was sealed: it is refused with the reason', async () => {
    await wall.unseal();
    const pool = wall.pool();
    expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1));
    await wall.seal();
    const refusal = await failure(rowsOf(pool, 1));
    expect(refusal).toBeInstanceOf(SealRefusedError);
    expect(refusal.hint).toContain('PARTYWALL_SEAL_KEY');
  });
});

describe('clocks', () => {
  const at = async (seconds: number, work: () => Promise<unknown>): Promise<unknown> => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + seconds * 1_000 });
    return work();
  };

  test.each([-25, 0, 500])('that differ by %i seconds are borne', async (seconds) => {
    const pool = wall.pool({ seal: wall.key });
    await at(seconds, async () => expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1)));
  });

  test('of an application that is more than a minute behind: its seals have expired', async () => {
    const refusal = await at(-70, () => failure(rowsOf(wall.pool({ seal: wall.key }), 1)));
    expect(refusal).toBeInstanceOf(SealRefusedError);
    expect(refusal).toMatchObject({ message: expect.stringContaining('expired'), hint: expect.stringContaining('clocks') });
  });

  test('of an application that is ten minutes ahead: its seals last too long', async () => {
    const refusal = await at(600, () => failure(rowsOf(wall.pool({ seal: wall.key }), 1)));
    expect(refusal).toBeInstanceOf(SealRefusedError);
    expect(refusal).toMatchObject({ message: expect.stringContaining('longer than'), hint: expect.stringContaining('clocks') });
  });

  test('that go on, or are set back, get a new seal', async () => {
    const pool = wall.pool({ seal: wall.key });
    // By the first clock the seal is good for a minute; ten minutes before, it would last too long.
    await at(400, async () => expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1)));
    await at(-400, async () => expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1)));
    await at(31, async () => expect(await rowsOf(pool, 1)).toEqual(allItemsOf(1)));
  });
});

test('codes are seen neither in the text of statements nor in the server’s log of it', async () => {
  const pool = wall.pool({ seal: wall.key, max: 1 });
  await run({ tenant: tenant(1) }, async () => {
    const client = await pool.connect();
    await client.query('begin');
    await client.query(select);
    const { rows } = await wall.database.query<{ query: string }>('select query from pg_stat_activity where usename = $1', [wall.app]);
    expect(rows.length).toBeGreaterThan(0);
    for (const { query } of rows) expect(query).not.toMatch(/[0-9a-f]{64}/i);
    await client.query('rollback');
    expect((await client.query('select statement from pg_prepared_statements')).rows.map(({ statement }: { statement: string }) => statement)).toEqual([
      'select partywall.enter_sealed($1, $2, $3, $4, $5, $6)',
    ]);
    client.release();
  });
});
