import Cursor from 'pg-cursor';
import { describe, expect, test } from 'vitest';
import { run, StatementRefusedError, system, TenantSuspendedError } from '../src/index.ts';
import { allItemsOf, failure, ids, tenant, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();
const select = 'select id from items';

async function backend(client: { query(text: string): Promise<{ rows: { pid: number }[] }> }): Promise<number | undefined> {
  return (await client.query('select pg_backend_pid() as pid')).rows[0]?.pid;
}

describe('statements that a pooled connection cannot take', () => {
  const pool = wall.pool({ max: 1 });

  test.each([
    ['listen changes', 'a client of your own'],
    ['unlisten *', 'a client of your own'],
    [`set partywall.tenant_id = '${tenant(2)}'`, 'run(context'],
    [`set local partywall.tenant_id = '${tenant(2)}'`, 'run(context'],
    [`select set_config('partywall.tenant_id', '${tenant(2)}', true)`, 'run(context'],
    ['reset partywall.tenant_id', 'run(context'],
    ['reset all', 'by name'],
    ['set role postgres', 'a pool of its own'],
    ['set local role postgres', 'a pool of its own'],
    ['set session authorization postgres', 'a pool of its own'],
    ['discard all', 'release(true)'],
    ['deallocate all', 'release(true)'],
    ['set standard_conforming_strings = off', 'what a string is'],
    ["prepare transaction 'x'", 'commit instead'],
    ['declare c cursor with hold for select id from items', 'without HOLD'],
  ])('%s is refused in any context, with a reason', async (text, reason) => {
    for (const attempt of [() => run({ tenant: tenant(1) }, () => pool.query(text)), () => system('a test', () => pool.query(text))]) {
      const error = await failure(attempt());
      expect(error).toBeInstanceOf(StatementRefusedError);
      expect(error.message).toContain(reason);
    }
    expect(ids(await run({ tenant: tenant(1) }, () => pool.query(select)))).toEqual(allItemsOf(1));
  });

  test.each([
    'vacuum items',
    'create index concurrently on items (body)',
    'reindex table items',
    'create database x',
    "alter system set work_mem = '4MB'",
    "commit prepared 'x'",
  ])('%s cannot share a transaction with entering: it is sent in the system context alone', async (text) => {
    const error = await failure(run({ tenant: tenant(1) }, () => pool.query(text)));
    expect(error).toBeInstanceOf(StatementRefusedError);
    expect(error.message).toContain('system(purpose');
    const sent = await system('maintenance', () => pool.query(text)).catch((refusal: Error) => refusal);
    // The app role lacks the privilege for most of them: that PostgreSQL says so shows that the statement arrived.
    expect(sent).not.toBeInstanceOf(StatementRefusedError);
  });

  test('VACUUM runs in the system context', async () => {
    expect((await system('maintenance', () => pool.query('vacuum countries'))).command).toBe('VACUUM');
  });
});

describe('a connection that is handed back', () => {
  test('is used again when nothing was left on it', async () => {
    const pool = wall.pool({ max: 1 });
    const pids = new Set<unknown>();
    for (const n of [1, 2, 3]) {
      await run({ tenant: tenant(n) }, async () => {
        const client = await pool.connect();
        pids.add(await backend(client));
        await client.query('begin');
        await client.query("set local work_mem = '5MB'");
        await client.query(select);
        await client.query("select set_config('app.user', 'u', true)");
        await client.query('create temp table scratch (a int) on commit drop');
        await client.query('select pg_advisory_xact_lock(1)');
        await client.query('commit');
        client.release();
      });
    }
    expect(pids.size).toBe(1);
  });

  test.each([
    ['an open transaction', ['begin']],
    ['an open transaction with data', ['begin', select]],
    ['a failed transaction', ['begin', 'select 1/0']],
    ['a session setting', ["set work_mem = '5MB'"]],
    ['a session setting by function', ["select set_config('app.user', 'u', false)"]],
    ['a session setting in a string of several', ["select 1; set work_mem = '5MB'"]],
    ['a prepared statement of SQL', ['prepare p as select 1']],
    ['a temporary table', ['create temp table scratch (a int)']],
    ['a session lock', ['select pg_advisory_lock(42)']],
    ['a session lock taken in a block', ['do $$ begin perform pg_advisory_lock(43); end $$']],
  ])('is closed when it carries %s', async (_, statements) => {
    const pool = wall.pool({ max: 1 });
    const reasons: unknown[] = [];
    pool.on('release', (error) => reasons.push(error));
    let pid: unknown;
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      pid = await backend(client);
      for (const statement of statements) await client.query(statement).catch(() => undefined); // one of them fails on purpose
      client.release();
    });
    await expect.poll(() => reasons).toEqual([expect.objectContaining({ message: expect.stringContaining('the connection was released') })]);
    await run({ tenant: tenant(2) }, async () => {
      const client = await pool.connect();
      expect(await backend(client)).not.toBe(pid);
      expect((await client.query("select current_setting('app.user', true) as user")).rows).toEqual([{ user: null }]);
      expect(ids(await client.query(select))).toEqual(allItemsOf(2));
      client.release();
    });
  });

  test('is not handed out before a statement that nobody awaited is answered', async () => {
    const pool = wall.pool({ max: 1 });
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      await client.query('begin');
      await client.query("insert into items (id, body) values (100010, 'not awaited')");
      const commit = client.query('commit');
      client.release();
      const next = pool.query('select count(*)::int as n from items where id = 100010');
      expect((await commit).command).toBe('COMMIT');
      expect((await next).rows).toEqual([{ n: 1 }]);
      expect(pool.totalCount).toBe(1);
      await pool.query('delete from items where id = 100010');
    });
  });

  test('is closed when what nobody awaited leaves a transaction open', async () => {
    const pool = wall.pool({ max: 1 });
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      const pid = await backend(client);
      void client.query('begin');
      void client.query(select);
      client.release();
      const next = await pool.connect();
      expect(await backend(next)).not.toBe(pid);
      next.release();
    });
  });

  test('is closed when a cursor was left open on it', async () => {
    const pool = wall.pool({ max: 1 });
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      const cursor = client.query(new Cursor(select));
      await cursor.read(2);
      client.release();
      expect(ids(await pool.query(select))).toEqual(allItemsOf(1));
    });
  });

  test('is kept when its cursor is being closed', async () => {
    const pool = wall.pool({ max: 1 });
    await run({ tenant: tenant(1) }, async () => {
      const pid = await backend(pool);
      const client = await pool.connect();
      const cursor = client.query(new Cursor(select));
      await cursor.read(2);
      void cursor.close();
      client.release();
      expect(await backend(pool)).toBe(pid);
    });
  });

  test('may be lost while it waits to be handed back', async () => {
    const pool = wall.pool({ max: 1 });
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      const pid = await backend(client);
      const lost = failure(client.query('select pg_sleep(30)'));
      client.release();
      await expect.poll(async () => (await wall.database.query("select from pg_stat_activity where pid = $1 and state = 'active'", [pid])).rowCount).toBe(1);
      await wall.database.query('select pg_terminate_backend($1)', [pid]);
      expect((await lost).message).toMatch(/terminat/);
      expect(await backend(pool)).not.toBe(pid);
    });
  });

  test('is closed when the application says so, and cannot be handed back twice', async () => {
    const pool = wall.pool({ max: 1 });
    const client = await pool.connect();
    client.release(true);
    expect(() => client.release()).toThrow('already been released');
    expect(pool.totalCount).toBe(0);
  });

  test('stays in the pool after a refusal by the wall, so that a suspended tenant costs its neighbours no connections', async () => {
    const pool = wall.pool({ max: 1 });
    const pid = await run({ tenant: tenant(1) }, () => backend(pool));
    await wall.setState(tenant(5), 'suspended');
    for (let n = 0; n < 20; n += 1) expect(await failure(run({ tenant: tenant(5) }, () => pool.query(select)))).toBeInstanceOf(TenantSuspendedError);
    expect(await run({ tenant: tenant(1) }, () => backend(pool))).toBe(pid);
    await wall.setState(tenant(5), 'active');
  });

  test('is closed by pool.query after an error of the database, as in pg', async () => {
    const pool = wall.pool({ max: 1 });
    const pid = await run({ tenant: tenant(1) }, () => backend(pool));
    await failure(run({ tenant: tenant(1) }, () => pool.query('select 1/0')));
    expect(await run({ tenant: tenant(1) }, () => backend(pool))).not.toBe(pid);
  });

  test('is replaced when the server has ended it, and the query that was lost says so', async () => {
    const pool = wall.pool({ max: 1 });
    const pid = await run({ tenant: tenant(1) }, () => backend(pool));
    const lost = run({ tenant: tenant(1) }, () => pool.query('select pg_sleep(30)'));
    const outcome = failure(lost);
    await expect
      .poll(async () => (await wall.database.query("select state from pg_stat_activity where pid = $1 and state = 'active'", [pid])).rowCount)
      .toBe(1);
    await wall.database.query('select pg_terminate_backend($1)', [pid]);
    expect((await outcome).message).toMatch(/terminat/);
    expect(ids(await run({ tenant: tenant(1) }, () => pool.query(select)))).toEqual(allItemsOf(1));
  });
});

