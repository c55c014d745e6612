import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import type { TableName } from '../../model/table-name.ts';
import { assertBound, boundTo, openStages } from './bound.ts';
import { changedRows, countChanges, netOf, type TableChange } from './changes.ts';
import { findMovedConflicts } from './conflicts.ts';
import { deleteSql, insertSql, type StagedTable, unlinkSql, updateSql } from './difference-sql.ts';
import { type DoomedTable, deleteDoomedSql, loosenSql, markDoomed } from './doomed.ts';
import { restoringSetting } from './restoring-sql.ts';
import { type CountsByTable, countOthers, proveRows, type RowCounts, type RowProof, readCounts } from './row-proof.ts';

/** A second round puts right what cascades and triggers of the first have changed; what needs more does not settle. */
const roundsMax = 3;

export interface Difference {
  readonly tenant: string;
  readonly model: TenancyModel;
  readonly catalog: Catalog;
  /** In the order of their references. */
  readonly tables: readonly StagedTable[];
  /** What the staged rows change, counted while nobody else could change the tenant's. */
  readonly changes: readonly TableChange[];
}

export interface AppliedDifference {
  /** Rows that the statements changed; more than planned where triggers and cascades had to be put right. */
  readonly changed: number;
  readonly proof: RowProof;
}

interface Statement {
  readonly table: TableName;
  readonly kind: keyof RowCounts;
  readonly sql: string;
}

/**
 * Changes the tenant's rows in the transaction of `client` until they are the staged ones, as a role that is bound to the tenant, and proves that
 * nothing else changed.
 *
 * What is new is inserted before what is gone is deleted, so that nothing refers into the void at any time. Where unique values move between
 * rows that cannot be, and the gone and the moved are deleted first, with what must refer to them (`doomed.ts`); what cascades take along comes
 * back with the same round or the next.
 *
 * @throws PartywallError import_conflict, control_missing
 */
export async function applyDifference(client: pg.ClientBase, difference: Difference): Promise<AppliedDifference> {
  const { tenant, model, catalog, tables, changes } = difference;
  await assertBound(client, model, tables);
  await openStages(
    client,
    model,
    tables.map(({ stage }) => stage),
  );
  await client.query(`select set_config('${restoringSetting}', 'on', true)`);
  const bound = boundTo(client, model, tenant);
  await bound('set constraints all deferred');
  const counted = await readCounts(client);
  const others = await countOthers(client, counted, { tenant, model, catalog, restored: tables.map(({ relation }) => relation.table) });

  let statements = insertsFirst(tables, changes);
  let roomMade = false;
  let baseline: CountsByTable = counted;
  let asked = new Map<TableName, RowCounts>();
  let total = 0;
  for (let round = 1; round <= roundsMax; round += 1) {
    await client.query('savepoint round');
    const before = new Map(asked);
    const atStart = round === 1 ? counted : await readCounts(client);
    let changed = 0;
    try {
      for (const statement of statements) changed += note(asked, statement, await bound(statement.sql));
      // As the same role: a trigger that was put off runs with the rights of whoever lets it run.
      await bound('set constraints all immediate');
      await bound('set constraints all deferred');
    } catch (error) {
      if (!wantsRoom(error) || roomMade) throw error;
      await client.query('rollback to savepoint round');
      const conflicts = await findMovedConflicts(client, tenant, catalog, tables);
      if (conflicts.length > 0) throw new PartywallError('import_conflict', `restoring tenant ${tenant}: ${conflicts[0]}`, { details: conflicts });
      statements = deletesFirst(tables, await markDoomed(client, { tenant, model, tables }));
      roomMade = true;
      // What was rolled back stays counted; what an earlier round did stays done.
      baseline = shifted(baseline, atStart, await readCounts(client));
      asked = before;
      continue;
    }
    await client.query('release savepoint round');
    total += changed;
    // Of the rows as they are now: what made room came back by its key, and must not go again.
    const left = await countChanges(client, tenant, tables);
    if (changedRows(left) === 0) {
      const proof = await proveRows(client, baseline, { tenant, model, catalog, asked, net: netOf(changes), others });
      await client.query(`select set_config('${restoringSetting}', 'off', true)`);
      return { changed: total, proof };
    }
    statements = insertsFirst(tables, left);
  }
  throw new PartywallError('import_conflict', `restoring tenant ${tenant}: its rows do not settle; a trigger of the application keeps changing them`);
}

/** Only those that have rows to change. */
function insertsFirst(tables: readonly StagedTable[], changes: readonly TableChange[]): Statement[] {
  const counts = new Map(changes.map((change) => [change.table, change]));
  const those = (wants: (change: TableChange, table: StagedTable) => boolean): StagedTable[] =>
    tables.filter((table) => {
      const change = counts.get(table.relation.table);
      return change !== undefined && wants(change, table);
    });
  return [
    ...inserts(those(({ inserted }) => inserted > 0)),
    // References to what comes later are inserted as NULL.
    ...updates(those(({ inserted, updated }, { deferred }) => updated > 0 || (inserted > 0 && deferred.length > 0))),
    ...deletes(those(({ deleted }) => deleted > 0)),
  ];
}

function deletesFirst(tables: readonly StagedTable[], doomed: readonly DoomedTable[]): Statement[] {
  return [
    ...doomed.flatMap((each) => statement(each.table, 'updated', loosenSql(each, doomed))),
    ...doomed.toReversed().flatMap((each) => statement(each.table, 'deleted', deleteDoomedSql(each))),
    ...inserts(tables),
    ...updates(tables),
  ];
}

/** The root's own row is there, and stays. */
function inserts(tables: readonly StagedTable[]): Statement[] {
  return tables.flatMap((table) => (table.isRoot ? [] : statement(table, 'inserted', insertSql(table))));
}

function updates(tables: readonly StagedTable[]): Statement[] {
  return tables.flatMap((table) => statement(table, 'updated', updateSql(table)));
}

function deletes(tables: readonly StagedTable[]): Statement[] {
  const backwards = tables.toReversed();
  return [
    ...backwards.flatMap((table) => statement(table, 'updated', unlinkSql(table))),
    ...backwards.flatMap((table) => (table.isRoot ? [] : statement(table, 'deleted', deleteSql(table)))),
  ];
}

function statement({ relation: { table } }: StagedTable, kind: Statement['kind'], sql: string | undefined): Statement[] {
  return sql === undefined ? [] : [{ table, kind, sql }];
}

/** Adds what a statement changed to what was asked for. */
function note(asked: Map<TableName, RowCounts>, { table, kind }: Statement, changed: number): number {
  const sum = asked.get(table) ?? { inserted: 0, updated: 0, deleted: 0 };
  asked.set(table, { ...sum, [kind]: sum[kind] + changed });
  return changed;
}

/** Takes out of a baseline what a savepoint counted that was rolled back. */
function shifted(baseline: CountsByTable, from: CountsByTable, to: CountsByTable): CountsByTable {
  const counts = new Map<TableName, RowCounts>();
  for (const [table, now] of to) {
    const base = baseline.get(table);
    const then = from.get(table);
    const plus = (kind: keyof RowCounts): number => (base?.[kind] ?? 0) + now[kind] - (then?.[kind] ?? 0);
    counts.set(table, { inserted: plus('inserted'), updated: plus('updated'), deleted: plus('deleted') });
  }
  return counts;
}

/** unique_violation, exclusion_violation: another row still has the value. */
function wantsRoom(error: unknown): boolean {
  const state = sqlState(error);
  return state === '23505' || state === '23P01';
}
