import { describe, expect, test } from 'vitest';
import { run, TenantContextError } from '../../src/index.ts';
import { allItemsOf, failure, ids, tenant, walledDatabase } from '../walled-database.ts';

describe('statements that a library sends by itself', async () => {
  const wall = await walledDatabase();
  const pool = wall.pool({ allow: ['select version();', 'SELECT * FROM current_schema()', 'select id from items'] });

  test('are sent outside any context by their text, whatever its spaces and semicolon', async () => {
    for (const text of ['select version();', 'select version()', '  select\n version() ;  ']) expect((await pool.query(text)).rows).toHaveLength(1);
    const client = await pool.connect();
    expect((await client.query({ text: 'SELECT * FROM current_schema()' })).rows).toEqual([{ current_schema: 'public' }]);
    client.release();
    const answer = await new Promise((resolve, reject) =>
      pool.query('select version()', (error, result) => (error ? reject(error) : resolve(result.rowCount))),
    );
    expect(answer).toBe(1);
  });

  test('are the only ones: no other letter, no second statement, no comment', async () => {
    for (const text of ['SELECT version()', 'select version(), 1', 'select version(); select 1', 'select /* */ version()', 'select 1']) {
      expect(await failure(pool.query(text)), text).toBeInstanceOf(TenantContextError);
      const client = await pool.connect();
      expect(await failure(client.query(text)), text).toBeInstanceOf(TenantContextError);
      client.release();
    }
  });

  test('are told apart by every blank inside a comment or a literal, where one may be the end of it', async () => {
    const texts = ['select 1 as n -- the first of\n union select 2', "select 'a  b' as n"];
    const strict = wall.pool({ allow: texts });
    for (const text of texts) expect((await strict.query(text)).rowCount).toBe(text.includes('union') ? 2 : 1);
    for (const text of ['select 1 as n -- the first of union select 2', 'select 1 as n --\nthe first of\n union select 2', "select 'a b' as n"]) {
      expect(await failure(strict.query(text)), text).toBeInstanceOf(TenantContextError);
    }
  });

  test('read nothing of a tenant’s outside a context, and are ordinary inside one', async () => {
    expect(await failure(pool.query('select id from items'))).toMatchObject({ code: 'tenant_context', sqlstate: 'PW001' });
    expect(ids(await run({ tenant: tenant(2) }, () => pool.query('select id from items')))).toEqual(allItemsOf(2));
  });

  test('cannot be sent into a transaction of a tenant’s', async () => {
    const client = await pool.connect();
    await run({ tenant: tenant(3) }, async () => {
      await client.query('begin');
      await client.query('select id from items');
    });
    expect(await failure(client.query('select version()'))).toMatchObject({ code: 'cross_tenant' });
    await run({ tenant: tenant(3) }, () => client.query('rollback'));
    client.release();
  });

  test('are none where the pool names none', async () => {
    expect(await failure(wall.pool().query('select version()'))).toBeInstanceOf(TenantContextError);
  });
});

describe('a pool that connects in contexts only', async () => {
  const wall = await walledDatabase();
  const pool = wall.pool({ connectInContext: true });

  test('refuses a connection outside any, before one is made', async () => {
    expect(await failure(pool.connect())).toBeInstanceOf(TenantContextError);
    expect(await failure(new Promise((resolve, reject) => pool.connect((error, client) => (error ? reject(error) : resolve(client)))))).toBeInstanceOf(
      TenantContextError,
    );
    expect(pool.totalCount).toBe(0);
  });

  test('hands one out inside', async () => {
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      expect(ids(await client.query('select id from items'))).toEqual(allItemsOf(1));
      client.release();
    });
  });
});
