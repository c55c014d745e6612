import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { beginOperation, finishOperation, keepDetails, type LongOperation, readDetails, readOperation, reportProgress } from '../../durable/operations.ts';
import type { Durable, Work } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { tierPromises } from '../../metering/tiers.ts';
import { directoryEntry } from '../../tenants/transfer/session.ts';
import type { RestoreFilesReport } from '../files/restore-files.ts';
import type { TenantSource } from '../tenant-source.ts';
import { holdOut, letIn } from './hold-out.ts';
import { type PreparedRestore, prepareRestore, type RestoreInput } from './prepare.ts';
import { applyRestore, type RestoreReport, refuseConflicts } from './restore.ts';
import { besideUndo, type Undoing } from './undo.ts';

/** Kind of the operation that restores a tenant from a backup. */
export const restoreKind = 'tenant.restore';

/** What is restored; what a person decides about a changed schema goes with it, so that a run after a crash decides alike. */
export interface RestoreRequest extends RestoreInput {
  readonly tenant: string;
  /** Id of the backup. */
  readonly backup: string;
  readonly reason?: string | undefined;
  /** Files too; `delete`: also removes those that the backup does not have. Default: rows alone. */
  readonly files?: 'keep' | 'delete' | undefined;
}

export interface FilesRequest {
  readonly tenant: string;
  readonly backup: string;
  readonly delete: boolean;
  readonly dryRun: boolean;
}

/** Where a restore gets what it needs. */
export interface RestoreFrom {
  /** The tenant's rows in a backup. Asked for anew in each step. */
  source(operation: Operation, request: { readonly tenant: string; readonly backup: string }): Promise<TenantSource>;
  /** Backs the tenant up as it is now; returns the id of that backup. */
  undo(operation: Operation, tenant: string, undoing: Undoing): Promise<string>;
  /** Plans, and then makes, the tenant's files those of the backup. */
  files?(operation: Operation, request: FilesRequest): Promise<RestoreFilesReport>;
}

/** A restore as it went. */
export interface FinishedRestore {
  readonly id: string;
  readonly tenant: string;
  readonly backup: string;
  /** The backup of what was there before. */
  readonly undo: string;
  readonly report: RestoreReport;
  /** Null where rows alone were restored. */
  readonly files: RestoreFilesReport | null;
  readonly elapsedMs: number;
  /** What the tenant's tier promises; null: best effort. */
  readonly rtoSeconds: number | null;
}

/**
 * Begins to restore a tenant; the operation that is returned tells how far it is. Asking for the same again while it runs, or after it failed, goes on
 * with that one.
 *
 * @throws PartywallError tenant_unknown, restore_refused (another restore of the tenant is under way)
 */
export async function beginRestore(operation: Operation, durable: Durable, { tenant, reason, ...request }: RestoreRequest): Promise<LongOperation> {
  const { pool } = operation.database;
  await directoryEntry(pool, tenant);
  const begun = await transaction(pool, (client) => beginOperation(client, operation, { kind: restoreKind, tenant, reason, request })).catch(
    (error: unknown) => {
      if (sqlState(error) !== '23505') throw error;
      throw new PartywallError('restore_refused', `restoring tenant ${tenant} from backup ${request.backup}: another restore of it is under way`, {
        cause: error,
      });
    },
  );
  await durable.start(begun);
  return begun;
}

/**
 * Restores a tenant in steps that can be run again: plan, hold out, apply beside a backup of what is there, let in. Only the third changes rows, in one
 * transaction that also writes the report down: where there is one, it has happened. What the plan staged is applied; after a crash it is staged again. A step
 * that fails lets the tenant in; a crash leaves it held out, for whoever goes on.
 */
