import pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { hasBouncer, serverConnections, startBouncer } from '../../../test/support/pgbouncer.ts';
import { run, system, TenantContextError, TenantSuspendedError, UnknownTenantError } from '../src/index.ts';
import { allItemsOf, failure, ids, tenant, tenantCount, walledDatabase } from './walled-database.ts';

const select = 'select id from items';

describe.skipIf(!hasBouncer && process.env['PARTYWALL_NO_SKIPS'] !== '1')('behind PgBouncer in transaction mode', async () => {
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
