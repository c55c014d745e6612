import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { run, system } from '../../src/index.ts';
import { failure, ids, itemOf, tenant, walledDatabase } from '../walled-database.ts';

describe('a pool that names statements', async () => {
  const wall = await walledDatabase();
  const named = async (pool: pg.Pool): Promise<string[]> => {
    const { rows } = await system('look', () => pool.query<{ statement: string }>('select statement from pg_prepared_statements order by prepare_time'));
    return rows.map((row) => row.statement).filter((text) => !text.includes('partywall.'));
  };
  const byId = 'select id from items where id = $1';

  test('prepares what has parameters and is sent often, once on each connection, and gives each tenant its own rows', async () => {
    const pool = wall.pool({ max: 1, nameStatements: true });
    for (let n = 1; n <= 20; n += 1) {
      const { rows } = await run({ tenant: tenant(n) }, () => pool.query(byId, [itemOf(n, 3)]));
      expect(rows).toEqual([{ id: itemOf(n, 3) }]);
      expect((await run({ tenant: tenant(n) }, () => pool.query(byId, [itemOf(n + 1, 3)]))).rows).toEqual([]);
      await run({ tenant: tenant(n) }, () => pool.query('select count(*) from items'));
      await run({ tenant: tenant(n) }, () => pool.query({ name: 'mine', text: 'select id from items where id > $1', values: [0] }));
      await run({ tenant: tenant(n) }, () => pool.query(`select id from items where id = ${n} and id = $1`, [n]));
    }
    expect((await named(pool)).sort()).toEqual([byId, 'select id from items where id > $1']);
  });

  test('goes on after a refused tenant, inside transactions and after they fail', async () => {
    const pool = wall.pool({ max: 1, nameStatements: true });
    for (let n = 1; n <= 10; n += 1) {
      expect(await failure(run({ tenant: tenant(9_999) }, () => pool.query(byId, [1])))).toMatchObject({ code: 'unknown_tenant' });
      await run({ tenant: tenant(n) }, async () => {
        const client = await pool.connect();
        await client.query('begin');
        expect(ids(await client.query(byId, [itemOf(n)]))).toEqual([itemOf(n)]);
        await failure(client.query('select 1 / $1::int', [0]));
        await client.query('rollback');
        expect(ids(await client.query(byId, [itemOf(n)]))).toEqual([itemOf(n)]);
        client.release();
      });
    }
  });

  test('after a migration that changes a result, a statement fails once, and then has a new name', async () => {
    await wall.database.query(`create table notes (tenant_id uuid not null default partywall.tenant_id(), body text); alter table notes enable row level security;
      alter table notes force row level security; create policy pw on notes using (tenant_id = partywall.tenant_id()); grant select, insert on notes to ${wall.app}`);
    const pool = wall.pool({ max: 1, nameStatements: true });
    const read = () => run({ tenant: tenant(1) }, () => pool.query('select * from notes where body <> $1', ['x']));
    for (let n = 0; n < 8; n += 1) await read();
    await wall.database.query('alter table notes add column more int');
    expect(await failure(read())).toMatchObject({ code: '0A000' });
    expect((await read()).fields).toHaveLength(3);
    expect((await read()).fields).toHaveLength(3);
  });

  test('a statement that somebody drops on one connection fails once there', async () => {
    const pool = wall.pool({ max: 1, nameStatements: true });
    const read = () => run({ tenant: tenant(1) }, () => pool.query(byId, [itemOf(1)]));
    for (let n = 0; n < 5; n += 1) await read();
    const { rows } = await system('look', () => pool.query<{ name: string }>('select name from pg_prepared_statements where statement = $1', [byId]));
    await run({ tenant: tenant(2) }, () => pool.query(`deallocate ${rows[0]?.name}`));
    expect(await failure(read())).toMatchObject({ code: '26000' });
    expect(ids(await read())).toEqual([itemOf(1)]);
  });

  test('keeps the name of a statement that the database cannot run: a new one each time would fill the session', async () => {
    await wall.database.query(`create function refuse(int) returns int language plpgsql as $$ begin raise feature_not_supported; end $$`);
    const pool = wall.pool({ max: 1, nameStatements: true });
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      for (let n = 0; n < 10; n += 1) expect(await failure(client.query('select refuse($1)', [1]))).toMatchObject({ code: '0A000' });
      client.release();
    });
    expect(await named(pool)).toEqual(['select refuse($1)']);
  });

  test('keeps a bounded number of them, however many texts there are', async () => {
    const pool = wall.pool({ max: 1, nameStatements: true });
    await run({ tenant: tenant(1) }, async () => {
      for (let text = 0; text < 260; text += 1) {
        for (let use = 0; use < 3; use += 1) await pool.query(`select $1::int + ${text}`, [use]);
      }
    });
    expect(await named(pool)).toHaveLength(200);
  });

  test('names none where it is not asked to, or may not prepare', async () => {
    for (const config of [{}, { nameStatements: true, preparedStatements: false }]) {
      const pool = wall.pool({ max: 1, ...config });
      for (let n = 0; n < 5; n += 1) await run({ tenant: tenant(1) }, () => pool.query(byId, [1]));
      expect(await named(pool)).toEqual([]);
    }
  });
});
