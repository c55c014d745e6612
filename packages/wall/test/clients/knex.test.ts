import { describe, expect, test } from 'vitest';
import { knexPool } from '../../src/clients/knex.ts';
import { run } from '../../src/index.ts';
import { tenant, walledDatabase } from '../walled-database.ts';

describe('a pool for Knex', async () => {
  const wall = await walledDatabase();

  test('takes a connection back once for each time it is taken, and not in another’s turn', async () => {
    const pool = wall.pool({ max: 1 });
    const turns = knexPool(pool);
    await run({ tenant: tenant(1) }, async () => {
      const first = await turns.acquire().promise;
      const waiting = turns.acquire().promise;
      expect(turns.numPendingAcquires()).toBe(1);
      expect(turns.release(first)).toBe(true);
      const second = await waiting;
      expect(turns.release(first)).toBe(false);
      expect(turns.numFree()).toBe(0);
      expect(turns.release(second)).toBe(true);
      expect(turns.numFree()).toBe(1);
    });
  });

  test('closes a connection that Knex has given up, and keeps that from the next turn', async () => {
    const pool = wall.pool({ max: 1 });
    const turns = knexPool(pool);
    await run({ tenant: tenant(1) }, async () => {
      const first = await turns.acquire().promise;
      Reflect.set(first, '__knexUid', 'a');
      turns.release(first);
      const second = await turns.acquire().promise;
      expect(Reflect.get(second, '__knexUid')).toBeUndefined();
      Reflect.set(second, '__knex__disposed', new Error('timed out'));
      turns.release(second);
      expect(pool.totalCount).toBe(0);
    });
  });
});
