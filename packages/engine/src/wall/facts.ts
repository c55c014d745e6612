import type { Catalog, Relation } from '../catalog/catalog.ts';
import { literal } from '../db/sql.ts';
import type { TableName } from '../model/table-name.ts';

/**
 * `partywall.facts` holds what the catalog cannot show, each written in the transaction it is about: how far a backfill has come, which
 * columns are Partywall's, what contract replaced (replaced.ts), which phase the wall is in.
 */

/** Statement that records a fact beside what it is true of, in the same transaction. */
export function setFact(name: string, value: unknown): string {
  return `insert into partywall.facts (name, value) values (${literal(name)}, ${literal(JSON.stringify(value))}::jsonb) on conflict (name) do update set value = excluded.value, changed_at = now()`;
}

/** Set with the first contract and kept by a rollback of it: the bootstrap tenant must not quietly come back. */
export const bootstrapEndedFact = 'bootstrap_ended';

/** Fact that Partywall added the tenant column of a table, so that rollback never drops one that was there before. */
export function addedFact(relation: Relation): string {
  return `column:${relation.table}`;
}

/**
 * Progress of the backfill of a table: `{ block }` while it goes through it, `passed` when it has reached the end, `done` when no older
 * transaction can show another row without a tenant.
 */
export function backfillFact(table: TableName): string {
  return `backfill:${table}`;
}

/** The table is gone through again. */
export function forgetBackfill(table: TableName): string {
  return `delete from partywall.facts where name = ${literal(backfillFact(table))}`;
}

/** What passed counts as done. */
export const settleBackfills = `update partywall.facts set value = '"done"', changed_at = now() where name like 'backfill:%' and value = '"passed"'`;

export function isPassed(table: TableName, catalog: Catalog): boolean {
  const fact = catalog.runtime?.facts?.[backfillFact(table)];
  return fact === 'passed' || fact === 'done';
}

export function isSettled(catalog: Catalog): boolean {
  return !Object.entries(catalog.runtime?.facts ?? {}).some(([name, value]) => name.startsWith('backfill:') && value === 'passed');
}

/** Records that there is a quarantine, also where one was left by an earlier wall. */
export const noteQuarantineSql =
  "insert into partywall.facts (name, value) select 'quarantined', 'true' where to_regclass('partywall.quarantine') is not null on conflict (name) do nothing";
