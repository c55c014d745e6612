import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { modelFingerprint } from '../../model/fingerprint.ts';
import { applyDifference } from './apply-difference.ts';
import { changedRows, countChanges, keepOut, refusedByDatabase, type TableChange, triggersOf } from './changes.ts';
import { findConflicts } from './conflicts.ts';
import { hashTenant } from './export.ts';
import { readExport } from './read-export.ts';
import { raiseSequences } from './sequences.ts';
import { directoryEntry, inTransfer, pinTexts } from './session.ts';
import { alignTables, stageRows } from './stage.ts';
import { transferTables } from './tables.ts';

export interface ImportInput {
  /** The document, as bytes. */
  readonly source: AsyncIterable<Uint8Array>;
  /** Only says what would change. */
  readonly dryRun?: boolean;
}

export interface ImportOptions {
  readonly onProgress?: (progress: { readonly table: string; readonly rows: number }) => void;
}

export interface ImportPlan {
  readonly tenant: string;
  readonly exportedAt: string;
  readonly tables: readonly TableChange[];
  /** Triggers of the application that fire, as `schema.table: name (function)`. */
  readonly triggers: readonly string[];
}

export interface ImportReport extends ImportPlan {
  readonly applied: boolean;
  /** Of the export. */
  readonly sha256: string;
  /** Whether the tenant's rows, read again after the change, hash to the same; null where nothing was applied. */
  readonly hashEqual: boolean | null;
  /** Further rows that had to be put right because triggers or cascades had changed them. */
  readonly corrected: number;
}

/**
 * Makes the tenant's rows those of an export, by difference and in one transaction: what the export has is inserted or updated, what it has not
 * is deleted, everything else stays untouched. The tenant must be there; the export goes into the tenant it was made of. Nobody enters the
 * tenant meanwhile, and whoever is inside is waited for. Status and plan of the tenant stay what they are.
 *
 * @throws PartywallError export_invalid (damaged, forged or cut short), export_mismatch (of another schema), import_conflict (a neighbour has
 * what the tenant would need, or a constraint or trigger refuses), tenant_unknown, transition_refused (deleted, or under a legal hold), transfers_busy
 */
export async function importTenant(operation: Operation, input: ImportInput, options: ImportOptions = {}): Promise<ImportReport> {
  const reader = await readExport(input.source);
  const { id: tenant } = reader.header.tenant;
  return inTransfer(operation.database, (client) => restore(client, operation, { reader, tenant, dryRun: input.dryRun ?? false }, options));
}

interface Work {
  readonly reader: Awaited<ReturnType<typeof readExport>>;
  readonly tenant: string;
  readonly dryRun: boolean;
}

async function restore(client: pg.PoolClient, operation: Operation, { reader, tenant, dryRun }: Work, options: ImportOptions): Promise<ImportReport> {
  const { model } = operation.database;
  await refuseState(client, tenant);
  const catalog = await readCatalog(client);
  await client.query('begin isolation level read committed');
  await pinTexts(client);
  const live = await transferTables(client, model, catalog);
  const aligned = alignTables(reader.header, live, modelFingerprint(model));
  const { tables, sha256 } = await stageRows(client, reader, aligned, (table, rows) => options.onProgress?.({ table, rows }));
  operation.signal?.throwIfAborted();

  await keepOut(client, tenant);
  await refuseState(client, tenant);
  const conflicts = await findConflicts(client, { tenant, catalog, tables });
  if (conflicts.length > 0) {
    throw new PartywallError('import_conflict', `restoring tenant ${tenant}: ${conflicts[0]}`, { details: conflicts });
  }
  const plan: ImportPlan = {
    tenant,
    exportedAt: reader.header.exportedAt,
    tables: await countChanges(client, tenant, tables),
    triggers: tables.flatMap(triggersOf),
  };
  if (dryRun) {
    await client.query('rollback');
    return { ...plan, applied: false, sha256, hashEqual: null, corrected: 0 };
  }
  try {
    await raiseSequences(client, catalog, tables);
    // By the live order of references; the export's own may be an older one.
    const position = new Map(live.map(({ relation }, at) => [relation.table, at]));
    const inOrder = tables.toSorted((left, right) => (position.get(left.relation.table) ?? 0) - (position.get(right.relation.table) ?? 0));
    const { changed } = await applyDifference(client, { tenant, model, catalog, tables: inOrder, changes: plan.tables });
    const hashEqual = (await hashTenant(client, tenant, aligned)) === sha256;
    if (!hashEqual) throw new PartywallError('import_conflict', `restoring tenant ${tenant}: its rows were changed by somebody else meanwhile`);
    await appendAudit(client, operation, {
      tenant,
      action: 'tenant.import',
      details: { exportedAt: plan.exportedAt, sha256, tables: Object.fromEntries(plan.tables.map(({ table, ...counts }) => [table, counts])) },
    });
    const { command } = await client.query('commit');
    if (command !== 'COMMIT') throw new Error('the restore was rolled back where it should have been committed');
    return { ...plan, applied: true, sha256, hashEqual, corrected: Math.max(0, changed - changedRows(plan.tables)) };
  } catch (error) {
    throw refusedByDatabase(error, tenant);
  }
}

async function refuseState(client: pg.ClientBase, tenant: string): Promise<void> {
  const { status, held } = await directoryEntry(client, tenant).catch((error: unknown) => {
    if (!(error instanceof PartywallError)) throw error;
    throw new PartywallError('tenant_unknown', `restoring tenant ${tenant.slice(0, 100)}: there is none; an export goes into the tenant it was made of`);
  });
  if (held)
    throw new PartywallError('transition_refused', `restoring the rows of tenant ${tenant}: it is under a legal hold, so none may go; lift the hold first`);
  if (status === 'deleted') throw new PartywallError('transition_refused', `restoring the rows of tenant ${tenant}: it is deleted; bring it back first`);
}