test('entering heals itself when somebody drops its prepared statement', async () => {
  const pool = wall.pool({ max: 1 });
  await run({ tenant: tenant(1) }, async () => {
    const client = await pool.connect();
    await client.query(select);
    await client.query('deallocate partywall_enter');
    expect(await failure(client.query(select))).toMatchObject({ code: '26000', hint: expect.stringContaining('preparedStatements: false') });
    expect(ids(await client.query(select))).toEqual(allItemsOf(1));
    client.release();
  });
});

test('a cached plan of one tenant never answers the next', async () => {
  const pool = wall.pool({ max: 1 });
  // More often than the five custom plans after which PostgreSQL keeps one plan for all.
  for (let round = 0; round < 8; round += 1) {
    for (const n of [1, 2, 3]) {
      const result = await run({ tenant: tenant(n) }, () => pool.query({ name: 'cached', text: select }));
      expect(ids(result)).toEqual(allItemsOf(n));
    }
  }
});

test('an idle connection carries no tenant, whatever was done on it', async () => {
  const pool = wall.pool({ max: 1 });
  await run({ tenant: tenant(1) }, async () => {
    const client = await pool.connect();
    for (const text of [select, 'begin', select, 'savepoint a', select, 'release a', 'commit', 'select 1; select 2']) await client.query(text);
    client.release();
  });
  const left = await system('look', () => pool.query("select current_setting('backtrace_functions') as left"));
  expect(left.rows).toEqual([{ left: '' }]);
  const locks = await wall.database.query(
    "select count(*)::int as n from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory' and a.usename = $1 and a.datname = current_database()",
    [wall.app],
  );
  expect(locks.rows).toEqual([{ n: 0 }]);
});
