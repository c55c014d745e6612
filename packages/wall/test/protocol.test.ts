import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { describe, expect, test } from 'vitest';
import { CrossTenantError, run, StatementRefusedError, system, TenantContextError, UnknownTenantError, WalledClient } from '../src/index.ts';
import { allItemsOf, failure, ids, itemOf, tenant, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();
const pool = wall.pool({ max: 1 });
const select = 'select id from items';
const unknown = tenant(999);

function as<Result>(fn: (client: pg.PoolClient) => Promise<Result>, id = tenant(1)): Promise<Result> {
  return run({ tenant: id }, async () => {
    const client = await pool.connect();
    try {
      return await fn(client);
    } finally {
      client.release();
    }
  });
}

/** The connection answers its next queries with their own rows: nothing was left on the wire. */
async function inStep(client: pg.PoolClient): Promise<void> {
  expect((await client.query('select 11 as a')).rows).toEqual([{ a: 11 }]);
  expect((await client.query({ name: 'in step', text: 'select $1::int as b', values: [12] })).rows).toEqual([{ b: 12 }]);
  expect(ids(await client.query(select))).toEqual(allItemsOf(1));
}

/** The first byte of each protocol message in a piece of the stream. */
function messageKinds(chunk: Buffer): string {
  let kinds = '';
  for (let at = 0; at < chunk.length; at += 1 + chunk.readInt32BE(at + 1)) kinds += String.fromCharCode(chunk[at] ?? 0);
  return kinds;
}

describe('one round trip', () => {
  test('entering and the query leave in one write and share one Sync, one transaction and one snapshot of the lock', async () => {
    const client = new WalledClient(wall.database.urlAs(wall.app));
    await client.connect();
    await run({ tenant: tenant(1) }, async () => {
      await client.query(select); // entering is prepared by now
      const writes: string[] = [];
      const { stream } = client.connection;
      const write = stream._write.bind(stream);
      stream._write = (chunk: Buffer, encoding, done) => {
        writes.push(messageKinds(chunk));
        write(chunk, encoding, done);
      };
      const { rows } = await client.query("select pg_current_xact_id_if_assigned() is null as read_only, current_setting('backtrace_functions') as tenant");
      expect(rows).toEqual([{ read_only: true, tenant: tenant(1).replaceAll('-', '') }]);
      // Bind and Execute of entering; Parse, Bind, Describe, Execute of the query; Sync.
      expect(writes).toEqual(['BEPBDES']);
    });
    await client.end();
  });

  test('entering is parsed once per connection, and every time with preparedStatements: false', async () => {
    const prepared = async (options: { preparedStatements: boolean }): Promise<unknown> => {
      const client = new WalledClient({ connectionString: wall.database.urlAs(wall.app), ...options });
      await client.connect();
      const { rows } = await run({ tenant: tenant(1) }, async () => {
        await client.query(select);
        await client.query(select);
        return client.query('select name from pg_prepared_statements');
      });
      await client.end();
      return rows;
    };
    expect(await prepared({ preparedStatements: true })).toEqual([{ name: 'partywall_enter' }]);
    expect(await prepared({ preparedStatements: false })).toEqual([]);
  });

  test('entering counts as parsed when it is, not when the BEGIN in front of it is', async () => {
    const client = new WalledClient(wall.database.urlAs(wall.app));
    await client.connect();
    await run({ tenant: tenant(1) }, async () => {
      await wall.database.query('alter function partywall.enter_since(text, bigint) rename to away');
      expect(await failure(client.query('select 1; select 2'))).toMatchObject({ code: '42883' });
      await wall.database.query('alter function partywall.away(text, bigint) rename to enter_since');
      expect(await client.query('select 1; select 2')).toHaveLength(2);
    });
    await client.end();
  });

  test('everything works with preparedStatements: false', async () => {
    const unnamed = wall.pool({ max: 1, preparedStatements: false });
    await run({ tenant: tenant(1) }, async () => {
      const client = await unnamed.connect();
      for (let round = 0; round < 3; round += 1) {
        await inStep(client);
        expect(ids(await client.query('select id from items where id > $1', [0]))).toEqual(allItemsOf(1));
      }
      await client.query('begin');
      expect(ids(await client.query(select))).toEqual(allItemsOf(1));
      await client.query('commit');
      client.release();
    });
    await run({ tenant: unknown }, async () => expect(await failure(unnamed.query(select))).toBeInstanceOf(UnknownTenantError));
  });
});

describe('results are those of pg', () => {
  const cases: Record<string, () => pg.QueryConfig & Record<string, unknown>> = {
    'a text': () => ({ text: "select 1 as a, 'x' as b, null as c, true as d, now()::date as e, '{1,2}'::int[] as f" }),
    'a text with values': () => ({ text: 'select $1::int as a, $2::jsonb as b', values: [1, { x: [1] }] }),
    'a named text': () => ({ name: 'same', text: 'select 1 as a' }),
    'rows as arrays': () => ({ text: 'select 1 as a, 2 as a', rowMode: 'array' }),
    'types of its own': () => ({ text: 'select 1 as a', types: { getTypeParser: () => (value: string) => `<${value}>` } }),
    'a portion of rows at a time': () => ({ text: 'select generate_series(1, 10) as a', rows: 3 }),
    'a binary result': () => ({ text: 'select 1::int4 as a', binary: true }),
    'no columns': () => ({ text: 'select' }),
    'a command without rows': () => ({ text: 'set local work_mem = 100' }),
    'values that are undefined': () => ({ text: 'select $1::text as a', values: [undefined] }),
    'a Buffer, a Date and an array': () => ({
      text: 'select $1::bytea as a, $2::timestamptz as b, $3::int[] as c',
      values: [Buffer.from('a'), new Date(0), [1, null]],
    }),
    explain: () => ({ text: 'explain select 1' }),
    'the count of written rows': () => ({ text: "update countries set code = code where code = 'none'" }),
  };

  test.each(Object.keys(cases))('%s', async (name) => {
    const config = cases[name];
    if (!config) throw new Error(name);
    await wall.database.query(`grant update on countries to ${wall.app}`);
    const plain = await wall.client();
    const expected = await plain.query(config());
    const walled = await as((client) => client.query(config()));
    for (const key of ['command', 'rowCount', 'rows', 'oid'] as const) expect(walled[key]).toEqual(expected[key]);
    expect(walled.fields.map((field) => [field.name, field.dataTypeID, field.format])).toEqual(
      expected.fields.map((field) => [field.name, field.dataTypeID, field.format]),
    );
    expect(await run({ tenant: tenant(1) }, () => pool.query(config()))).toMatchObject({ rows: expected.rows });
  });

  test('a statement prepared before is run by its name alone', async () => {
    await as(async (client) => {
      await client.query({ name: 'by name', text: 'select id from items where id = $1', values: [1] });
      const config: pg.QueryConfig = { name: 'by name', values: [itemOf(1, 1)] } as pg.QueryConfig; // pg allows it, its types do not
      expect(ids(await client.query(config))).toEqual([itemOf(1, 1)]);
    });
  });

  test('a configuration is not changed, and may be used by many', async () => {
    const config = Object.freeze({ name: 'frozen', text: 'select $1::jsonb as a', values: Object.freeze([{ b: 1 }]) as unknown[] }); // frozen on purpose
    for (let n = 0; n < 3; n += 1) expect((await as((client) => client.query(config))).rows).toEqual([{ a: { b: 1 } }]);
  });

  test('type parsers of the client hold', async () => {
    const client = new WalledClient(wall.database.urlAs(wall.app));
    client.setTypeParser(pg.types.builtins.INT4, (value) => `int ${value}`);
    await client.connect();
    expect((await run({ tenant: tenant(1) }, () => client.query('select 5 as a'))).rows).toEqual([{ a: 'int 5' }]);
    await client.end();
  });
});

describe('a tenant that is not admitted', () => {
  test('leaves a named statement usable for the next tenant, although the server skipped its parsing', async () => {
    const named = { name: 'skipped', text: 'select id from items where id > $1', values: [0] };
    expect(await failure(as((client) => client.query(named), unknown))).toBeInstanceOf(UnknownTenantError);
    expect(ids(await as((client) => client.query(named)))).toEqual(allItemsOf(1));
    expect(await failure(as((client) => client.query(named), unknown))).toBeInstanceOf(UnknownTenantError);
    expect(ids(await as((client) => client.query(named)))).toEqual(allItemsOf(1));
    expect(pool.totalCount).toBe(1);
  });

  const styles: Record<string, (client: pg.PoolClient) => Promise<unknown>> = {
    'a text': (client) => client.query(select),
    values: (client) => client.query('select $1::int', [1]),
    portions: (client) => client.query({ text: select, rows: 2 } as pg.QueryConfig), // `rows` is missing in pg's types
    'several statements': (client) => client.query('select 1; select 2'),
    'a cursor': (client) => client.query(new Cursor(select)).read(5),
    'a query stream': (client) => pipeline(client.query(new QueryStream(select)), async (rows: AsyncIterable<unknown>) => drain(rows)),
    'COPY TO': (client) => pipeline(client.query(copyTo('copy countries to stdout')), async (chunks: AsyncIterable<unknown>) => drain(chunks)),
    'COPY FROM': (client) => pipeline(Readable.from(['x\n']), client.query(copyFrom('copy countries from stdin'))),
    'a Query object': (client) =>
      new Promise((resolve, reject) => {
        const query = client.query(new pg.Query(select));
        query.on('end', resolve);
        query.on('error', reject);
      }),
  };

  test.each(Object.keys(styles))('is refused for %s, and the connection stays in step', async (name) => {
    const style = styles[name];
    if (!style) throw new Error(name);
    await as(async (client) => expect(await failure(style(client))).toBeInstanceOf(UnknownTenantError), unknown);
    await as(inStep);
    await as(async (client) => {
      await client.query('begin');
      expect(await failure(style(client))).toBeInstanceOf(UnknownTenantError);
      await client.query('rollback');
    }, unknown);
    await as(inStep);
    expect(pool.totalCount).toBe(1);
  });

  async function drain(items: AsyncIterable<unknown>): Promise<void> {
    for await (const _ of items); // what comes does not matter, that it ends does
  }
});

describe('errors of the database', () => {
  test('keep everything that pg gives them', async () => {
    const error = await failure(as((client) => client.query('insert into items (id, body) values ($1, $2)', [itemOf(1), 'again'])));
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '23505', schema: 'public', table: 'items', constraint: 'items_pkey', severity: 'ERROR' });
    await as(inStep);
  });

  test('have a stack that leads to the caller', async () => {
    async function whoAsked(): Promise<void> {
      await as((client) => client.query('select 1/0'));
    }
    expect((await failure(whoAsked())).stack).toContain('whoAsked');
    expect((await failure(run({ tenant: tenant(1) }, async () => await pool.query('select 1/0')))).stack).toContain('protocol.test');
  });

  test.each([
    ['a syntax error', 'selec 1', '42601'],
    ['an unknown table', 'select * from nowhere', '42P01'],
    ['several statements with values', 'select $1::int; select 2', '42601'],
    ['too few values', 'select $1::int, $2::int', '08P01'],
    ['a value of the wrong type', "select 'x'::int + $1::int", '22P02'],
  ])('%s leaves the connection in step', async (_, text, code) => {
    await as(async (client) => {
      expect(await failure(client.query(text, [1]))).toMatchObject({ code });
      await inStep(client);
      expect(await failure(client.query({ name: `named ${code} ${text.length}`, text, values: [1] }))).toMatchObject({ code });
      await inStep(client);
    });
  });

  test("a row written for another tenant is CrossTenantError, a missing privilege stays PostgreSQL's error", async () => {
    await as(async (client) => {
      const error = await failure(client.query("insert into items (id, tenant_id, body) values (100020, $1, 'x')", [tenant(2)]));
      expect(error).toBeInstanceOf(CrossTenantError);
      expect(error).toMatchObject({ sqlstate: '42501', cause: expect.any(pg.DatabaseError) });
      expect(await failure(client.query('update items set tenant_id = $1', [tenant(2)]))).toBeInstanceOf(CrossTenantError);
      expect(await failure(client.query('truncate items'))).toMatchObject({ code: '42501' });
      await inStep(client);
    });
  });

  test('an error between the rows of a cursor ends it', async () => {
    await as(async (client) => {
      const cursor = client.query(new Cursor('select 1 / (5 - n) as a from generate_series(1, 10) n'));
      expect(await cursor.read(3)).toHaveLength(3);
      expect(await failure(cursor.read(5))).toMatchObject({ code: '22012' });
      await inStep(client);
    });
  });

  test('an error between portions of rows ends the query', async () => {
    await as(async (client) => {
      const config = { text: 'select 1 / (5 - n) as a from generate_series(1, 10) n', rows: 3 } as pg.QueryConfig; // see above
      expect(await failure(client.query(config))).toMatchObject({ code: '22012' });
      await inStep(client);
    });
  });
});

