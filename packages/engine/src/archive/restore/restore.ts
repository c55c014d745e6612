import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import { sqlState } from '../../db/connect.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { applyDifference } from '../../tenants/transfer/apply-difference.ts';
import { countChanges, keepOut, netOf, refusedByDatabase, type TableChange, triggersOf } from '../../tenants/transfer/changes.ts';
import { findConflicts } from '../../tenants/transfer/conflicts.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import type { RowProof } from '../../tenants/transfer/row-proof.ts';
import { raiseSequences } from '../../tenants/transfer/sequences.ts';
import { directoryEntry, openTransfer, pinTexts } from '../../tenants/transfer/session.ts';
import { transferTables } from '../../tenants/transfer/tables.ts';
import { tenantLockPrefix } from '../../wall/runtime.ts';
import type { TenantSource } from '../tenant-source.ts';
import { type AlignChoices, alignSource } from './align.ts';
import { type ForgottenRow, forgetRows } from './forget.ts';
import { assertHeldOut, holdOut, letIn } from './hold-out.ts';
import { compareNeighbours, compareOwn, drawSeed, hashNeighbours, type NeighbourProof } from './neighbours.ts';
import { stageSource } from './stage-source.ts';

/** A neighbour that writes may be in the way of a serializable look at everything, or of a lock: the whole is tried again. */
const attemptsMax = 3;
/** Whoever is inside the tenant may finish for so long. */
const lockTimeoutMs = 15_000;
const detailsMax = 50;

export interface RestoreInput extends AlignChoices {
  /** `hash` also compares what every other tenant has, before and after. Default: `counters`, which is proof enough and reads no neighbour. */
  readonly prove?: 'counters' | 'hash' | undefined;
  /** Rows that were erased since and must not come back. */
  readonly forget?: readonly ForgottenRow[] | undefined;
}

export interface RestoreOptions {
  readonly onProgress?: (progress: { readonly table: string; readonly rows: number }) => void;
  /** Runs in the transaction of the restore, last: what belongs to it commits with it. */
  readonly within?: (client: pg.ClientBase, report: RestoreReport) => Promise<void>;
}

/** What a restore would do, or did. */
export interface RestorePlan {
  readonly tenant: string;
  /** `backup 20261121t020000z-1f2e3d4c`. */
  readonly source: string;
  /** Of the source, ISO 8601. */
  readonly at: string;
  readonly tables: readonly TableChange[];
  /** Where the schema has changed since and what becomes of it, a line each. */
  readonly notes: readonly string[];
  /** Triggers of the application that fire, as `schema.table: name (function)`; they can ask for the setting `partywall.restoring`. */
  readonly triggers: readonly string[];
  /** What would stop it or reach a neighbour, a line each; none, or nothing is done. */
  readonly conflicts: readonly string[];
  /** Rows that stay away because they were erased since. */
  readonly forgotten: number;
}

export interface RestoreReport extends RestorePlan {
  readonly applied: true;
  /** Further rows that had to be put right because triggers or cascades had changed them. */
  readonly corrected: number;
  readonly proof: RowProof & { readonly neighbours: NeighbourProof | null };
}

/** Backs the tenant up as it is; returns the id of that backup. */
export type UndoBackup = (tenant: string) => Promise<string>;

/**
 * What restoring the tenant from the source would change; changes nothing and keeps nobody out, so that what the tenant writes meanwhile is not in it.
 *
 * @throws PartywallError tenant_unknown, transition_refused (deleted, or under a legal hold), restore_refused (the schema has changed beyond what can be
 * derived: a list), transfers_busy, and what the source throws
 */
export function planRestore(operation: Operation, source: TenantSource, input: RestoreInput = {}, options: RestoreOptions = {}): Promise<RestorePlan> {
  return onSessionOfItsOwn(operation, async (client) => {
    const catalog = await readCatalog(client);
    await client.query('begin isolation level read committed');
    const { plan } = await prepare(client, operation, source, { input, options, catalog });
    await client.query('rollback');
    return plan;
  });
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
  options: RestoreOptions = {},
): Promise<RestoreReport & { readonly undo: string }> {
  const { tenant } = source;
  refuseConflicts(await planRestore(operation, source, input, options));
  try {
    await holdOut(operation, tenant);
    const undo = await input.undo(tenant);
    return { ...(await applyRestore(operation, source, input, options)), undo };
  } finally {
    await letIn(operation, tenant);
  }
}

/**
 * The transaction of a restore. The tenant is held out already.
 *
 * @throws PartywallError restore_conflict, restore_refused
 */
export async function applyRestore(operation: Operation, source: TenantSource, input: RestoreInput, options: RestoreOptions = {}): Promise<RestoreReport> {
  const { tenant } = source;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await onSessionOfItsOwn(operation, (client) => apply(client, operation, source, { input, options }));
    } catch (error) {
      const state = sqlState(error);
      if (attempt < attemptsMax && (state === '40001' || state === '40P01')) continue;
      const refused = refusedByDatabase(error, tenant);
      if (!(refused instanceof PartywallError) || refused.code !== 'import_conflict') throw refused;
      throw new PartywallError('restore_conflict', refused.message, { cause: error, details: refused.details });
    }
  }
}

