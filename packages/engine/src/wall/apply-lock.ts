import type pg from 'pg';
import { PartywallError } from '../errors.ts';

/** One apply or rollback of a database at a time; the lock ends with the session. */
const tryLock = "select pg_try_advisory_lock(hashtextextended('partywall:apply', 0)) as locked";

/**
 * Taken before the catalog is read: a plan that another run has made old must not be carried out.
 *
 * @throws PartywallError phase_refused
 */
export async function takeApplyLock(client: pg.ClientBase, purpose: 'apply' | 'rollback'): Promise<void> {
  const { rows } = await client.query<{ locked: boolean }>(tryLock);
  if (rows[0]?.locked) return;
  throw new PartywallError('phase_refused', `starting ${purpose}: another apply or rollback is running on this database`, {
    hint: 'wait for it to end, or end its session',
  });
}
