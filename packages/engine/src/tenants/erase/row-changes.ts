import type pg from 'pg';
import { transaction } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import type { ErasureTable } from './erasure-plan.ts';

/**
 * Proof that a deletion touched no neighbour. PostgreSQL counts what a transaction does to each table, cascades and triggers included
 * (`pg_stat_xact_*`); it counts what the session did before too, so the difference to the start of the transaction is what counts. A group of
 * tables is deleted after all that refer to it, so nothing but its own rows may change. What changes beside them (an application's
 * trigger, a cascade within the group) has to be the tenant's: then the tenant's rows of that table must be fewer by exactly as many.
 */
export interface RowChanges {
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

export type ChangesByTable = ReadonlyMap<TableName, RowChanges>;

/** What the current transaction and, before it, the session did to the tables; see `difference`. */
export async function readChanges(client: pg.ClientBase, tables: readonly ErasureTable[]): Promise<ChangesByTable> {
  const owners = new Map(tables.flatMap(({ table, parts }) => parts.map(({ oid }) => [oid, table] as const)));
  const { rows } = await client.query<{ oid: number; inserted: string; updated: string; deleted: string }>(
    `select c.oid, pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) as inserted, pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) as updated,
  pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid) as deleted from pg_catalog.unnest($1::oid[]) c(oid)`,
    [[...owners.keys()]],
  );
  const changes = new Map<TableName, RowChanges>();
  for (const row of rows) {
    const table = owners.get(row.oid);
    if (table === undefined) continue;
    const sum = changes.get(table) ?? { inserted: 0, updated: 0, deleted: 0 };
    changes.set(table, {
      inserted: sum.inserted + Number(row.inserted),
      updated: sum.updated + Number(row.updated),
      deleted: sum.deleted + Number(row.deleted),
    });
  }
  return changes;
}

/** Changes since `before`; tables that did not change are left out. */
export function difference(before: ChangesByTable, after: ChangesByTable): ChangesByTable {
  const changed = new Map<TableName, RowChanges>();
  for (const [table, now] of after) {
    const then = before.get(table) ?? { inserted: 0, updated: 0, deleted: 0 };
    const delta = { inserted: now.inserted - then.inserted, updated: now.updated - then.updated, deleted: now.deleted - then.deleted };
    if (delta.inserted !== 0 || delta.updated !== 0 || delta.deleted !== 0) changed.set(table, delta);
  }
  return changed;
}

/** Tables where more happened than the deletion itself: these have to be counted. */
export function unexplained(changes: ChangesByTable, deleted: ReadonlyMap<TableName, number>): TableName[] {
  return [...changes].flatMap(([table, { inserted, updated, deleted: gone }]) =>
    inserted === 0 && updated === 0 && gone === (deleted.get(table) ?? 0) ? [] : [table],
  );
}

/**
 * Whether what happened to a table was the tenant's alone. Reads the whole table for rows of others that this transaction wrote, so it is
 * asked where something unexplained happened only.
 *
 * @throws PartywallError erasure_refused
 */
export async function assertOwn(
  client: pg.ClientBase,
  { table, column }: ErasureTable,
  tenant: string,
  counts: { readonly before: number; readonly after: number; readonly changes: RowChanges },
): Promise<void> {
  const { rowCount: foreign } = await client.query(
    `select from ${quoted(table)} t where t.xmin = pg_catalog.pg_current_xact_id()::xid and t.${ident(column)} is distinct from $1 limit 1`,
    [tenant],
  );
  const { before, after, changes } = counts;
  if (foreign === 0 && before - after === changes.deleted - changes.inserted) return;
  throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)}: the deletion reached rows of ${table} that belong to another tenant`, {
    details: [`${table}: ${changes.deleted} rows deleted, ${changes.updated} updated, of which ${before - after} were the tenant's`],
    hint: 'a foreign key or a trigger leads from the tenant to its neighbours; `partywall verify` names it. Nothing of this step was kept',
  });
}

export async function countRows(client: pg.ClientBase, { table, column }: ErasureTable, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: string }>(`select count(*) from ${quoted(table)} t where t.${ident(column)} = $1`, [tenant]);
  return Number(rows[0]?.count ?? 0);
}

/** Rows that the tenant has in each table. A table may be large, so the pool's limit on a statement does not hold here. */
export function countTenant(pool: pg.Pool, tables: readonly ErasureTable[], tenant: string): Promise<ReadonlyMap<TableName, number>> {
  return transaction(pool, async (client) => {
    await client.query('set local statement_timeout = 0');
    const counts = new Map<TableName, number>();
    for (const table of tables) counts.set(table.table, await countRows(client, table, tenant));
    return counts;
  });
}
