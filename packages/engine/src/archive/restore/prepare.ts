import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { countChanges, type TableChange, triggersOf } from '../../tenants/transfer/changes.ts';
import { findConflicts } from '../../tenants/transfer/conflicts.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { directoryEntry, openTransfer, pinTexts, transfersUnderWay } from '../../tenants/transfer/session.ts';
import { transferTables } from '../../tenants/transfer/tables.ts';
import type { TenantSource } from '../tenant-source.ts';
import { type AlignChoices, alignSource } from './align.ts';
import { type ForgottenRow, forgetRows } from './forget.ts';
import { schemaMark } from './schema-mark.ts';
import { stageSource } from './stage-source.ts';

const detailsMax = 50;
/** Of the few sessions for work on whole tenants, those that may wait for an undo backup; whoever comes later stages once more. */
const waitingMax = 2;

export interface RestoreInput extends AlignChoices {
  /** `hash` also compares what every other tenant has, before and after. Default: `counters`, which is proof enough and reads no neighbour. */
  readonly prove?: 'counters' | 'hash' | undefined;
  /** Rows that were erased since and must not come back. */
  readonly forget?: readonly ForgottenRow[] | undefined;
}

export interface PrepareOptions {
  readonly onProgress?: (progress: { readonly table: string; readonly rows: number }) => void;
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

/**
 * A restore that was looked at. The rows of the source wait in temporary tables, in a session of its own and outside of any transaction, so that they
 * need not come twice.
 */
export interface PreparedRestore {
  readonly plan: RestorePlan;
  readonly client: pg.PoolClient;
  readonly catalog: Catalog;
  readonly tables: readonly StagedTable[];
  /** Whether what was staged can still be gone by: the session lives, and no table was changed since. */
  isCurrent(): Promise<boolean>;
  /** Lets it wait, unless as many wait as may. */
  wait(): void;
  /** Ends the session for good: nothing of it, neither locks nor counters nor temporary tables, is left to the next one. Can be called again. */
  close(): void;
}

/**
 * Stages the source, and looks at what that changes. Keeps nobody out, so that what the tenant writes meanwhile is not in it.
 *
 * @throws PartywallError tenant_unknown, transition_refused (deleted, or under a legal hold), restore_refused (the schema has changed beyond what can be
 * derived: a list), transfers_busy, and what the source throws
 */
export async function prepareRestore(
  operation: Operation,
  source: TenantSource,
  input: RestoreInput = {},
  options: PrepareOptions = {},
): Promise<PreparedRestore> {
  const { database } = operation;
  const { client, close: closeTransfer } = await openTransfer(database);
  let closed = false;
  const close = (): void => {
    closed = true;
    closeTransfer(false);
  };
  try {
    // Before the catalogs: what changes between the two makes another one.
    const mark = await schemaMark(client);
    const catalog = await readCatalog(client);
    // Nothing but temporary tables is committed, which need not outlive the server.
    await client.query('begin isolation level read committed; set local synchronous_commit = off');
    const found = await look(client, operation, source, { input, options, catalog });
    await client.query('commit');
    return {
      ...found,
      client,
      catalog,
      isCurrent: async () => !closed && (await schemaMark(client).catch(() => undefined)) === mark,
      wait: () => {
        if (transfersUnderWay(database) > waitingMax) close();
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

interface Given {
  readonly input: RestoreInput;
  readonly options: PrepareOptions;
  readonly catalog: Catalog;
}

async function look(
  client: pg.PoolClient,
  operation: Operation,
  source: TenantSource,
  { input, options, catalog }: Given,
): Promise<Pick<PreparedRestore, 'plan' | 'tables'>> {
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
  const { signal } = operation;
  const staged = await stageSource(client, { tenant, source, tables: aligned, until: 'session', signal, onTable: options.onProgress });
  const forgotten = await forgetRows(client, staged, input.forget ?? []);
  const tables = forgotten === 0 ? staged : await recounted(client, staged);
  const changes = await countChanges(client, tenant, tables);
  const plan: RestorePlan = {
    tenant,
    source: source.description,
    at: source.at.toISOString(),
    tables: changes,
    notes,
    triggers: tables.flatMap(triggersOf),
    conflicts: await findConflicts(client, { tenant, catalog, tables, changes }),
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
export async function refuseState(client: pg.ClientBase, tenant: string): Promise<void> {
  const { status, held } = await directoryEntry(client, tenant);
  const restoring = `restoring tenant ${tenant.slice(0, 100)}`;
  if (held) throw new PartywallError('transition_refused', `${restoring}: it is under a legal hold, so no row may go; lift the hold first`);
  if (status === 'deleted') throw new PartywallError('transition_refused', `${restoring}: it is deleted; bring it back first`);
}
