import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import { sqlState } from '../../db/connect.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { modelFingerprint } from '../../model/fingerprint.ts';
import { tenantLockPrefix } from '../../wall/runtime.ts';
import { applyDifference } from './apply-difference.ts';
import { findConflicts } from './conflicts.ts';
import { countsSql, type StagedTable } from './difference-sql.ts';
import { hashTenant } from './export.ts';
import { readExport } from './read-export.ts';
import { raiseSequences } from './sequences.ts';
import { directoryEntry, openTransfer, pinTexts } from './session.ts';
import { alignTables, stageRows } from './stage.ts';
import { transferTables } from './tables.ts';

/** Whoever is inside the tenant may finish for so long; then the restore gives up and nothing has changed. */
const fenceTimeoutMs = 15_000;

export interface ImportInput {
  /** The document, as bytes. */
  readonly source: AsyncIterable<Uint8Array>;
  /** Only says what would change. */
  readonly dryRun?: boolean;
}

export interface ImportOptions {
  readonly onProgress?: (progress: { readonly table: string; readonly rows: number }) => void;
}

export interface TableChange {
  readonly table: string;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
  readonly unchanged: number;
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
  const { client, close } = await openTransfer(operation.database);
  try {
    const report = await restore(client, operation, { reader, tenant, dryRun: input.dryRun ?? false }, options);
    close(true);
    return report;
  } catch (error) {
    // What the server refused leaves a connection that can be used again.
    const usable =
      error instanceof PartywallError &&
      (await client.query('rollback').then(
        () => true,
        () => false,
      ));
    close(usable);
    throw error;
  }
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

  await fence(client, tenant);
  await refuseState(client, tenant);
  const conflicts = await findConflicts(client, tenant, catalog, tables);
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
    const net = new Map(plan.tables.map(({ table, inserted, deleted }) => [table, inserted - deleted]));
    const { changed } = await applyDifference(client, { tenant, model, catalog, tables: inOrder, net });
    const planned = plan.tables.reduce((sum, { inserted, updated, deleted }) => sum + inserted + updated + deleted, 0);
    const hashEqual = (await hashTenant(client, tenant, aligned)) === sha256;
    if (!hashEqual) throw new PartywallError('import_conflict', `restoring tenant ${tenant}: its rows were changed by somebody else meanwhile`);
    await appendAudit(client, operation, {
      tenant,
      action: 'tenant.import',
      details: { exportedAt: plan.exportedAt, sha256, tables: Object.fromEntries(plan.tables.map(({ table, ...counts }) => [table, counts])) },
    });
    const { command } = await client.query('commit');
    if (command !== 'COMMIT') throw new Error('the restore was rolled back where it should have been committed');
    return { ...plan, applied: true, sha256, hashEqual, corrected: Math.max(0, changed - planned) };
  } catch (error) {
    throw refusal(error, tenant);
  }
}

/** Keeps everybody out of the tenant until the transaction ends, whatever becomes of this process. Entering takes the same lock shared. */
async function fence(client: pg.ClientBase, tenant: string): Promise<void> {
  await client.query(`set local lock_timeout = ${fenceTimeoutMs}`);
  await client.query('select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))', [`${tenantLockPrefix}${tenant}`]);
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

async function countChanges(client: pg.ClientBase, tenant: string, tables: readonly StagedTable[]): Promise<TableChange[]> {
  const changes: TableChange[] = [];
  for (const table of tables) {
    const { rows } = await client.query<Record<'inserted' | 'updated' | 'deleted' | 'unchanged', string>>(countsSql(table), [tenant]);
    const count = (kind: 'inserted' | 'updated' | 'deleted' | 'unchanged'): number => Number(rows[0]?.[kind] ?? 0);
    changes.push({
      table: table.relation.table,
      inserted: count('inserted'),
      updated: count('updated'),
      deleted: count('deleted'),
      unchanged: count('unchanged'),
    });
  }
  return changes;
}

function triggersOf({ relation }: StagedTable): string[] {
  return relation.triggers
    .filter((trigger) => trigger.enabled !== 'disabled' && trigger.enabled !== 'replica' && !/^partywall(?:_control)?\./.test(trigger.function))
    .map((trigger) => `${relation.table}: ${trigger.name} (${trigger.function})`);
}

/** What the rows themselves cause: constraints, quotas, triggers that raise. The server's own troubles stay what they are. */
function refusal(error: unknown, tenant: string): unknown {
  const state = sqlState(error);
  if (!(error instanceof Error) || state === undefined || !/^(?:22|23|27|44|P0|PW|0A|42)/.test(state)) return error;
  const named = ['table', 'column', 'constraint'].flatMap((part) => {
    const name: unknown = Reflect.get(error, part);
    return typeof name === 'string' ? [`${part} ${name}`] : [];
  });
  // The words of a trigger and of a quota are made to be read; those of a constraint may hold values.
  const what = /^P[0W]/.test(state) ? error.message.slice(0, 200) : [...named, `SQLSTATE ${state}`].join(', ');
  return new PartywallError('import_conflict', `restoring tenant ${tenant}: the database refuses: ${what}`, { cause: error });
}
