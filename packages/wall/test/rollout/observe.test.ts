import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { beforeEach, describe, expect, test } from 'vitest';
import { run, system } from '../../src/index.ts';
import { itemsPerTenant, tenant, tenantCount } from '../walled-database.ts';
import { observedDatabase } from './observed-database.ts';

const wall = await observedDatabase();
const everything = tenantCount * itemsPerTenant;
const own = tenant(1);

beforeEach(async () => {
  await wall.seen();
  await wall.setModes(['all', '', 'observe']);
});

/** Runs `work` on an observed pool, ends it, and gives what it has reported. */
async function observed<Result>(work: (pool: pg.Pool) => Promise<Result>): Promise<{ result: Result; seen: Awaited<ReturnType<typeof wall.seen>> }> {
  const pool = wall.rolledOut();
  const result = await work(pool);
  await pool.end();
  return { result, seen: await wall.seen() };
}

const select = 'select id, tenant_id, body from items order by id';

/** Every way in which pg answers, to rows as JSON. */
const styles: Record<string, (pool: pg.Pool, text: string) => Promise<string>> = {
  promise: async (pool, text) => resultText(await pool.query(text)),
  named: async (pool, text) => resultText(await pool.query({ name: 'again', text })),
  values: async (pool, text) => resultText(await pool.query(`select * from (${text}) t where id > $1`, [0])),
  array: async (pool, text) => resultText(await pool.query({ text, rowMode: 'array' })),
  callback: (pool, text) => new Promise((resolve, reject) => pool.query(text, (error, result) => (error ? reject(error) : resolve(resultText(result))))),
  client: async (pool, text) => {
    const client = await pool.connect();
    const result = await client.query(text);
    client.release();
    return resultText(result);
  },
  'query object': async (pool, text) => {
    const client = await pool.connect();
    const rows: unknown[] = [];
    const query = client.query(new pg.Query(text));
    query.on('row', (row) => rows.push(row));
    await new Promise<void>((resolve, reject) => {
      query.on('end', () => resolve());
      query.on('error', reject);
    });
    client.release();
    return JSON.stringify(rows);
  },
  cursor: async (pool, text) => {
    const client = await pool.connect();
    const cursor = client.query(new Cursor(text));
    const rows: unknown[] = [];
    for (let portion = await cursor.read(100); portion.length > 0; portion = await cursor.read(100)) rows.push(...portion);
    await cursor.close();
    client.release();
    return JSON.stringify(rows);
  },
  stream: async (pool, text) => {
    const client = await pool.connect();
    const rows: unknown[] = [];
    const stream = client.query(new QueryStream(text));
    for await (const row of stream) rows.push(row);
    client.release();
    return JSON.stringify(rows);
  },
  transaction: async (pool, text) => {
    const client = await pool.connect();
    await client.query('begin');
    await client.query('savepoint s');
    const result = await client.query(text);
    await client.query('release s');
    await client.query('commit');
    client.release();
    return resultText(result);
  },
  'several statements': async (pool, text) => {
    const results: unknown = await pool.query(`select 1; ${text}`);
    return Array.isArray(results) ? results.map(resultText).join() : '';
  },
};

function resultText({ command, rowCount, fields, rows }: pg.QueryResult): string {
  return JSON.stringify({ command, rowCount, fields: fields.map(({ name, dataTypeID, format }) => [name, dataTypeID, format]), rows });
}

