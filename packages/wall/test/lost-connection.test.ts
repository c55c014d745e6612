import type pg from 'pg';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { suffix } from '../../../test/support/database.ts';
import { createSystemPool, createWalledPool, run, system } from '../src/index.ts';
import { failure, tenant, walledDatabase } from './walled-database.ts';
import { warnings } from './warnings.ts';

const wall = await walledDatabase();
const elsewhere = await walledDatabase();
const { database } = wall;
const login = `wall_system_${suffix()}`;
await database.query(`create role ${login} login bypassrls; grant select on items to ${login}`);
const inTenant = <Result>(work: () => Promise<Result>, n = 1): Promise<Result> => run({ tenant: tenant(n) }, work);
const inSystem = <Result>(work: () => Promise<Result>): Promise<Result> => system('a test', work);

const made: pg.Pool[] = [];
const kept = (pool: pg.Pool): pg.Pool => {
  made.push(pool);
  return pool;
};
afterAll(async () => {
  await Promise.all(made.map((pool) => pool.end()));
  await database.query(`drop owned by ${login}; drop role ${login}`);
});

const kinds: Record<string, { make(): pg.Pool; within: typeof inSystem; of: string }> = {
  walled: { make: () => kept(createWalledPool({ connectionString: database.urlAs(wall.app), max: 2 })), within: inTenant, of: wall.app },
  system: { make: () => kept(createSystemPool({ connectionString: database.urlAs(login), max: 2 })), within: inSystem, of: login },
};

/** As a restart of the server does it. */
async function endSessions(of: string, at = database): Promise<void> {
  const { rows } = await at.query<{ ended: boolean }>('select pg_terminate_backend(pid, 10000) as ended from pg_stat_activity where usename = $1', [of]);
  expect(rows.length).toBeGreaterThan(0);
}

// An error event that nobody listens to is an uncaught exception, which fails the test file.
describe.each(Object.entries(kinds))('the %s pool', (_, { make, within, of }) => {
  test('goes on when its idle connections are lost, and says so once', async () => {
    const pool = make();
    const warned = warnings();
    for (let round = 0; round < 3; round += 1) {
      await Promise.all([within(() => pool.query('select id from items')), within(() => pool.query('select id from items'))]);
      await endSessions(of);
      await vi.waitFor(() => expect(pool.totalCount).toBe(0));
    }
    expect((await within(() => pool.query('select 1 as one'))).rows).toEqual([{ one: 1 }]);
    await vi.waitFor(() => expect(warned).toEqual([expect.stringMatching(/^an idle connection was lost, which is said once for each pool/)]));
  });

  test('tells a listener of each, and warns of none', async () => {
    const pool = make();
    const warned = warnings();
    const lost: string[] = [];
    pool.on('error', ({ message }) => lost.push(message));
    for (let round = 1; round <= 2; round += 1) {
      await within(() => pool.query('select id from items'));
      await endSessions(of);
      await vi.waitFor(() => expect(lost).toHaveLength(round));
    }
    expect(lost).toEqual(Array.from({ length: 2 }, () => 'terminating connection due to administrator command'));
    expect(warned).toEqual([]);
  });

  test('goes on when a connection is lost that somebody holds, who hears of it by the next statement', async () => {
    const pool = make();
    await within(async () => {
      const client = await pool.connect();
      const ended = new Promise((resolve) => client.once('end', resolve));
      await client.query('begin');
      await endSessions(of);
      await ended;
      expect(await failure(client.query('select id from items'))).toBeInstanceOf(Error);
      client.release();
    });
    expect((await within(() => pool.query('select 1 as one'))).rows).toEqual([{ one: 1 }]);
  });
});

test('a pool goes on when an idle connection to a placement is lost, and says so', async () => {
  const pool = kept(createWalledPool({ connectionString: database.urlAs(wall.app), placements: { elsewhere: elsewhere.database.urlAs(elsewhere.app) } }));
  const warned = warnings();
  await database.query("update partywall.registry set placement = 'elsewhere' where tenant_id = $1", [tenant(2)]);
  const ask = () => inTenant(() => pool.query<{ name: string }>('select current_database() as name'), 2);
  expect((await ask()).rows).toEqual([{ name: elsewhere.database.name }]);
  await endSessions(elsewhere.app, elsewhere.database);
  await vi.waitFor(() => expect(warned).toHaveLength(1));
  expect((await ask()).rows).toEqual([{ name: elsewhere.database.name }]);
});
