import pg from 'pg';
import { describe, expect, test } from 'vitest';
import {
  run,
  TenantCancelledError,
  TenantPlacedElsewhereError,
  TenantReadOnlyError,
  TenantSuspendedError,
  UnknownTenantError,
  type WallError,
  wallErrors,
} from '../src/index.ts';
import { allItemsOf, failure, ids, itemOf, tenant, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();
const pool = wall.pool({ max: 2 });
const select = 'select id from items';
/** Each test takes tenants of its own, so that none depends on another's clean-up. */
let next = 1;
const own = () => next++;

/** A client of the application's role that speaks SQL without the walled pool. */
async function raw(): Promise<pg.Client> {
  return wall.client();
}

async function operator(): Promise<pg.Client> {
  const client = new pg.Client(wall.database.url);
  await client.connect();
  return client;
}

describe('a tenant that is not active', () => {
  const refused: [string, (n: number) => Promise<unknown>, new () => WallError][] = [
    ['suspended', (n) => wall.setState(tenant(n), 'suspended'), TenantSuspendedError],
    ['fenced', (n) => wall.setState(tenant(n), 'fenced'), TenantSuspendedError],
    ['cancelled', (n) => wall.setState(tenant(n), 'cancelled'), TenantCancelledError],
    [
      'placed elsewhere',
      (n) => wall.database.query("update partywall.registry set placement = 'other' where tenant_id = $1", [tenant(n)]),
      TenantPlacedElsewhereError,
    ],
    ['removed', (n) => wall.database.query('delete from partywall.registry where tenant_id = $1', [tenant(n)]), UnknownTenantError],
  ];

  test.each(refused)('is refused from its next statement on when it is %s, on the connection that served it just now', async (_, change, kind) => {
    const n = own();
    const query = () => run({ tenant: tenant(n) }, () => pool.query({ name: 'state', text: select }));
    // More than once on each connection: by then entering does not read the registry any more.
    for (let round = 0; round < 4; round += 1) expect(ids(await query())).toEqual(allItemsOf(n));
    await change(n);
    for (let round = 0; round < 4; round += 1) {
      const error = await failure(query());
      expect(error).toBeInstanceOf(kind);
      expect(error.message).toContain(tenant(n));
      expect(error.cause).toBeInstanceOf(pg.DatabaseError);
    }
    const neighbour = own();
    expect(ids(await run({ tenant: tenant(neighbour) }, () => pool.query(select)))).toEqual(allItemsOf(neighbour));
  });

  test('is admitted again when it is active again', async () => {
    const n = own();
    await wall.setState(tenant(n), 'suspended');
    expect(await failure(run({ tenant: tenant(n) }, () => pool.query(select)))).toBeInstanceOf(TenantSuspendedError);
    await wall.setState(tenant(n), 'active');
    expect(ids(await run({ tenant: tenant(n) }, () => pool.query(select)))).toEqual(allItemsOf(n));
  });

  test('is refused to raw SQL on any connection too', async () => {
    const n = own();
    await wall.setState(tenant(n), 'suspended');
    const client = await raw();
    expect(await failure(client.query('select partywall.enter($1)', [tenant(n)]))).toMatchObject({ code: 'PW003' });
    expect(await failure(client.query('select partywall.enter_since($1, null)', [tenant(n)]))).toMatchObject({ code: 'PW003' });
  });
});

describe('an id that is no tenant', () => {
  test.each([
    ['of another tenant that does not exist', tenant(4_000)],
    ['that is not of the type of the key', 'acme'],
    ['that is a number', 17],
    ["with quotes and dollars: '; drop table items; --$$", "'; drop table items; --$$"],
  ])('%s is UnknownTenantError', async (_, id) => {
    const error = await failure(run({ tenant: id }, () => pool.query(select)));
    expect(error).toBeInstanceOf(UnknownTenantError);
    expect(error.message).toContain(JSON.stringify(String(id)));
  });

  test('in another form of the same value is the same tenant', async () => {
    const n = own();
    expect(ids(await run({ tenant: `{${tenant(n).toUpperCase()}}` }, () => pool.query(select)))).toEqual(allItemsOf(n));
  });
});

describe('a read-only tenant', () => {
  test('reads, and its writes are TenantReadOnlyError', async () => {
    const n = own();
    await wall.setState(tenant(n), 'read_only');
    await run({ tenant: tenant(n) }, async () => {
      expect(ids(await pool.query(select))).toEqual(allItemsOf(n));
      const error = await failure(pool.query("update items set body = 'x'"));
      expect(error).toBeInstanceOf(TenantReadOnlyError);
      expect(error).toMatchObject({ sqlstate: '25006', message: expect.stringContaining('because the tenant is read-only') });
      const client = await pool.connect();
      await client.query('begin');
      expect(ids(await client.query(select))).toEqual(allItemsOf(n));
      expect(await failure(client.query('delete from items where id = $1', [itemOf(n)]))).toBeInstanceOf(TenantReadOnlyError);
      await client.query('rollback');
      client.release();
    });
    const { rows } = await wall.database.query("select count(*)::int as n from items where tenant_id = $1 and body = 'x'", [tenant(n)]);
    expect(rows).toEqual([{ n: 0 }]);
  });

  test("is told from the application's own read-only transaction, which stays PostgreSQL's error", async () => {
    const n = own();
    await run({ tenant: tenant(n) }, async () => {
      const client = await pool.connect();
      await client.query('begin read only');
      expect(await failure(client.query('delete from items'))).toMatchObject({ code: '25006', name: 'error' });
      await client.query('rollback');
      client.release();
    });
  });

  test('is known to be one whatever level of messages the session wants, and the application does not see the message', async () => {
    const n = own();
    await wall.setState(tenant(n), 'read_only');
    const quiet = wall.pool({ max: 1, options: '-c client_min_messages=error' });
    await run({ tenant: tenant(n) }, async () => {
      const client = await quiet.connect();
      const notices: unknown[] = [];
      client.on('notice', (notice) => notices.push(notice));
      expect(await failure(client.query('delete from items'))).toBeInstanceOf(TenantReadOnlyError);
      expect(notices).toEqual([]);
      client.release();
    });
  });

  test('does not make the next tenant of the connection read-only', async () => {
    const n = own();
    const other = own();
    await wall.setState(tenant(n), 'read_only');
    const single = wall.pool({ max: 1 });
    await run({ tenant: tenant(n) }, () => single.query(select));
    await run({ tenant: tenant(other) }, () => single.query('update items set body = body where id = $1', [itemOf(other)]));
    await wall.setState(tenant(n), 'active');
    await run({ tenant: tenant(n) }, () => single.query('update items set body = body where id = $1', [itemOf(n)]));
  });
});

describe('a change of state that meets transactions on their way', () => {
  test('is seen by a REPEATABLE READ transaction that took its snapshot before: entering fails', async () => {
    const n = own();
    for (const isolation of ['repeatable read', 'serializable']) {
      for (const enter of ['select partywall.enter($1)', 'select partywall.enter_since($1, null)']) {
        const client = await raw();
        await client.query(`begin isolation level ${isolation}; select 1 from countries;`);
        await wall.setState(tenant(n), 'suspended');
        expect(await failure(client.query(enter, [tenant(n)]))).toMatchObject({ code: '40001' });
        await client.query('rollback');
        await wall.setState(tenant(n), 'active');
      }
    }
  });

  test('is seen by the walled pool in such a transaction', async () => {
    const n = own();
    await run({ tenant: tenant(n) }, async () => {
      await pool.query(select);
      const client = await pool.connect();
      await client.query('begin isolation level repeatable read');
      await client.query('savepoint a');
      expect(ids(await client.query(select))).toEqual(allItemsOf(n));
      await client.query('rollback to a');
      await wall.setState(tenant(n), 'suspended');
      expect(await failure(client.query(select))).toMatchObject({ code: '40001' });
      await client.query('rollback');
      client.release();
      await wall.setState(tenant(n), 'active');
    });
  });

  test('waits for those inside: the lock that fences is free only when they are done', async () => {
    const n = own();
    await run({ tenant: tenant(n) }, async () => {
      const client = await pool.connect();
      await client.query('begin');
      await client.query(select);
      await wall.setState(tenant(n), 'suspended');
      const fence = await operator();
      await fence.query("set lock_timeout = '100ms'");
      expect(await failure(fence.query('select pg_advisory_lock(hashtextextended($1, 0))', [`partywall:${tenant(n)}`]))).toMatchObject({ code: '55P03' });
      await client.query('commit');
      await fence.query('select pg_advisory_lock(hashtextextended($1, 0))', [`partywall:${tenant(n)}`]);
      await fence.end();
      client.release();
    });
  });

  test.each(['select partywall.enter($1)', 'select partywall.enter_since($1, null)', 'select partywall.enter_since($1, 0)'])(
    '%s holds that lock',
    async (enter) => {
      const n = own();
      const client = await raw();
      await client.query('begin');
      await client.query(enter, [tenant(n)]);
      const free = async () =>
        (await wall.database.query('select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as free', [`partywall:${tenant(n)}`])).rows[0];
      expect(await free()).toEqual({ free: false });
      await client.query('commit');
      expect(await free()).toEqual({ free: true });
    },
  );

  test('is not overtaken by an admission that was given while it was not yet committed', async () => {
    const n = own();
    const single = wall.pool({ max: 1 });
    const query = () => run({ tenant: tenant(n) }, () => single.query(select));
    await query();
    const changing = await operator();
    await changing.query('begin');
    await changing.query("select partywall.set_state($1, 'suspended')", [tenant(n)]);
    // The number of the change is out already, the change itself is not: the tenant is active, and must not be remembered as such.
    expect(ids(await query())).toEqual(allItemsOf(n));
    expect(ids(await query())).toEqual(allItemsOf(n));
    await changing.query('commit');
    expect(await failure(query())).toBeInstanceOf(TenantSuspendedError);
    await changing.end();
  });

  test('that is rolled back changes nothing', async () => {
    const n = own();
    const changing = await operator();
    await changing.query('begin');
    await changing.query("select partywall.set_state($1, 'suspended')", [tenant(n)]);
    await changing.query('rollback');
    await changing.end();
    for (let round = 0; round < 3; round += 1) expect(ids(await run({ tenant: tenant(n) }, () => pool.query(select)))).toEqual(allItemsOf(n));
  });

  test('may be the own one of a REPEATABLE READ transaction, which then enters', async () => {
    const n = own();
    await wall.setState(tenant(n), 'suspended');
    const client = await operator();
    await client.query('begin isolation level repeatable read');
    await client.query("select partywall.set_state($1, 'active')", [tenant(n)]);
    await client.query('select partywall.enter($1)', [tenant(n)]);
    await client.query('commit');
    await client.end();
  });

  test('must not hide an earlier one that its own snapshot does not show', async () => {
    const n = own();
    const other = own();
    const client = await operator();
    await client.query('begin isolation level repeatable read');
    await client.query('select pg_current_xact_id()');
    await wall.setState(tenant(n), 'suspended');
    expect(await failure(client.query("select partywall.set_state($1, 'read_only')", [tenant(other)]))).toMatchObject({ code: '40001' });
    await client.query('rollback');
    await client.end();
  });

  test('that came with a dump from another cluster, with a number from the future, locks nobody out and admits nobody', async () => {
    const n = own();
    const { rows } = await wall.database.query<{ last_value: string }>('select last_value from partywall.state_change');
    await wall.database.query("select setval('partywall.state_change', 9000000000000000)");
    const client = await raw();
    await client.query('begin isolation level repeatable read');
    await client.query('select partywall.enter($1)', [tenant(n)]);
    await client.query('commit');
    expect((await client.query('select partywall.enter_since($1, null) as seen', [tenant(n)])).rows).toEqual([{ seen: null }]);
    await wall.database.query("select setval('partywall.state_change', $1)", [rows[0]?.last_value]);
  });
});

describe('what entering may be remembered for', () => {
  test('the number of the last change is what comes back, and it alone is taken', async () => {
    const n = own();
    const client = await raw();
    const seen = async (value: string | null) => (await client.query('select partywall.enter_since($1, $2) as seen', [tenant(n), value])).rows[0]?.seen;
    const current = await seen(null);
    expect(current).toMatch(/^\d+$/);
    expect(await seen(current)).toBe(current);
    expect(await seen('1')).toBe(current);
    await wall.setState(tenant(n), 'suspended');
    expect(await failure(seen(current))).toMatchObject({ code: 'PW003' });
  });

  test('a read-only tenant is not remembered: entering must make the transaction read-only every time', async () => {
    const n = own();
    await wall.setState(tenant(n), 'read_only');
    const client = await raw();
    expect((await client.query('select partywall.enter_since($1, null) as seen', [tenant(n)])).rows).toEqual([{ seen: null }]);
  });

  test('functions of the wall are not led astray by the search path of the session', async () => {
    const n = own();
    await wall.database.query(`create schema evil; grant all on schema evil to ${wall.app}`);
    const client = await raw();
    await client.query(`
      create function evil.current_setting(text, boolean) returns text language sql as 'select null::text';
      create function evil.always(text, text) returns boolean language sql immutable as 'select false';
      create operator evil.<> (leftarg = text, rightarg = text, function = evil.always);
      create operator evil.= (leftarg = text, rightarg = text, function = evil.always);
      create table evil.tenants as select 1;
      create type evil.uuid as enum ('a');
      create temp table tenants (tenant_id uuid, state text, placement text);
      set search_path = evil, pg_temp, pg_catalog`);
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenant(n)]);
    expect(await failure(client.query('select partywall.enter($1)', [tenant(own())]))).toMatchObject({ code: 'PW007' });
    await client.query('rollback');
    await wall.setState(tenant(n), 'suspended');
    expect(await failure(client.query('select partywall.enter_since($1, null)', [tenant(n)]))).toMatchObject({ code: 'PW003' });
    await wall.database.query('drop schema evil cascade');
  });
});