describe.each(Object.keys(styles))('a query by %s', (name) => {
  const style = styles[name] ?? (() => Promise.reject(new Error(name)));

  test('gives the same answer as without a wall, in a context and outside any, and what the wall would refuse is counted', async () => {
    const before = await style(wall.plain(), select);
    const inContext = await observed((pool) => run({ tenant: own }, () => style(pool, select)));
    expect(inContext.result).toBe(before);
    const foreign = inContext.seen.filter(({ kind }) => kind === 'foreign_row');
    expect(foreign.reduce((sum, { count }) => sum + count, 0)).toBe(everything - itemsPerTenant);
    expect(new Set(foreign.map(({ relation }) => relation))).toEqual(new Set(['public.items']));
    expect(inContext.seen.filter(({ kind }) => kind !== 'foreign_row')).toEqual([]);

    const outside = await observed((pool) => style(pool, select));
    expect(outside.result).toBe(before);
    expect(new Set(outside.seen.map(({ kind }) => kind))).toEqual(new Set(['no_context']));
    expect(outside.seen.filter(({ location }) => !/^packages\/wall\/test\/rollout\/observe\.test\.ts:\d+$/.test(location))).toEqual([]);
  });

  test('is counted as nothing where it asks for its own rows', async () => {
    const text = `select id, tenant_id, body from items where tenant_id = '${own}' order by id`;
    const { result, seen } = await observed((pool) => run({ tenant: own.toUpperCase() }, () => style(pool, text)));
    expect(result).toBe(await style(wall.plain(), text));
    expect(seen).toEqual([]);
  });
});

describe('a write', () => {
  /** What a statement leaves, each time from the same beginning: all is rolled back on the server by the next test's state. */
  const writes: Record<string, { text: string; values?: unknown[]; kinds: string[] }> = {
    'of the tenant’s own rows': { text: `update items set body = body where tenant_id = '${own}'`, kinds: [] },
    'that inserts for another tenant': {
      text: 'insert into items (id, tenant_id, body) values (9001, $1, $2)',
      values: [tenant(2), 'x'],
      kinds: ['foreign_write'],
    },
    'that moves a row to another tenant': { text: `update items set tenant_id = '${tenant(2)}' where id = 1`, kinds: ['foreign_write'] },
    'of all tenants’ rows': { text: 'update items set body = body', kinds: ['foreign_write'] },
    'that deletes another tenant’s rows': { text: `delete from items where tenant_id = '${tenant(2)}'`, kinds: ['foreign_write'] },
    'that a CTE makes': {
      text: `with gone as (delete from items where tenant_id = '${tenant(3)}' returning 1) select count(*) from gone`,
      kinds: ['foreign_write'],
    },
    'that names no tenant': { text: "insert into items (id, body) values (9002, 'default')", kinds: [] },
  };

  test.each(Object.entries(writes))('%s does what it did before, and is told where the wall would refuse it', async (_, { text, values, kinds }) => {
    const outcome = async (query: (text: string, values?: unknown[]) => Promise<pg.QueryResult>): Promise<string> => {
      await query('begin');
      const { command, rowCount, rows } = await query(text, values);
      const left = await query('select tenant_id, count(*) from items group by 1 order by 1');
      await query('rollback');
      return JSON.stringify([command, rowCount, rows, left.rows]);
    };
    const plain = await wall.plain().connect();
    await plain.query('begin'); // the column's default is the wall's own, so that it needs a tenant without the wall too
    await plain.query('select partywall.enter($1)', [own]);
    const before = await outcome((sent, given) =>
      sent === 'begin' ? plain.query('savepoint s') : sent === 'rollback' ? plain.query('rollback to s') : plain.query(sent, given),
    );
    await plain.query('rollback');
    plain.release();
    const { result, seen } = await observed((pool) =>
      run({ tenant: own }, async () => {
        const client = await pool.connect();
        const notices: unknown[] = [];
        client.on('notice', (notice) => notices.push(notice));
        const after = await outcome((sent, given) => client.query(sent, given));
        client.release();
        expect(notices).toEqual([]);
        return after;
      }),
    );
    expect(result).toBe(before);
    expect(seen.filter(({ kind }) => kind.includes('write')).map(({ kind, relation, count }) => [kind, relation, count])).toEqual(
      kinds.map((kind) => [kind, 'public.items', 1]),
    );
  });

  test('outside any context goes through and is told, by every protocol', async () => {
    const { seen } = await observed(async (pool) => {
      const client = await pool.connect();
      await client.query('begin');
      await client.query('insert into items (id, tenant_id, body) values ($1, $2, $3)', [9100, own, 'extended']);
      await client.query(`insert into items (id, tenant_id, body) values (9101, '${own}', 'several'); select 1`);
      const stream = client.query(copyFrom('copy items (id, tenant_id, body) from stdin'));
      await pipeline([Buffer.from(`9102\t${own}\tcopied\n9103\t${tenant(2)}\tcopied\n`)], stream);
      expect((await client.query('select from items where id >= 9100')).rowCount).toBe(4);
      await client.query('rollback');
      client.release();
    });
    const count = (wanted: string) => seen.filter(({ kind }) => kind === wanted).reduce((sum, one) => sum + one.count, 0);
    expect(count('write_without_context')).toBe(3);
    expect(count('no_context')).toBe(6);
    expect(seen.every(({ statement }) => !/9100|9101|extended|0000/.test(statement))).toBe(true);
  });
});