/** @throws PartywallError restore_conflict */
export function refuseConflicts({ tenant, conflicts }: RestorePlan): void {
  if (conflicts.length === 0) return;
  throw new PartywallError('restore_conflict', `restoring tenant ${tenant}: ${conflicts[0]}`, { details: conflicts.slice(0, detailsMax) });
}

interface Given {
  readonly input: RestoreInput;
  readonly options: RestoreOptions;
}

async function apply(client: pg.PoolClient, operation: Operation, source: TenantSource, { input, options }: Given): Promise<RestoreReport> {
  const { model } = operation.database;
  const { tenant } = source;
  const hashing = input.prove === 'hash';
  // One snapshot for the hashes of the neighbours: they write on, and what they commit is not seen. It has to be taken after the lock.
  if (hashing) await lockSession(client, tenant);
  const catalog = await readCatalog(client);
  await client.query(`begin isolation level ${hashing ? 'repeatable read' : 'read committed'}`);
  const found = await prepare(client, operation, source, { input, options, catalog });
  const { tables } = found;
  await keepOut(client, tenant);
  await refuseState(client, tenant);
  await assertHeldOut(client, tenant);
  // Asked again with the door shut.
  const plan = { ...found.plan, conflicts: await findConflicts(client, tenant, catalog, tables), tables: await countChanges(client, tenant, tables) };
  refuseConflicts(plan);
  const seed = drawSeed();
  const neighbours = hashing ? await hashNeighbours(client, { tenant, model, catalog, seed, as: 'before' }) : null;
  await raiseSequences(client, catalog, tables);
  const { changed, proof } = await applyDifference(client, { tenant, model, catalog, tables, net: netOf(plan.tables) });
  await compareOwn(client, tenant, tables);
  if (hashing) {
    await hashNeighbours(client, { tenant, model, catalog, seed, as: 'after' });
    await compareNeighbours(client);
  }
  const planned = plan.tables.reduce((sum, { inserted, updated, deleted }) => sum + inserted + updated + deleted, 0);
  const report: RestoreReport = { ...plan, applied: true, corrected: Math.max(0, changed - planned), proof: { ...proof, neighbours } };
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

/** Stages, and looks at what that changes. */
async function prepare(
  client: pg.PoolClient,
  operation: Operation,
  source: TenantSource,
  { input, options, catalog }: Given & { readonly catalog: Catalog },
): Promise<{ plan: RestorePlan; tables: readonly StagedTable[] }> {
  const { model } = operation.database;
  const { tenant } = source;
  await refuseState(client, tenant);
  await pinTexts(client);
  const { tables: aligned, notes, problems } = alignSource(source.tables, await transferTables(client, model, catalog), model, input);
  if (problems.length > 0) {
    throw new PartywallError('restore_refused', `comparing ${source.description} with the database: ${problems[0]}`, {
      details: problems.slice(0, detailsMax),
    });
  }
  const staged = await stageSource(client, { tenant, source, tables: aligned, signal: operation.signal, onTable: options.onProgress });
  const forgotten = await forgetRows(client, staged, input.forget ?? []);
  const tables = forgotten === 0 ? staged : await recounted(client, staged);
  const plan: RestorePlan = {
    tenant,
    source: source.description,
    at: source.at.toISOString(),
    tables: await countChanges(client, tenant, tables),
    notes,
    triggers: tables.flatMap(triggersOf),
    conflicts: await findConflicts(client, tenant, catalog, tables),
    forgotten,
  };
  return { plan, tables };
}

async function recounted(client: pg.ClientBase, staged: readonly StagedTable[]): Promise<StagedTable[]> {
  const tables: StagedTable[] = [];
  for (const table of staged) {
    const { rows } = await client.query<{ count: string }>(`select count(*) from ${table.stage}`);
    tables.push({ ...table, rows: Number(rows[0]?.count ?? 0) });
  }
  return tables;
}

/** Rows may go, so what a hold protects stays as it is; a tenant that is gone has no row to hang anything on. */
async function refuseState(client: pg.ClientBase, tenant: string): Promise<void> {
  const { status, held } = await directoryEntry(client, tenant);
  const restoring = `restoring tenant ${tenant.slice(0, 100)}`;
  if (held) throw new PartywallError('transition_refused', `${restoring}: it is under a legal hold, so no row may go; lift the hold first`);
  if (status === 'deleted') throw new PartywallError('transition_refused', `${restoring}: it is deleted; bring it back first`);
}

/** Given back with the connection, which is not used again. */
async function lockSession(client: pg.ClientBase, tenant: string): Promise<void> {
  await client.query('begin');
  await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
  await client.query('select pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended($1, 0))', [`${tenantLockPrefix}${tenant}`]);
  await client.query('commit');
}

/**
 * A connection of its own, closed for good afterwards: nothing of it, neither locks nor counters nor temporary tables, is left to the next one.
 *
 * @throws PartywallError transfers_busy
 */
async function onSessionOfItsOwn<Result>({ database }: Operation, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
  const { client, close } = await openTransfer(database);
  try {
    return await work(client);
  } finally {
    close(false);
  }
}
