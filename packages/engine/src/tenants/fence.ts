import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { tenantLockPrefix } from '../wall/runtime.ts';

/** How long those inside may take to end by themselves. */
const graceMs = 1_000;
/** How long those that were told to end may take. */
const endingMs = 2_000;
const roundsMax = 4;

/** Sessions that were ended because they were inside the tenant before its state changed and did not leave in time. */
export interface Fence {
  readonly ended: number;
}

/**
 * Waits until nobody is inside a tenant who entered before its state changed: call it after the change has committed. Whoever enters later
 * reads the new state. Waiting for the tenant's lock exclusively keeps new ones queued behind, so the wait ends; sessions that do not
 * leave within a second are ended.
 *
 * @throws PartywallError fence_incomplete where a session cannot be ended; the state has changed nevertheless
 */
export async function fence(pool: pg.Pool, tenant: string): Promise<Fence> {
  let ended = 0;
  for (let round = 1; round <= roundsMax; round += 1) {
    if (await nobodyInside(pool, tenant, round === 1 ? graceMs : endingMs)) return { ended };
    const { rows } = await pool.query<{ ended: number }>('select ended from partywall_control.end_stragglers($1)', [tenant]);
    ended += rows[0]?.ended ?? 0;
  }
  throw new PartywallError('fence_incomplete', `waiting for those inside tenant ${JSON.stringify(tenant)}: some session does not end`);
}

async function nobodyInside(pool: pg.Pool, tenant: string, waitMs: number): Promise<boolean> {
  try {
    await transaction(pool, async (client) => {
      await client.query(`set local lock_timeout = ${waitMs}`);
      await client.query('select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))', [`${tenantLockPrefix}${tenant}`]);
    });
    return true;
  } catch (error) {
    if (sqlState(error) === '55P03') return false;
    throw error;
  }
}