describe('what a walled pool refuses before it is sent', () => {
  test('is sent and counted: settings, several statements with a transaction in them, VACUUM in a tenant’s context', async () => {
    const { seen } = await observed((pool) =>
      run({ tenant: own }, async () => {
        const client = await pool.connect();
        await client.query("set role none; set search_path = 'public'");
        await client.query('begin; update items set body = body where id = 1; commit');
        await client.query('vacuum items');
        const { rows } = await client.query('select id from items where id = 1');
        expect(rows).toEqual([{ id: 1 }]);
        client.release();
      }),
    );
    expect(seen.filter(({ kind }) => kind === 'statement').length).toBe(3);
  });

  test('a transaction in two tenants’ contexts, and one begun outside any', async () => {
    const { seen } = await observed(async (pool) => {
      const client = await pool.connect();
      await client.query('begin');
      await run({ tenant: own }, () => client.query(`select tenant_id from items where tenant_id = '${own}'`));
      const two = await run({ tenant: tenant(2) }, () =>
        client.query(`insert into items (id, tenant_id, body) values (9200, '${tenant(2)}', 'two') returning id`),
      );
      expect(two.rows).toEqual([{ id: 9200 }]);
      await client.query('rollback');
      client.release();
    });
    const count = (wanted: string) => seen.filter(({ kind }) => kind === wanted).reduce((sum, one) => sum + one.count, 0);
    expect([count('cross_context'), count('foreign_write'), count('foreign_row')]).toEqual([2, 1, 0]);
  });

  test('a tenant that the database does not know, in every spelling', async () => {
    for (const unknown of [tenant(999), 'not-a-uuid', '']) {
      if (unknown === '') continue;
      const { result, seen } = await observed((pool) => run({ tenant: unknown }, () => pool.query('select count(*)::int as count from items')));
      expect(result.rows).toEqual([{ count: everything }]);
      expect(seen.map(({ kind }) => kind)).toContain('unknown_tenant');
    }
  });

  test('rows of walled tables in a system context', async () => {
    const { result, seen } = await observed((pool) => system('report', () => pool.query('select tenant_id from items')));
    expect(result.rowCount).toBe(everything);
    expect(seen.map(({ kind, relation, count }) => [kind, relation, count])).toEqual([['row_without_context', 'public.items', everything]]);
  });
});

test('an operator’s suspension holds in observe too, and entering it again after does', async () => {
  const pool = wall.rolledOut();
  await wall.setState(tenant(5), 'suspended');
  await expect(run({ tenant: tenant(5) }, () => pool.query('select id from items'))).rejects.toMatchObject({ code: 'tenant_suspended' });
  await wall.setState(tenant(5), 'active');
  expect((await run({ tenant: tenant(5) }, () => pool.query('select id from items'))).rowCount).toBe(everything);
  await pool.end();
});

test('an application’s own notices and errors arrive as they did', async () => {
  const pool = wall.rolledOut();
  const client = await run({ tenant: own }, () => pool.connect());
  const notices: (string | undefined)[] = [];
  client.on('notice', ({ message }) => notices.push(message));
  await run({ tenant: own }, async () => {
    await client.query("do $$ begin raise notice 'hello'; raise info 'there'; end $$");
    await expect(client.query('select 1/0')).rejects.toMatchObject({ code: '22012' });
    await expect(client.query('select nothing from nowhere')).rejects.toMatchObject({ code: '42P01' });
  });
  expect(notices).toEqual(['hello', 'there']);
  client.release();
  await pool.end();
});
