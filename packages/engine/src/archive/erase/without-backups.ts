import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { controlPool } from '../../db/control-pool.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';

/** The longest backup is over by then. */
const waitMs = 6 * 3_600_000;
const pollMs = 500;

/**
 * Does `work` while no backup of the database runs, and none begins: it holds what a backup holds, on a connection of its own. Where that
 * connection is lost, what is done on it fails, so whoever ends their work there knows that it was held until the end.
 *
 * @throws PartywallError lock_not_acquired: a backup did not end
 */
export async function withoutBackups<Result>(
  { database, signal }: Operation,
  onWait: () => Promise<void>,
  work: (client: pg.ClientBase) => Promise<Result>,
): Promise<Result> {
  const url = database.pool.options.connectionString;
  if (url === undefined) throw new TypeError('the pool of the control plane has no connection string');
  // A pool for its settings; it never has more than this one connection.
  const own = controlPool(url, { purpose: 'erasure', max: 1 });
  const client = await own.connect().catch(async (error: unknown) => {
    await own.end();
    throw error;
  });
  try {
    const deadline = performance.now() + waitMs;
    for (let attempt = 0; !(await tryLock(client)); attempt += 1) {
      signal?.throwIfAborted();
      if (attempt === 0) await onWait();
      if (performance.now() >= deadline) throw new PartywallError('lock_not_acquired', 'waiting for a backup to end: it has not in six hours');
      await delay(pollMs, undefined, { signal });
    }
    return await work(client);
  } finally {
    // Before anybody can ask: a pool does not wait for the end of a session, which gives the lock back where the connection is what broke.
    await client.query('select pg_catalog.pg_advisory_unlock_all()').catch(() => undefined);
    client.release(true);
    await own.end();
  }
}

async function tryLock(client: pg.ClientBase): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(
    "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('partywall:backup', 0)) as locked",
  );
  return rows[0]?.locked ?? false;
}