describe('values that cannot be written', () => {
  const circular: Record<string, unknown> = {};
  circular['self'] = circular;
  const bad = {
    toPostgres() {
      throw new Error('not a value');
    },
  };

  test.each([
    ['a circular object', circular, /circular/],
    ['a value that throws', bad, /not a value/],
    ['a bigint inside an object', { a: 1n }, /BigInt/],
  ])('%s rejects, and the connection stays in step', async (_, value, message) => {
    await as(async (client) => {
      expect((await failure(client.query('select $1::jsonb', [value]))).message).toMatch(message);
      await inStep(client);
      // The same named statement, which the server must not have closed behind pg's back.
      const named = { name: 'takes json', text: 'select $1::jsonb as a' };
      expect((await client.query({ ...named, values: [{ b: 1 }] })).rows).toEqual([{ a: { b: 1 } }]);
      expect((await failure(client.query({ ...named, values: [value] }))).message).toMatch(message);
      expect((await client.query({ ...named, values: [{ b: 2 }] })).rows).toEqual([{ a: { b: 2 } }]);
      await inStep(client);
    });
    expect(pool.totalCount).toBe(1);
  });

  test('a callback hears of it once', async () => {
    await as(async (client) => {
      const heard: unknown[] = [];
      client.query('select $1::jsonb', [circular], (error) => heard.push(error));
      await inStep(client);
      expect(heard).toHaveLength(1);
    });
  });

  test('what pg refuses before sending is refused after entering too', async () => {
    await as(async (client) => {
      await client.query({ name: 'one text', text: 'select 1' });
      expect((await failure(client.query({ name: 'one text', text: 'select 2' }))).message).toContain('must be unique');
      await inStep(client);
      expect((await failure(client.query({ text: 'select $1', values: 'x' } as never))).message).toContain('must be an array'); // the wrong type is what is tested
      await inStep(client);
      expect((await failure(client.query({} as never))).message).toContain('either text or a name'); // the same
      await inStep(client);
      expect(() => client.query(null as never)).toThrow(TypeError); // the same
      await inStep(client);
    });
  });
});

