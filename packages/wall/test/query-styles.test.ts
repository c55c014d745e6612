import { AsyncLocalStorage } from 'node:async_hooks';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { describe, expect, test } from 'vitest';
import { run, system, TenantContextError, tryCurrent, WalledClient } from '../src/index.ts';
import { allItemsOf, failure, ids, itemOf, tenant, tenantCount, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();
const parallel = 50;
const select = 'select id from items';

interface Seen {
  readonly rows: { id: number }[];
  /** Tenants of the contexts in which anything of the style's own ran. */
  readonly contexts: Set<unknown>;
}

/** Every way in which pg answers; each notes the context that its callbacks and events run in. */
const styles: Record<string, (pool: pg.Pool) => Promise<Seen>> = {
  'pool.query with a promise': async (pool) => seen(await pool.query(select)),
  'pool.query with a name': async (pool) => seen(await pool.query({ name: 'all', text: select })),
  'pool.query with values': async (pool) => seen(await pool.query('select id from items where id >= $1', [0])),
  'pool.query with a callback': (pool) =>
    new Promise((resolve, reject) => pool.query(select, (error, result) => (error ? reject(error) : resolve(seen(result))))),
  'pool.query with values and a callback': (pool) =>
    new Promise((resolve, reject) =>
      pool.query('select id from items where id >= $1', [0], (error, result) => (error ? reject(error) : resolve(seen(result)))),
    ),
  'pool.connect with a promise': async (pool) => {
    const client = await pool.connect();
    try {
      return seen(await client.query(select));
    } finally {
      client.release();
    }
  },
  'pool.connect with a callback': (pool) =>
    new Promise((resolve, reject) =>
      pool.connect((error, client, release) => {
        if (error || !client) return reject(error);
        const connected = tryCurrent()?.tenant;
        client.query(select, (failed, result) => {
          release();
          if (failed) return reject(failed);
          resolve({ ...seen(result), contexts: new Set([connected, tryCurrent()?.tenant]) });
        });
      }),
    ),
  'a Query object and its events': async (pool) => {
    const client = await pool.connect();
    const rows: { id: number }[] = [];
    const contexts = new Set<unknown>();
    const query = client.query(new pg.Query<{ id: number }>(select));
    await new Promise<void>((resolve, reject) => {
      query.on('row', (row) => {
        rows.push(row);
        contexts.add(tryCurrent()?.tenant);
      });
      query.on('end', () => resolve());
      query.on('error', reject);
    });
    client.release();
    return { rows, contexts };
  },
  'a cursor': async (pool) => {
    const client = await pool.connect();
    const cursor = client.query(new Cursor<{ id: number }>(select));
    const rows: { id: number }[] = [];
    const contexts = new Set<unknown>();
    for (;;) {
      const portion = await new Promise<{ id: number }[]>((resolve, reject) =>
        cursor.read(7, (error, some) => {
          contexts.add(tryCurrent()?.tenant);
          if (error) reject(error);
          else resolve(some);
        }),
      );
      if (portion.length === 0) break;
      rows.push(...portion);
    }
    await cursor.close();
    client.release();
    return { rows, contexts };
  },
  'a query stream': async (pool) => {
    const client = await pool.connect();
    const rows: { id: number }[] = [];
    const contexts = new Set<unknown>();
    const stream = client.query(new QueryStream(select, [], { batchSize: 4 }));
    await new Promise((resolve, reject) => {
      stream.on('data', (row: { id: number }) => {
        rows.push(row);
        contexts.add(tryCurrent()?.tenant);
      });
      stream.on('end', resolve);
      stream.on('error', reject);
    });
    client.release();
    return { rows, contexts };
  },
  'COPY TO a stream': async (pool) => {
    const client = await pool.connect();
    const contexts = new Set<unknown>();
    let text = '';
    const stream = client.query(copyTo(`copy (${select}) to stdout`));
    stream.on('data', () => contexts.add(tryCurrent()?.tenant));
    await pipeline(stream, async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) text += chunk.toString();
    });
    client.release();
    return {
      rows: text
        .trim()
        .split('\n')
        .map((line) => ({ id: Number(line) })),
      contexts,
    };
  },
  'several statements in one string': async (pool) => {
    const results = (await pool.query(`select 1 as one; ${select}`)) as unknown;
    return seen((results as [unknown, pg.QueryResult<{ id: number }>])[1]); // pg gives a list for several statements; its types do not say so
  },
  'an explicit transaction': async (pool) => {
    const client = await pool.connect();
    await client.query('begin');
    const result = await client.query(select);
    await client.query('commit');
    client.release();
    return seen(result);
  },
};

function seen(result: pg.QueryResult<{ id: number }>): Seen {
  return { rows: result.rows, contexts: new Set([tryCurrent()?.tenant]) };
}

