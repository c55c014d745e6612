import type pg from 'pg';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { afterAll, describe, expect, test } from 'vitest';
import { suffix } from '../../../../test/support/database.ts';
import { createSystemPool, run, StatementRefusedError, system, systemUses, WallNotHeldError } from '../../src/index.ts';
import { failure, itemsPerTenant, tenant, tenantCount, walledDatabase } from '../walled-database.ts';

const count = 'select count(*)::int as n from items';

describe('the system pool', async () => {
  const wall = await walledDatabase();
  const login = `wall_system_${suffix()}`;
  await wall.database.query(`create role ${login} login bypassrls; grant select, update on items to ${login}`);
  const pool = createSystemPool({ connectionString: wall.database.urlAs(login), max: 2 });
  pool.on('error', () => undefined); // the database is dropped with force
  afterAll(async () => {
    await pool.end();
    await wall.database.query(`drop owned by ${login}; drop role ${login}`);
  });

  test('reaches the rows of every tenant, and counts the purpose', async () => {
    const before = systemUses().get('report') ?? 0;
    const { rows } = await system('report', () => pool.query<{ n: number }>(count));
    expect(rows).toEqual([{ n: tenantCount * itemsPerTenant }]);
    expect(systemUses().get('report')).toBe(before + 1);
  });

  const styles: Record<string, () => Promise<unknown>> = {
    'a query': () => pool.query(count),
    'a query with a callback': () => new Promise((resolve, reject) => pool.query(count, (error, result) => (error ? reject(error) : resolve(result)))),
    'a connection': () => onClient((client) => client.query(count)),
    'a connection with a callback': () =>
      onClient((client) => new Promise((resolve, reject) => client.query(count, (error, result) => (error ? reject(error) : resolve(result))))),
    'a cursor': () =>
      onClient(async (client) => {
        const cursor = client.query(new Cursor(count));
        await cursor.read(1);
        await cursor.close();
      }),
    'a stream': () =>
      onClient(async (client) => {
        const found: unknown[] = [];
        for await (const row of client.query(new QueryStream(count))) found.push(row);
        return found;
      }),
  };
  async function onClient<Result>(work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
    const client = await pool.connect();
    try {
      return await work(client);
    } finally {
      client.release();
    }
  }

  for (const [style, send] of Object.entries(styles)) {
    test(`refuses ${style} that names no purpose, and one in a tenant’s context`, async () => {
      for (const refused of [await failure(send()), await run({ tenant: tenant(1) }, () => failure(send()))])
        expect(refused).toBeInstanceOf(StatementRefusedError);
      expect((await run({ tenant: tenant(1) }, () => failure(send()))).message).toContain(tenant(1));
      await system('after a refusal', send);
    });
  }

  test('hands out no connection without a purpose, to a promise or a callback, and keeps none', async () => {
    const taken = () => new Promise((resolve, reject) => pool.connect((error, client) => (error ? reject(error) : resolve(client))));
    for (const take of [() => pool.connect(), taken]) {
      expect(await failure(take())).toBeInstanceOf(StatementRefusedError);
      expect(await run({ tenant: tenant(1) }, () => failure(take()))).toBeInstanceOf(StatementRefusedError);
    }
    expect(pool.idleCount).toBe(pool.totalCount);
  });

  test('refuses what is sent on a connection after its purpose has ended', async () => {
    const client = await system('take', () => pool.connect());
    expect(await failure(client.query(count))).toBeInstanceOf(StatementRefusedError);
    client.release();
  });

  test('needs no purpose for what sets a connection up', async () => {
    const seen: string[] = [];
    const own = createSystemPool({
      connectionString: wall.database.urlAs(login),
      max: 1,
      onConnect: async (client) => {
        await client.query("set statement_timeout = '7s'");
      },
    });
    own.on('connect', (client) => void client.query('select 1 as one').then(({ rows }) => seen.push(JSON.stringify(rows))));
    const { rows } = await system('look', () => own.query('show statement_timeout'));
    expect(rows).toEqual([{ statement_timeout: '7s' }]);
    expect(seen).toEqual(['[{"one":1}]']);
    await own.end();
  });

  test('goes on in the context of who waited for a connection', async () => {
    const taken = await system('hold', () => Promise.all([pool.connect(), pool.connect()]));
    const waiting = system(
      'waiting',
      () => new Promise<pg.QueryResult>((resolve, reject) => pool.query(count, (error, result) => (error ? reject(error) : resolve(result)))),
    );
    await run({ tenant: tenant(1) }, async () => {
      for (const client of taken) client.release();
    });
    expect((await waiting).rows).toEqual([{ n: tenantCount * itemsPerTenant }]);
  });

  test('refuses a login that the wall binds, before anybody reads nothing by it', async () => {
    const bound = createSystemPool({ connectionString: wall.database.urlAs(wall.app) });
    const refused = await system('report', () => failure(bound.query(count)));
    expect(refused).toBeInstanceOf(WallNotHeldError);
    expect(refused.message).toContain(wall.app);
    expect(bound.totalCount).toBe(0);
    await bound.end();
  });

  test('has a login that the walled pool refuses', async () => {
    const walled = wall.pool({ connectionString: wall.database.urlAs(login) });
    expect(await run({ tenant: tenant(1) }, () => failure(walled.query(count)))).toBeInstanceOf(WallNotHeldError);
  });
});
