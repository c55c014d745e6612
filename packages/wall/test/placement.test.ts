import pg from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { createWalledPool, run, StatementRefusedError, system, TenantPlacedElsewhereError, TenantSuspendedError, UnknownTenantError } from '../src/index.ts';
import { allItemsOf, failure, ids, tenant, walledDatabase } from './walled-database.ts';
import { warnings } from './warnings.ts';

const first = await walledDatabase();
const second = await walledDatabase();
const select = 'select id from items';
/** Each test takes tenants of its own. */
let next = 1;
const own = () => next++;

const url = second.database.urlAs(second.app);

/** Moves a tenant as the database sees it; the two databases have the same rows, so its place is told by who answers. */
async function place(n: number, placement: string | null): Promise<void> {
  await first.database.query('update partywall.registry set placement = $2 where tenant_id = $1', [tenant(n), placement]);
}

async function leave(n: number): Promise<void> {
  await second.database.query("update partywall.registry set placement = 'back' where tenant_id = $1", [tenant(n)]);
}

const where = 'select current_database() as name, count(*)::int as items from items';
const at = async (pool: pg.Pool, n: number): Promise<unknown> => (await run({ tenant: tenant(n) }, () => pool.query(where))).rows[0];
const inFirst = { name: first.database.name, items: 30 };
const inSecond = { name: second.database.name, items: 30 };

describe('a pool with placements', () => {
  const pool = first.pool({ max: 2, placements: { second: url } });

  test('sends what a placed tenant does to its database, and leaves its neighbours where they are', async () => {
    const [n, neighbour] = [own(), own()];
    await place(n, 'second');
    for (let round = 0; round < 3; round += 1) {
      expect(await at(pool, n)).toEqual(inSecond);
      expect(await at(pool, neighbour)).toEqual(inFirst);
    }
    expect(ids(await run({ tenant: tenant(n) }, () => pool.query({ name: 'named', text: select })))).toEqual(allItemsOf(n));
  });

  test('learns that a tenant has moved away and that it has come back, whichever way the other database refuses it', async () => {
    for (const gone of [leave, (n: number) => second.database.query('delete from partywall.registry where tenant_id = $1', [tenant(n)])]) {
      const n = own();
      expect(await at(pool, n)).toEqual(inFirst);
      await place(n, 'second');
      expect(await at(pool, n)).toEqual(inSecond);
      await gone(n);
      await place(n, null);
      expect(await at(pool, n)).toEqual(inFirst);
    }
  });

  test('refuses a tenant that neither database admits, after asking each at most twice', async () => {
    const n = own();
    await place(n, 'second');
    await leave(n);
    expect(await failure(at(pool, n))).toBeInstanceOf(TenantPlacedElsewhereError);
    const suspended = own();
    await place(suspended, 'second');
    await second.setState(tenant(suspended), 'suspended');
    expect(await failure(at(pool, suspended))).toBeInstanceOf(TenantSuspendedError);
    expect(await failure(at(pool, 9_999))).toBeInstanceOf(UnknownTenantError);
  });

  test('whose function throws knows no placement: the tenant is refused, and the failure said once', async () => {
    const warned = warnings();
    const failing = first.pool({
      placements: () => {
        throw new Error('the configuration is gone');
      },
    });
    const [n, neighbour] = [own(), own()];
    await place(n, 'second');
    for (let round = 0; round < 2; round += 1) {
      expect(await failure(at(failing, n))).toBeInstanceOf(TenantPlacedElsewhereError);
      expect(await at(failing, neighbour)).toEqual(inFirst);
    }
    await vi.waitFor(() => expect(warned).toEqual([expect.stringMatching(/^placements failed, which is said once: Error: the configuration is gone/)]));
  });

  test('leads transactions to where the tenant is known to be; one that finds out in its middle is refused whole', async () => {
    const n = own();
    await place(n, 'second');
    const transaction = () =>
      run({ tenant: tenant(n) }, async () => {
        const client = await pool.connect();
        try {
          await client.query('begin');
          const { rows } = await client.query(where);
          await client.query('insert into items (id, body) values ($1, $2)', [100_000 + n, `placed ${n}`]);
          await client.query('commit');
          return rows[0];
        } catch (error) {
          await client.query('rollback');
          throw error;
        } finally {
          client.release();
        }
      });
    expect(await failure(transaction())).toMatchObject({ name: 'TenantPlacedElsewhereError', placement: 'second' });
    expect(await transaction()).toEqual(inSecond);
    const count = async (wall: typeof first) => (await wall.database.query('select from items where id = $1', [100_000 + n])).rowCount;
    expect([await count(first), await count(second)]).toEqual([0, 1]);
  });

  test('leads callbacks and query objects to where the tenant is known to be', async () => {
    const n = own();
    await place(n, 'second');
    await at(pool, n);
    const { promise, resolve } = Promise.withResolvers<unknown>();
    await run({ tenant: tenant(n) }, () => pool.query(where, (_error: Error, result: pg.QueryResult) => resolve(result.rows[0])));
    expect(await promise).toEqual(inSecond);
    expect(await run({ tenant: tenant(n) }, () => pool.query(new pg.Query(where)))).toMatchObject({ rows: [inSecond] });
  });

  test('sends a statement again only where entering was refused, never where the statement itself says so', async () => {
    const n = own();
    await first.database.query(`create function say_placed() returns void language plpgsql as $$
      begin insert into items (id, body) values (nextval('said'), 'said ' || lastval()); raise exception 'no' using errcode = 'PW006', detail = 'second'; end $$;
      create sequence said start 500000; grant usage on sequence said to ${first.app}`);
    expect(await failure(run({ tenant: tenant(n) }, () => pool.query('select say_placed()')))).toBeInstanceOf(TenantPlacedElsewhereError);
    expect((await first.database.query('select last_value::int as drawn from said')).rows).toEqual([{ drawn: 500_000 }]);
    expect(await at(pool, n)).toEqual(inFirst);
  });

  test('a connection of a placement serves no system context, and the pool serves it by the first database', async () => {
    const n = own();
    await place(n, 'second');
    await at(pool, n);
    expect((await system('test', () => pool.query('select current_database() as name'))).rows).toEqual([{ name: first.database.name }]);
    const client = await run({ tenant: tenant(n) }, () => pool.connect());
    try {
      expect(await failure(system('test', () => client.query('select * from countries')))).toBeInstanceOf(StatementRefusedError);
      const neighbour = own();
      await second.database.query('delete from partywall.registry where tenant_id = $1', [tenant(neighbour)]);
      expect(await failure(run({ tenant: tenant(neighbour) }, () => client.query(where)))).toBeInstanceOf(UnknownTenantError);
      expect(await at(pool, neighbour)).toEqual(inFirst);
    } finally {
      client.release();
    }
  });
});