describe('cursors and streams', () => {
  test('a cursor in an explicit transaction, read in portions and closed early', async () => {
    await as(async (client) => {
      await client.query('begin');
      const cursor = client.query(new Cursor<{ id: number }>('select id from items order by id'));
      expect((await cursor.read(2)).map((row) => row.id)).toEqual(allItemsOf(1).slice(0, 2));
      await cursor.close();
      expect(ids(await client.query(select))).toEqual(allItemsOf(1));
      await client.query('commit');
      await inStep(client);
    });
  });

  test('a query stream destroyed in the middle', async () => {
    await as(async (client) => {
      const stream = client.query(new QueryStream('select id from items', [], { batchSize: 2 }));
      for await (const _ of stream) break;
      await inStep(client);
    });
  });

  test('a cursor with values reads the tenant only', async () => {
    await as(async (client) => {
      const cursor = client.query(new Cursor<{ id: number }>('select id from items where id > $1', [0]));
      expect(ids({ rows: await cursor.read(1_000) })).toEqual(allItemsOf(1));
      await cursor.close();
    });
  });

  test('COPY TO writes the rows of the tenant only, also as the first statement of a transaction', async () => {
    await as(async (client) => {
      const copied = async (): Promise<number[]> => {
        let text = '';
        for await (const chunk of client.query(copyTo('copy (select id from items) to stdout'))) text += chunk;
        return text.trim().split('\n').map(Number);
      };
      expect(new Set(await copied())).toEqual(new Set(allItemsOf(1)));
      await inStep(client);
      await client.query('begin');
      expect(new Set(await copied())).toEqual(new Set(allItemsOf(1)));
      await client.query('commit');
      await inStep(client);
    });
  });

  test('COPY TO of many bytes comes whole', async () => {
    await as(async (client) => {
      let bytes = 0;
      for await (const chunk of client.query(copyTo("copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout"))) bytes += chunk.length;
      expect(bytes).toBe(5_000 * 1_001);
      await inStep(client);
    });
  });

  test('COPY FROM into a walled table is refused by PostgreSQL, and the refusal arrives', async () => {
    await as(async (client) => {
      const error = await failure(pipeline(Readable.from(['100030\tx\n']), client.query(copyFrom('copy items (id, body) from stdin'))));
      expect(error).toMatchObject({ code: '0A000', message: 'COPY FROM not supported with row-level security' });
      await inStep(client);
    });
  });

  test('COPY FROM into a table without rows of tenants works in both contexts', async () => {
    await wall.database.query(`create table loaded (a text); grant all on loaded to ${wall.app}`);
    await as(async (client) => {
      await pipeline(Readable.from(['1\n', '2\n']), client.query(copyFrom('copy loaded from stdin')));
      await inStep(client);
    });
    await system('load', async () => {
      const client = await pool.connect();
      await pipeline(Readable.from(['3\n']), client.query(copyFrom('copy loaded from stdin')));
      client.release();
    });
    expect((await wall.database.query('select a from loaded order by a')).rows).toEqual([{ a: '1' }, { a: '2' }, { a: '3' }]);
  });

  test('COPY FROM is committed when its stream finishes, and what fails at the commit is its error', async () => {
    await wall.database.query(`create table parents (id int primary key); create table children (id int primary key, parent int references parents deferrable initially deferred);
      grant all on parents, children to ${wall.app}`);
    await as(async (client) => {
      await pipeline(Readable.from(['1\n']), client.query(copyFrom('copy parents from stdin')));
      expect(client.getTransactionStatus()).toBe('I');
      expect((await wall.database.query('select id from parents')).rows).toEqual([{ id: 1 }]);
      const error = await failure(pipeline(Readable.from(['1\t1\n2\t999\n']), client.query(copyFrom('copy children from stdin'))));
      expect(error).toMatchObject({ code: '23503' });
      await inStep(client);
    });
    expect((await wall.database.query('select id from children')).rowCount).toBe(0);
    expect(pool.totalCount).toBe(1);
  });

  test('COPY and several statements leave no transaction open behind them', async () => {
    await as(async (client) => {
      for await (const _ of client.query(copyTo('copy countries to stdout')));
      await client.query('copy countries to stdout');
      expect(client.getTransactionStatus()).toBe('I');
      await client.query('select 1; select 2');
      expect(client.getTransactionStatus()).toBe('I');
      const cursor = client.query(new Cursor('select 1'));
      await cursor.read(10);
      await cursor.close();
      expect(client.getTransactionStatus()).toBe('I');
    });
  });

  test('COPY as a text fails as in pg, and does not hang', async () => {
    await as(async (client) => {
      expect((await failure(client.query('copy loaded from stdin'))).message).toContain('No source stream defined');
      await inStep(client);
      expect((await client.query('copy countries to stdout')).command).toBe('COPY');
      await inStep(client);
    });
  });

  test('a query object without a text cannot be judged and is refused', async () => {
    await as(async (client) => {
      const errors: unknown[] = [];
      client.query({ submit: () => null, handleError: (error: Error) => errors.push(error) } as pg.Submittable);
      await inStep(client);
      expect(errors).toEqual([expect.any(StatementRefusedError)]);
    });
  });

  test('a query object can be used again', async () => {
    await as(async (client) => {
      const query = new pg.Query<{ id: number }>('select 1 as id');
      for (let n = 0; n < 2; n += 1) {
        await new Promise((resolve) => client.query(query).once('end', resolve));
      }
      await inStep(client);
    });
  });
});

