import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { sqlState } from '../../db/connect.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { applyDifference } from '../../tenants/transfer/apply-difference.ts';
import { changedRows, countChanges, keepOut, refusedByDatabase } from '../../tenants/transfer/changes.ts';
import { findConflicts } from '../../tenants/transfer/conflicts.ts';
import type { RowProof } from '../../tenants/transfer/row-proof.ts';
import { raiseSequences } from '../../tenants/transfer/sequences.ts';
import { pinTexts } from '../../tenants/transfer/session.ts';
import { tenantLockPrefix } from '../../wall/runtime.ts';
import type { TenantSource } from '../tenant-source.ts';
import { assertHeldOut, holdOut, letIn } from './hold-out.ts';
import { compareNeighbours, compareOwn, drawSeed, hashNeighbours, type NeighbourProof } from './neighbours.ts';
import { type PreparedRestore, type PrepareOptions, prepareRestore, type RestoreInput, type RestorePlan, refuseState } from './prepare.ts';
import { besideUndo, type Undoing } from './undo.ts';

/** A neighbour that writes may be in the way of a serializable look at everything, or of a lock: the whole is tried again. */
const attemptsMax = 3;
/** Whoever is inside the tenant may finish for so long. */
const lockTimeoutMs = 15_000;
const detailsMax = 50;

export interface RestoreOptions extends PrepareOptions {
  /** Of the same source and input; used where it is current, and closed. Default: the source is staged now. */
  readonly prepared?: PreparedRestore | undefined;
  /** The transaction does not commit before this has come about. */
  readonly until?: Promise<unknown> | undefined;
  /** Runs in the transaction of the restore, last: what belongs to it commits with it. */
  readonly within?: (client: pg.ClientBase, report: RestoreReport) => Promise<void>;
}

export interface RestoreReport extends RestorePlan {
  readonly applied: true;
  /** Further rows that had to be put right because triggers or cascades had changed them. */
  readonly corrected: number;
  readonly proof: RowProof & { readonly neighbours: NeighbourProof | null };
}

/** Backs the tenant up as it is; returns the id of that backup. */
export type UndoBackup = (tenant: string, undoing: Undoing) => Promise<string>;

/** What restoring the tenant from the source would change; changes nothing. @throws PartywallError what `prepareRestore` throws */
export async function planRestore(operation: Operation, source: TenantSource, input: RestoreInput = {}, options: PrepareOptions = {}): Promise<RestorePlan> {
  const { plan, close } = await prepareRestore(operation, source, input, options);
  close();
  return plan;
}

/**
 * Makes the tenant's rows those of the source: nobody enters it, what it has now is backed up, and one transaction applies the difference and proves that
 * nothing else changed. The tenant is let in again whatever becomes of it.
 *
 * @throws PartywallError what `planRestore` throws; restore_conflict (a list; nothing has changed), fence_incomplete
 */
export async function restoreFrom(
  operation: Operation,
  source: TenantSource,
  input: RestoreInput & { readonly undo: UndoBackup },
  options: PrepareOptions & Pick<RestoreOptions, 'within'> = {},
): Promise<RestoreReport & { readonly undo: string }> {
  const { tenant } = source;
  const prepared = await prepareRestore(operation, source, input, options);
  try {
    refuseConflicts(prepared.plan);
    try {
      prepared.wait();
      await holdOut(operation, tenant);
      const { undo, applied } = await besideUndo(
        (undoing) => input.undo(tenant, { ...undoing, catalog: prepared.catalog }),
        (until) => applyRestore(operation, source, input, { ...options, prepared, until }),
      );
      return { ...applied, undo };
    } finally {
      await letIn(operation, tenant);
    }
  } finally {
    prepared.close();
  }
}

/**
 * The transaction of a restore. The tenant is held out already.
 *
 * @throws PartywallError restore_conflict, restore_refused, and what `until` throws
 */
export async function applyRestore(operation: Operation, source: TenantSource, input: RestoreInput, options: RestoreOptions = {}): Promise<RestoreReport> {
  const { tenant } = source;
  for (let attempt = 1; ; attempt += 1) {
    const given = options.prepared;
    const prepared = (await given?.isCurrent()) && given ? given : await prepareRestore(operation, source, input, options);
    try {
      return await apply(prepared, operation, input, options);
    } catch (error) {
      const state = sqlState(error);
      if (attempt < attemptsMax && (state === '40001' || state === '40P01')) continue;
      const refused = refusedByDatabase(error, tenant);
      if (!(refused instanceof PartywallError) || refused.code !== 'import_conflict') throw refused;
      throw new PartywallError('restore_conflict', refused.message, { cause: error, details: refused.details });
    } finally {
      prepared.close();
    }
  }
}

/** @throws PartywallError restore_conflict */
export function refuseConflicts({ tenant, conflicts }: RestorePlan): void {
  if (conflicts.length === 0) return;
  throw new PartywallError('restore_conflict', `restoring tenant ${tenant}: ${conflicts[0]}`, { details: conflicts.slice(0, detailsMax) });
}

async function apply(
  { client, plan: before, catalog, tables }: PreparedRestore,
  operation: Operation,
  input: RestoreInput,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const { model } = operation.database;
  const { tenant } = before;
  const hashing = input.prove === 'hash';
  // One snapshot for the hashes of the neighbours: they write on, and what they commit is not seen. It has to be taken after the lock.
  if (hashing) await lockSession(client, tenant);
  await client.query(`begin isolation level ${hashing ? 'repeatable read' : 'read committed'}`);
  await pinTexts(client);
  await keepOut(client, tenant);
  await refuseState(client, tenant);
  await assertHeldOut(client, tenant);
  // Asked again with the door shut.
  const changes = await countChanges(client, tenant, tables);
  const plan = { ...before, conflicts: await findConflicts(client, { tenant, catalog, tables, changes }), tables: changes };
  refuseConflicts(plan);
  const seed = drawSeed();
  const neighbours = hashing ? await hashNeighbours(client, { tenant, model, catalog, seed, as: 'before' }) : null;
  await raiseSequences(client, catalog, tables);
  const { changed, proof } = await applyDifference(client, { tenant, model, catalog, tables, changes });
  await compareOwn(client, tenant, tables);
  if (hashing) {
    await hashNeighbours(client, { tenant, model, catalog, seed, as: 'after' });
    await compareNeighbours(client);
  }
  const report: RestoreReport = { ...plan, applied: true, corrected: Math.max(0, changed - changedRows(changes)), proof: { ...proof, neighbours } };
  await options.until;
  await options.within?.(client, report);
  await appendAudit(client, operation, {
    tenant,
    action: 'tenant.restore_from_backup',
    details: {
      source: plan.source,
      at: plan.at,
      forgotten: plan.forgotten,
      tables: Object.fromEntries(plan.tables.map(({ table, ...counts }) => [table, counts])),
    },
  });
  const { command } = await client.query('commit');
  if (command !== 'COMMIT') throw new Error('the restore was rolled back where it should have been committed');
  return report;
}

/** Given back with the connection, which is not used again. */
async function lockSession(client: pg.ClientBase, tenant: string): Promise<void> {
  await client.query('begin');
  await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
  await client.query('select pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended($1, 0))', [`${tenantLockPrefix}${tenant}`]);
  await client.query('commit');
}
