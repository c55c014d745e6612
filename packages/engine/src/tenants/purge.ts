import type { Operation } from '../db/operation.ts';
import { awaitOperation, type Durable } from '../durable/work.ts';
import { PartywallError } from '../errors.ts';
import { eraseTenant } from './erase/erase.ts';

/** Tenants of one run; the next run takes the next ones. */
const tenantsMax = 100;
const tenantTimeoutMs = 30 * 60_000;

/** What became of every tenant whose retention had ended. */
export interface PurgeReport {
  /** Tenants that were due, and how many of them this run went through. */
  readonly due: number;
  readonly visited: number;
  readonly erased: readonly string[];
  /** Under a legal hold: not touched. */
  readonly held: readonly string[];
  readonly failed: readonly { readonly tenant: string; readonly problem: string }[];
}

/** Tenants that are cancelled or deleted and whose retention has ended: longest over first, those under a legal hold last, at most a hundred. */
export async function dueTenants(operation: Operation): Promise<{ due: number; tenants: { id: string; name: string; held: boolean }[] }> {
  const { pool, clock } = operation.database;
  const { rows } = await pool.query<{ id: string; name: string; held: boolean; due: string }>(
    `select d.tenant_id as id, d.name, d.hold_reason is not null as held, count(*) over () as due from partywall_control.directory d
where d.status in ('cancelled', 'deleted') and d.retained_until <= $1 order by d.hold_reason is not null, d.retained_until, d.tenant_id limit $2`,
    [clock(), tenantsMax],
  );
  return { due: Number(rows[0]?.due ?? 0), tenants: rows.map(({ id, name, held }) => ({ id, name, held })) };
}

/** Erases the tenants that are due, one after the other. */
export async function purgeRetained(operation: Operation, durable: Durable): Promise<PurgeReport> {
  const { due, tenants } = await dueTenants(operation);
  const erased: string[] = [];
  const held: string[] = [];
  const failed: { tenant: string; problem: string }[] = [];
  for (const { id: tenant, held: isHeld } of tenants) {
    operation.signal?.throwIfAborted();
    if (isHeld) {
      held.push(tenant);
      continue;
    }
    try {
      const { id } = await eraseTenant(operation, durable, { tenant, reason: 'the retention has ended' });
      const ended = await awaitOperation(operation, id, { timeoutMs: tenantTimeoutMs });
      if (ended.state === 'done') erased.push(tenant);
      else failed.push({ tenant, problem: ended.error ?? 'it has not ended in time' });
    } catch (error) {
      if (!(error instanceof PartywallError)) throw error;
      failed.push({ tenant, problem: error.message });
    }
  }
  return { due, visited: tenants.length, erased, held, failed };
}