describe('the plan under the policy', () => {
  test('has the tenant in the index condition, named or not, for custom and generic plans', async () => {
    const client = await raw();
    const n = own();
    await client.query('set enable_seqscan = off');
    for (const mode of ['force_custom_plan', 'force_generic_plan']) {
      await client.query(`set plan_cache_mode = ${mode}`);
      for (const text of ['select * from items where id = 5', 'select * from items order by id limit 50']) {
        await client.query('begin');
        await client.query('select partywall.enter($1)', [tenant(n)]);
        const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${text}`);
        await client.query('rollback');
        const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
        expect(plan).toMatch(/Index Cond: .*tenant_id = COALESCE/);
        expect(plan).not.toContain('Filter');
      }
    }
  });

  test('an empty setting is no tenant: reading fails instead of casting it', async () => {
    const client = await raw();
    await client.query("set partywall.tenant_id = ''");
    expect(await failure(client.query(select))).toMatchObject({ code: 'PW001' });
  });
});

test('the states that the wall raises have a class and a row in the table each', () => {
  const states = Object.values(wallErrors).flatMap(({ sqlstate }) => sqlstate ?? []);
  expect(states).toEqual(['PW001', 'PW002', 'PW003', 'PW004', 'PW005', 'PW006', 'PW007', 'PW008', 'PW009']);
});
