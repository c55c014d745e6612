import type pg from 'pg';
import { readCatalog } from '../../catalog/read-catalog.ts';
import { type ControlDatabase, type Operation, transaction } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';
import { beginOperation, type LongOperation } from '../../durable/operations.ts';
import type { Durable } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { assertModelComplete } from '../../model/check.ts';
import { quoted } from '../../model/table-name.ts';
import { decide } from '../states.ts';
import { readTenant, type Tenant } from '../tenant.ts';
import { changeStatus, type TransitionInput } from '../transition.ts';
import { type ErasurePlan, erasurePlan } from './erasure-plan.ts';
import { countTenant } from './row-changes.ts';

/** Kind of the operation that erases a tenant. */
export const eraseKind = 'tenant.erase';

export interface EraseInput extends TransitionInput {
  /** Erases from any state and before the retention has ended; never under a legal hold. */
  readonly force?: boolean | undefined;
}

/** What an erasure would do. */
export interface ErasurePreview {
  readonly tenant: Tenant;
  readonly plan: ErasurePlan;
  /** Rows of each table, in the order in which they go. */
  readonly tables: readonly { readonly table: string; readonly rows: number }[];
  /** Why it would be refused, if it would. */
  readonly refusal: string | null;
}

/**
 * What erasing the tenant would delete, in which order; changes nothing.
 *
 * @throws PartywallError tenant_unknown
 */
export async function previewErasure(operation: Operation, input: EraseInput): Promise<ErasurePreview> {
  const { database } = operation;
  const tenant = await readTenant(database.pool, input.tenant);
  const plan = await readErasurePlan(database);
  const counts = await countTenant(
    database.pool,
    plan.groups.flatMap((group) => group.tables),
    tenant.id,
  );
  const decision = decide({ ...tenant, held: tenant.hold !== null }, 'erase', database.clock(), input.force);
  const blocked = await blockedBy(database.pool, plan, tenant.id);
  const tables = [...counts].map(([table, rows]) => ({ table, rows }));
  return { tenant, plan, tables, refusal: decision.kind === 'refused' ? decision.why : (blocked[0] ?? null) };
}

/**
 * Begins to erase a tenant for good: from here on it is kept out, and cannot come back. The rows go in the background; the operation that is
 * returned tells how far it is. Asking again while it runs, or after it failed, goes on with the same operation.
 *
 * @throws PartywallError tenant_unknown, transition_refused (hold, retention), erasure_refused (rows outside of the tenant keep it from going, it
 * is on its way to another database, or it was backed up and no archive is given), and what keeps its backups from being erased: store_unavailable,
 * keyring_refused, escrow_unverified, key_missing, archive_damaged. It stays what it was then.
 */
export async function eraseTenant(operation: Operation, durable: Durable, input: EraseInput): Promise<LongOperation> {
  const { pool } = operation.database;
  const tenant = await readTenant(pool, input.tenant);
  const blocked = tenant.status === 'erasing' ? [] : await blockedBy(pool, await readErasurePlan(operation.database), tenant.id);
  if (blocked.length > 0) {
    throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant.id)}: ${blocked[0]}`, { details: blocked });
  }
  const decision = decide({ ...tenant, held: tenant.hold !== null }, 'erase', operation.database.clock(), input.force);
  if (decision.kind === 'change') await durable.prepare(eraseKind, operation, tenant.id);
  const begun = await transaction(pool, async (client) => {
    await changeStatus(client, operation, 'erase', input);
    return beginOperation(client, operation, { kind: eraseKind, tenant: tenant.id, reason: input.reason });
  });
  await durable.start(begun);
  return begun;
}

/** @throws PartywallError erasure_refused where the database has tables that the model does not know */
export async function readErasurePlan({ pool, model }: ControlDatabase): Promise<ErasurePlan> {
  const client = await pool.connect();
  try {
    const catalog = await readCatalog(client);
    try {
      assertModelComplete(model, catalog);
    } catch (cause) {
      if (!(cause instanceof PartywallError)) throw cause;
      throw new PartywallError('erasure_refused', `planning an erasure: ${cause.message}`, { cause, hint: cause.hint, details: cause.details });
    }
    return erasurePlan(model, catalog);
  } finally {
    client.release();
  }
}

/** Rows of tables that belong to no tenant and refer to the tenant's without letting them go. */
async function blockedBy(client: pg.Pool, plan: ErasurePlan, tenant: string): Promise<string[]> {
  const blocked: string[] = [];
  for (const reference of plan.outside) {
    if (reference.onDelete !== 'no action' && reference.onDelete !== 'restrict') continue;
    const joined = reference.columns.map((column, at) => `o.${ident(column)} = t.${ident(reference.references[at] ?? '')}`).join(' and ');
    const { rowCount } = await client.query(
      `select from ${quoted(reference.table)} o join ${quoted(reference.target)} t on ${joined} where t.${ident(reference.column)} = $1 limit 1`,
      [tenant],
    );
    if (rowCount) blocked.push(`rows of ${reference.table}, which belongs to no tenant, refer to its rows in ${reference.target}`);
  }
  return blocked;
}