export function restoreWork(from: RestoreFrom): Work {
  return async ({ operation, id, tenant, step }) => {
    const { pool } = operation.database;
    const request = requestOf(tenant, await readDetails(pool, id));
    const say = (what: string): Promise<void> => reportProgress(pool, id, { step: what });
    let prepared: PreparedRestore | undefined;
    try {
      await step('plan', async () => {
        if (await isApplied(operation, id)) return;
        await say('reading the backup');
        const source = await from.source(operation, request);
        prepared = await prepareRestore(operation, source, request);
        refuseConflicts(prepared.plan);
        prepared.wait();
        if (request.files) await restoreFilesOf(from, operation, request, true);
      });
      await step('hold out', async () => {
        await say('keeping everybody out');
        if (!(await isApplied(operation, id))) await holdOut(operation, tenant);
      });
      await step('apply', async () => {
        if (await isApplied(operation, id)) return;
        await say('backing up what is there, and restoring rows');
        const source = await from.source(operation, request);
        const within = (client: pg.ClientBase, report: RestoreReport): Promise<void> => keepDetails(client, id, { report });
        await besideUndo(
          async (undoing) => {
            // What a crash cut off has its undo backup already, and nobody has been inside since.
            const { undo: made } = await readDetails(pool, id);
            if (typeof made === 'string') return made;
            const undo = await from.undo(operation, tenant, { ...undoing, catalog: prepared?.catalog });
            await keepDetails(pool, id, { undo });
            return undo;
          },
          (until) => applyRestore(operation, source, request, { prepared, until, within }),
        );
      });
      await step('files', async () => {
        if (!request.files || (await readDetails(pool, id))['files'] !== undefined) return;
        await say('restoring files');
        await keepDetails(pool, id, { files: await restoreFilesOf(from, operation, request, false) });
      });
      await step('let in', async () => {
        await letIn(operation, tenant);
        await finishOperation(pool, id);
      });
    } catch (error) {
      prepared?.close();
      await letIn(operation, tenant);
      // Whoever is let in writes: the next try needs an undo backup of its own.
      if (!(await isApplied(operation, id))) await keepDetails(pool, id, { undo: undefined });
      throw error;
    } finally {
      prepared?.close();
    }
  };
}

function restoreFilesOf(from: RestoreFrom, operation: Operation, { tenant, backup, files }: RestoreRequest, dryRun: boolean): Promise<RestoreFilesReport> {
  if (from.files) return from.files(operation, { tenant, backup, delete: files === 'delete', dryRun });
  throw new PartywallError('restore_refused', `restoring files of tenant ${tenant}: there is no archive to take them from`);
}

/** @throws PartywallError operation_unknown, restore_refused (it has not come to its end) */
export async function readRestore(operation: Operation, id: string): Promise<FinishedRestore> {
  const { pool } = operation.database;
  const { kind, tenant, startedAt, finishedAt } = await readOperation(pool, id);
  const details = await readDetails(pool, id);
  const { undo, report, files } = details;
  if (kind !== restoreKind || tenant === null || typeof undo !== 'string' || !isReport(report))
    throw new PartywallError('restore_refused', `reading restore ${id}: it changed nothing, or is no restore`);
  const { backup } = requestOf(tenant, details);
  const { rows } = await pool.query<{ tier: keyof typeof tierPromises }>(
    'select p.tier from partywall_control.directory d join partywall_control.plans p on p.name = d.plan where d.tenant_id = $1',
    [tenant],
  );
  const elapsedMs = (finishedAt ?? operation.database.clock()).getTime() - startedAt.getTime();
  // Written by `restoreWork` alone.
  return {
    id,
    tenant,
    backup,
    undo,
    report,
    files: (files as RestoreFilesReport | undefined) ?? null,
    elapsedMs,
    rtoSeconds: rows[0] ? tierPromises[rows[0].tier].rtoSeconds : null,
  };
}

async function isApplied({ database: { pool } }: Operation, id: string): Promise<boolean> {
  return isReport((await readDetails(pool, id))['report']);
}

/** Written by `restoreWork` alone. */
function isReport(value: unknown): value is RestoreReport {
  return typeof value === 'object' && value !== null && 'applied' in value;
}

function requestOf(tenant: string, { request }: Readonly<Record<string, unknown>>): RestoreRequest {
  if (typeof request !== 'object' || request === null || !('backup' in request) || typeof request.backup !== 'string')
    throw new PartywallError('restore_refused', `restoring tenant ${tenant}: the operation does not say from which backup`);
  // Written by `beginRestore` alone.
  return { ...(request as Omit<RestoreRequest, 'tenant'>), tenant };
}
