import type pg from 'pg';
import { transaction } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';
import { reportProgress } from '../../durable/operations.ts';
import { PartywallError } from '../../errors.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import type { ErasureGroup, ErasurePlan, ErasureTable } from './erasure-plan.ts';
import { assertOwn, countRows, difference, readChanges, unexplained } from './row-changes.ts';

/** Rows of one transaction: short enough that its locks and its WAL disturb nobody. */
const batchRowsMax = 5_000;

interface Deletion {
  readonly pool: pg.Pool;
  readonly tenant: string;
  readonly plan: ErasurePlan;
  /** The operation that progress is reported to. */
  readonly id: string;
}

/** Deletes the tenant's rows of a group until none is left, in batches where foreign keys allow it. Each transaction proves what it did. */
export async function deleteGroup(deletion: Deletion, group: ErasureGroup): Promise<void> {
  const watched = new Set<TableName>();
  const step = `deleting ${group.tables.map(({ table }) => table).join(', ')}`;
  for (;;) {
    const gone = await attempt(deletion, group, watched, step);
    if (gone === 0) return;
  }
}

async function attempt({ pool, tenant, plan, id }: Deletion, group: ErasureGroup, watched: Set<TableName>, step: string): Promise<number> {
  for (;;) {
    try {
      return await transaction(pool, async (client) => {
        const gone = await deleteProven(client, plan, group, tenant, watched);
        await reportProgress(client, id, { step, done: gone });
        return gone;
      });
    } catch (error) {
      if (!(error instanceof Unexplained)) throw error;
      for (const table of error.tables) watched.add(table);
    }
  }
}

/** More happened than the deletion itself: the transaction is tried again with these tables counted. */
class Unexplained extends Error {
  readonly tables: readonly TableName[];

  constructor(tables: readonly TableName[]) {
    super(`more happened to ${tables.join(', ')} than was asked for`);
    this.tables = tables;
  }
}

/**
 * Deletes one batch, or the whole group, and proves that nothing of another tenant changed. Returns how many rows it deleted.
 *
 * @param watched tables that are counted before and after
 * @throws PartywallError erasure_refused; an internal error where a table outside `watched` changed
 */
async function deleteProven(client: pg.ClientBase, plan: ErasurePlan, group: ErasureGroup, tenant: string, watched: ReadonlySet<TableName>): Promise<number> {
  await prepare(client, plan);
  const tables = plan.groups.flatMap((each) => each.tables);
  const counted = tables.filter(({ table }) => watched.has(table));
  const before = await counts(client, counted, tenant);
  const baseline = await readChanges(client, tables);
  const deleted = group.whole ? await deleteWhole(client, group, tenant) : await deleteBatch(client, group, tenant);
  const changes = difference(baseline, await readChanges(client, tables));
  const open = unexplained(changes, deleted);
  const unwatched = open.filter((table) => !watched.has(table));
  if (unwatched.length > 0) throw new Unexplained(unwatched);
  const after = await counts(client, counted, tenant);
  for (const table of counted) {
    const change = changes.get(table.table);
    if (change) await assertOwn(client, table, tenant, { before: before.get(table.table) ?? 0, after: after.get(table.table) ?? 0, changes: change });
  }
  return [...deleted.values()].reduce((sum, count) => sum + count, 0);
}

/**
 * The same for the last group, inside the transaction that ends the erasure: there is no second try, so all its tables are counted.
 */
export async function deleteLastGroup(client: pg.ClientBase, plan: ErasurePlan, tenant: string): Promise<void> {
  const last = plan.groups.at(-1);
  if (!last) return;
  const everything = new Set(plan.groups.flatMap(({ tables }) => tables.map(({ table }) => table)));
  await deleteProven(client, plan, { ...last, whole: true }, tenant, everything);
}

/** A batch may take longer than a request, and without counters there is no proof. */
async function prepare(client: pg.ClientBase, { searchPath }: ErasurePlan): Promise<void> {
  await client.query(searchPath);
  const { rows } = await client.query<{ counts: boolean }>(
    "select pg_catalog.current_setting('track_counts')::bool as counts, pg_catalog.set_config('statement_timeout', '0', true)",
  );
  if (rows[0]?.counts) return;
  throw new PartywallError('erasure_refused', 'proving what a deletion does: the server does not count changes', { hint: 'set track_counts = on' });
}

async function deleteBatch(client: pg.ClientBase, { tables }: ErasureGroup, tenant: string): Promise<Map<TableName, number>> {
  for (const { table, column, parts } of tables) {
    for (const part of parts) {
      const name = quoted(part.table);
      const { rowCount } = await client.query(
        `delete from only ${name} where ctid = any (array(select t.ctid from only ${name} t where t.${ident(column)} = $1 limit $2))`,
        [tenant, batchRowsMax],
      );
      if (rowCount) return new Map([[table, rowCount]]);
    }
  }
  return new Map();
}

/** One statement for all tables: what refers to each other is asked for at its end only. */
async function deleteWhole(client: pg.ClientBase, { tables }: ErasureGroup, tenant: string): Promise<Map<TableName, number>> {
  const parts = tables.flatMap(({ table, column, parts: each }) => each.map((part) => ({ table, column, part: part.table })));
  const deletions = parts.map(({ column, part }, at) => `d${at} as (delete from only ${quoted(part)} t where t.${ident(column)} = $1 returning 1)`);
  const sums = parts.map((_, at) => `(select count(*) from d${at}) as d${at}`);
  const { rows } = await client.query<Record<string, string>>(`with ${deletions.join(', ')} select ${sums.join(', ')}`, [tenant]);
  const deleted = new Map<TableName, number>();
  for (const [at, { table }] of parts.entries()) deleted.set(table, (deleted.get(table) ?? 0) + Number(rows[0]?.[`d${at}`] ?? 0));
  return deleted;
}

async function counts(client: pg.ClientBase, tables: readonly ErasureTable[], tenant: string): Promise<Map<TableName, number>> {
  const found = new Map<TableName, number>();
  for (const table of tables) found.set(table.table, await countRows(client, table, tenant));
  return found;
}