describe('time limits and cancelling', () => {
  test('query_timeout rejects, of the pool and of one query', async () => {
    const slow = wall.pool({ max: 1, query_timeout: 50 });
    expect((await failure(run({ tenant: tenant(1) }, () => slow.query('select pg_sleep(10)')))).message).toBe('Query read timeout');
    expect(ids(await run({ tenant: tenant(1) }, () => slow.query(select)))).toEqual(allItemsOf(1));
    const client = new WalledClient(wall.database.urlAs(wall.app));
    await client.connect();
    const config = { text: 'select pg_sleep(10)', query_timeout: 50 } as pg.QueryConfig; // missing in pg's types
    expect((await failure(run({ tenant: tenant(1) }, () => client.query(config)))).message).toBe('Query read timeout');
    await client.end();
  });

  test('statement_timeout is an error of the database like another', async () => {
    const limited = wall.pool({ max: 1, statement_timeout: 50 });
    expect(await failure(run({ tenant: tenant(1) }, () => limited.query('select pg_sleep(10)')))).toMatchObject({ code: '57014' });
  });

  test('client.cancel finds a query that runs behind its entering', async () => {
    await as(async (client) => {
      const query = new pg.Query('select pg_sleep(30)');
      const outcome = new Promise((resolve) => query.on('error', resolve));
      client.query(query);
      await expect
        .poll(async () => (await wall.database.query("select 1 from pg_stat_activity where query = 'select pg_sleep(30)' and state = 'active'")).rowCount)
        .toBe(1);
      const canceller = new pg.Client(wall.database.urlAs(wall.app));
      canceller.cancel(client, query);
      expect(await outcome).toMatchObject({ code: '57014' });
      await inStep(client);
    });
  });
});

test('the system context sends a text as it is, by the simple protocol', async () => {
  const results = (await system('a test', () => pool.query('select 1 as a; select 2 as b'))) as unknown;
  expect((results as pg.QueryResult[]).map((result) => result.rows)).toEqual([[{ a: 1 }], [{ b: 2 }]]); // a list, as pg gives it
  expect(await failure(system('a test', () => pool.query('select 1; select count(*) from items')))).toBeInstanceOf(TenantContextError);
});