describe('fifty tenants at once over five connections', () => {
  const pool = wall.pool({ max: 5 });

  test.each(Object.keys(styles))('%s: each sees its own rows, and its callbacks run in its own context', async (name) => {
    const style = styles[name];
    if (!style) throw new Error(name);
    const outcomes = await Promise.all(
      Array.from({ length: parallel }, (_, index) => run({ tenant: tenant(index + 1) }, async () => ({ n: index + 1, ...(await style(pool)) }))),
    );
    for (const { n, rows, contexts } of outcomes) {
      expect(ids({ rows })).toEqual(allItemsOf(n));
      expect([...contexts]).toEqual([tenant(n)]);
    }
    expect(pool.totalCount).toBeLessThanOrEqual(5);
  });

  test('all styles mixed, twenty times over', async () => {
    const every = Object.values(styles);
    await Promise.all(
      Array.from({ length: 20 * every.length }, (_, index) => {
        const n = (index % tenantCount) + 1;
        return run({ tenant: tenant(n) }, async () => {
          const outcome = await every[index % every.length]?.(pool);
          expect(ids({ rows: outcome?.rows ?? [] })).toEqual(allItemsOf(n));
          expect([...(outcome?.contexts ?? [])]).toEqual([tenant(n)]);
        });
      }),
    );
  });
});

describe("the caller's async context", () => {
  const pool = wall.pool({ max: 1 });
  const others = new AsyncLocalStorage<string>();

  test('holds in callbacks for other storages of the application too', async () => {
    const hold = await pool.connect();
    const waiting = others.run('mine', () =>
      run({ tenant: tenant(3) }, () => new Promise((resolve) => pool.query(select, () => resolve([others.getStore(), tryCurrent()?.tenant])))),
    );
    // The connection is handed over by somebody else's release, in somebody else's context.
    others.run('theirs', () => hold.release());
    expect(await waiting).toEqual(['mine', tenant(3)]);
  });

  test('holds for notices', async () => {
    const client = await pool.connect();
    const contexts: unknown[] = [];
    client.on('notice', () => contexts.push(tryCurrent()?.tenant));
    await run({ tenant: tenant(1) }, () => client.query("do $$ begin raise notice 'hello'; end $$"));
    await run({ tenant: tenant(2) }, () => client.query("do $$ begin raise notice 'hello'; end $$"));
    client.release(true);
    expect(contexts).toEqual([tenant(1), tenant(2)]);
  });

  test('holds for a COPY stream that goes on for many packets, on a connection that others opened', async () => {
    for (const n of [1, 2]) {
      const contexts = new Set<unknown>();
      await run({ tenant: tenant(n) }, async () => {
        const client = await pool.connect();
        const stream = client.query(copyTo("copy (select repeat('x', 1000) from generate_series(1, 3000)) to stdout"));
        await new Promise((resolve, reject) => {
          stream.on('data', () => contexts.add(tryCurrent()?.tenant));
          stream.on('end', resolve);
          stream.on('error', reject);
        });
        client.release();
      });
      expect([...contexts]).toEqual([tenant(n)]);
    }
  });

  test('holds for the callback of a query that fails', async () => {
    const context = await run(
      { tenant: tenant(1) },
      () => new Promise((resolve) => pool.query('select 1/0', (error) => resolve([error.message, tryCurrent()?.tenant]))),
    );
    expect(context).toEqual(['division by zero', tenant(1)]);
  });
});

describe('without a context', () => {
  const pool = wall.pool({ max: 1 });

  test('nothing is sent, and every style gets TenantContextError', async () => {
    // A connection of its own, whose statements the server can be asked about.
    const client = await pool.connect();
    const { rows } = await system('a test', () => client.query('select pg_backend_pid() as pid'));
    const pid = rows[0]?.pid;
    const before = await lastStatement(pid);

    expect(await failure(client.query('select 2'))).toBeInstanceOf(TenantContextError);
    expect(await failure(client.query('begin'))).toBeInstanceOf(TenantContextError);
    expect(await failure(client.query({ name: 'n', text: 'select 2' }))).toBeInstanceOf(TenantContextError);
    expect(await new Promise((resolve) => client.query('select 2', resolve))).toBeInstanceOf(TenantContextError);
    const query = client.query(new pg.Query('select 2'));
    expect(await new Promise((resolve) => query.on('error', resolve))).toBeInstanceOf(TenantContextError);
    expect(await failure(client.query(new Cursor('select 2')).read(1))).toBeInstanceOf(TenantContextError);
    const stream = client.query(copyTo('copy (select 2) to stdout'));
    expect(await new Promise((resolve) => stream.on('error', resolve))).toBeInstanceOf(TenantContextError);

    expect(await lastStatement(pid)).toEqual(before);
    expect((await system('a test', () => client.query('select 3 as three'))).rows).toEqual([{ three: 3 }]);
    client.release();
  });

  test('pool.query does not even wait for a connection', async () => {
    const hold = await pool.connect();
    expect(await failure(pool.query('select 1'))).toBeInstanceOf(TenantContextError);
    expect(await new Promise((resolve) => pool.query('select 1', resolve))).toBeInstanceOf(TenantContextError);
    hold.release();
  });

  test('the error says so, with a hint', async () => {
    const error = await failure(pool.query('select 1'));
    expect(error).toMatchObject({ name: 'TenantContextError', code: 'tenant_context', message: 'sending a statement outside any context' });
    expect(error.hint).toContain('run({ tenant }');
  });

  async function lastStatement(pid: unknown): Promise<unknown> {
    const { rows } = await wall.database.query('select query, query_start from pg_stat_activity where pid = $1', [pid]);
    return rows[0];
  }
});

