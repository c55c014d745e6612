import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { controlPool } from '../../src/db/control-pool.ts';
import { transaction } from '../../src/db/operation.ts';

const { database } = await controlDatabase();

test('a connection that is lost between two statements of a transaction fails the transaction, and neither the process nor the pool', async () => {
  const pool = controlPool(database.url, { purpose: 'test', max: 1 });
  try {
    const cutOff = transaction(pool, async (client) => {
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      // Not `once` of node:events, which listens to errors as well.
      const lost = new Promise<void>((resolve) => client.once('end', resolve));
      await database.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
      await lost;
      await client.query('select 1');
    });
    await expect(cutOff).rejects.toThrow();
    expect((await pool.query('select 1')).rowCount).toBe(1);
  } finally {
    await pool.end();
  }
});
