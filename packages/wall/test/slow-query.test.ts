import Cursor from 'pg-cursor';
import { beforeEach, expect, test, vi } from 'vitest';
import { run, type SlowQuery, system } from '../src/index.ts';
import { failure, tenant, walledDatabase } from './walled-database.ts';
import { warnings } from './warnings.ts';

const wall = await walledDatabase();
const heard: SlowQuery[] = [];
const pool = wall.pool({ slowQueryMs: 30, onSlowQuery: (query) => heard.push(query) });
const every = wall.pool({ slowQueryMs: 0, onSlowQuery: (query) => heard.push(query) });

beforeEach(() => heard.splice(0));

test('a statement over the threshold is reported with its tenant and without its values', async () => {
  await run({ tenant: tenant(3) }, () => pool.query("select pg_sleep($1), 'secret' as word", [0.05]));
  expect(heard).toEqual([{ tenant: tenant(3), statement: 'select pg_sleep(?), ? as word', milliseconds: expect.any(Number), failed: false }]);
  expect(heard[0]?.milliseconds).toBeGreaterThanOrEqual(50);
});

test('a fast one is not', async () => {
  await run({ tenant: tenant(3) }, () => pool.query('select 1'));
  expect(heard).toEqual([]);
});

test('one that fails is reported as failed, and the next one is not', async () => {
  await failure(run({ tenant: tenant(4) }, () => every.query('select 1 / 0')));
  await run({ tenant: tenant(5) }, () => every.query('select 2'));
  expect(heard.map(({ tenant: of, statement, failed }) => [of, statement, failed])).toEqual([
    [tenant(4), 'select ? / ?', true],
    [tenant(5), 'select ?', false],
  ]);
});

test('each statement of a transaction counts for itself, system work for no tenant, setup and cursors not at all', async () => {
  await run({ tenant: tenant(6) }, async () => {
    const client = await every.connect();
    try {
      await client.query('begin');
      await client.query('select id from items limit 1');
      const cursor = client.query(new Cursor('select id from items'));
      await cursor.read(1);
      await cursor.close();
      await client.query('commit');
    } finally {
      client.release();
    }
  });
  await system('a test', () => every.query('select code from countries'));
  expect(heard.map(({ tenant: of, statement }) => [of, statement])).toEqual([
    [tenant(6), 'begin'],
    [tenant(6), 'select id from items limit ?'],
    [tenant(6), 'commit'],
    [null, 'select code from countries'],
  ]);
});

test('what the listener throws reaches neither statement nor connection nor process, and is said once for all connections', async () => {
  const warned = warnings();
  let told = 0;
  const failing = wall.pool({
    slowQueryMs: 0,
    onSlowQuery: () => {
      told += 1;
      throw new Error('the metrics are gone');
    },
  });
  const select = () => run({ tenant: tenant(7) }, () => failing.query('select id from items'));
  const results = await Promise.all([select(), select(), select(), select()]);
  expect(results.map(({ rowCount }) => rowCount)).toEqual([30, 30, 30, 30]);
  await vi.waitFor(() => expect(told).toBe(4));
  await vi.waitFor(() => expect(warned).toEqual([expect.stringMatching(/^onSlowQuery failed, which is said once: Error: the metrics are gone/)]));
});