describe('a system context', () => {
  const pool = wall.pool({ max: 1 });

  test('reaches shared tables, and is refused by walled ones', async () => {
    expect((await system('list countries', () => pool.query('select code from countries order by 1'))).rows).toEqual([{ code: 'de' }, { code: 'fr' }]);
    const error = await failure(system('list items', () => pool.query(select)));
    expect(error).toBeInstanceOf(TenantContextError);
    expect(error.cause).toBeInstanceOf(pg.DatabaseError);
    expect(error.sqlstate).toBe('PW001');
  });

  test('sees nothing of the tenant that used the connection before', async () => {
    await run({ tenant: tenant(1) }, () => pool.query(select));
    expect(await failure(system('list items', () => pool.query(select)))).toBeInstanceOf(TenantContextError);
    const left = await system('look', () => pool.query("select current_setting('backtrace_functions') as tenant"));
    expect([null, '']).toContain(left.rows[0]?.tenant);
  });
});

describe('a walled client without a pool', () => {
  test('is a pg.Client that walls its queries', async () => {
    const client = new WalledClient(wall.database.urlAs(wall.app));
    await client.connect();
    expect(client).toBeInstanceOf(pg.Client);
    expect(client.release).toBeUndefined();
    expect(await failure(client.query(select))).toBeInstanceOf(TenantContextError);
    expect(ids(await run({ tenant: tenant(4) }, () => client.query(select)))).toEqual(allItemsOf(4));
    await client.end();
  });

  test('connects with a callback too', async () => {
    const client = new WalledClient({ connectionString: wall.database.urlAs(wall.app) });
    await new Promise<void>((resolve, reject) => client.connect((error) => (error ? reject(error) : resolve())));
    expect(ids(await run({ tenant: tenant(4) }, () => client.query(select)))).toEqual(allItemsOf(4));
    await client.end();
  });

  test('refuses the pipeline option, and queued queries of two tenants stay apart', async () => {
    expect(() => new WalledClient({ pipeline: true })).toThrow(TypeError);
    const client = new WalledClient(wall.database.urlAs(wall.app));
    await client.connect();
    const answers = await Promise.all([1, 2, 3].map((n) => run({ tenant: tenant(n) }, () => client.query(select))));
    expect(answers.map(ids)).toEqual([1, 2, 3].map(allItemsOf));
    await client.end();
  });
});

describe('what the application sends on a new connection', () => {
  test('needs no context: onConnect, verify and the connect event', async () => {
    const done: string[] = [];
    const pool = wall.pool({
      max: 1,
      onConnect: async (client) => {
        await client.query("set application_name = 'on connect'");
        done.push('onConnect');
      },
      verify: (client, callback) => {
        client.query('select version()', (error) => {
          done.push('verify');
          callback(error ?? undefined);
        });
      },
    });
    pool.on('connect', (client) => {
      client.query("set statement_timeout = '20s'", () => done.push('connect'));
    });
    const { rows } = await run({ tenant: tenant(1) }, () =>
      pool.query("select current_setting('application_name') as name, current_setting('statement_timeout') as timeout"),
    );
    expect(rows).toEqual([{ name: 'on connect', timeout: '20s' }]);
    expect(done).toEqual(['onConnect', 'connect', 'verify']);
    // Settings of the set-up are the connection's normal state, not somebody's leftovers.
    expect([pool.totalCount, pool.idleCount]).toEqual([1, 1]);
  });
});

test('an item of another tenant is not there, by any id', async () => {
  const pool = wall.pool();
  const { rows } = await run({ tenant: tenant(1) }, () => pool.query('select id from items where id = $1', [itemOf(2)]));
  expect(rows).toEqual([]);
});