test('placements are opened once each, pass the boot gate, keep the options of the pool and end with it', async () => {
  const n = own();
  await place(n, 'second');
  const asked: string[] = [];
  const pool = createWalledPool({
    connectionString: first.database.urlAs(first.app),
    application_name: 'followed',
    placements: (name) => {
      asked.push(name);
      return name === 'second' ? { connectionString: url, max: 1 } : undefined;
    },
  });
  const [one] = await Promise.all([at(pool, n), at(pool, n), at(pool, n)]);
  expect(one).toEqual(inSecond);
  const sessions = () => second.database.query("select from pg_stat_activity where application_name = 'followed' and datname = current_database()");
  expect((await sessions()).rowCount).toBe(1);
  expect(new Set(asked)).toEqual(new Set(['second']));
  await pool.end();
  await expect.poll(async () => (await sessions()).rowCount).toBe(0);
  await expect(at(pool, n)).rejects.toThrow('end');
});

test('a placement whose role no policy binds is refused by the gate', async () => {
  const n = own();
  await place(n, 'second');
  const pool = first.pool({ placements: { second: second.database.url } });
  expect(await failure(at(pool, n))).toMatchObject({ code: 'wall_not_held' });
});

test('a tenant in a placement that the pool does not know is refused, with its name', async () => {
  const n = own();
  await place(n, 'third');
  expect(await failure(at(first.pool({ placements: { second: url } }), n))).toMatchObject({ name: 'TenantPlacedElsewhereError', placement: 'third' });
  expect(await failure(at(first.pool({ placements: { second: url } }), n))).toMatchObject({ code: 'tenant_placed_elsewhere' });
  await place(n, 'constructor');
  expect(await failure(at(first.pool({ placements: {} }), n))).toMatchObject({ placement: 'constructor' });
});

test('a tenant that is not placed costs no further statement', async () => {
  const n = own();
  const pool = first.pool({ max: 1, placements: { second: url } });
  await at(pool, n);
  const client = await run({ tenant: tenant(n) }, () => pool.connect());
  const writes: string[] = [];
  const { stream } = client.connection;
  const write = stream._write.bind(stream);
  stream._write = (chunk: Buffer, encoding, done) => {
    writes.push(messageKinds(chunk));
    write(chunk, encoding, done);
  };
  client.release();
  await at(pool, n);
  // As without placements: Bind and Execute of entering; Parse, Bind, Describe, Execute of the query; Sync.
  expect(writes).toEqual(['BEPBDES']);
});

/** The first byte of each protocol message in a piece of the stream. */
function messageKinds(chunk: Buffer): string {
  let kinds = '';
  for (let at = 0; at < chunk.length; at += 1 + chunk.readInt32BE(at + 1)) kinds += String.fromCharCode(chunk[at] ?? 0);
  return kinds;
}
