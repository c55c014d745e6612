import type pg from 'pg';
import { ident, literal } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { only } from '../../tenants/transfer/tables.ts';
import { type CloneIdentity, type Filled, fillSql } from './fill-sql.ts';
import type { IdMap } from './id-maps.ts';
import type { CloneTable, ColumnFill } from './plan-clone.ts';

/**
 * Pages of a staged table that go in one statement, 64 MB: the server keeps a question for each row and foreign key in memory until its statement
 * ends, so a statement has a bound and a table has none.
 */
const batchPages = 8_192;

export interface Insertion {
  readonly tables: readonly CloneTable[];
  readonly staged: readonly StagedTable[];
  readonly maps: readonly IdMap[];
  readonly identity: CloneIdentity;
  /** Columns of the root that are left to their defaults. */
  readonly leave?: ReadonlySet<string>;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly table: string; readonly rows: number }) => void) | undefined;
}

/** Rows written by table: what came, and how many of them were updated because they had to wait for a row they refer to. */
export interface Inserted {
  readonly rows: number;
  readonly updated: number;
}

/** Inserts the staged rows as the plan fills them, each table after what it refers to. */
export async function insertRows(client: pg.ClientBase, insertion: Insertion): Promise<Map<string, Inserted>> {
  const inserted = new Map<string, Inserted>();
  for (const each of eachStaged(insertion)) {
    insertion.signal?.throwIfAborted();
    const rows = await insertTable(client, each, insertion);
    inserted.set(each.staged.relation.table, { rows, updated: 0 });
    insertion.onProgress?.({ table: each.staged.relation.table, rows });
  }
  for (const each of eachStaged(insertion)) {
    if (each.plan.deferred.length === 0) continue;
    const { rowCount } = await client.query(updateSql(each, insertion));
    const before = inserted.get(each.staged.relation.table);
    if (before) inserted.set(each.staged.relation.table, { ...before, updated: rowCount ?? 0 });
  }
  return inserted;
}

interface Each {
  readonly plan: CloneTable;
  readonly staged: StagedTable;
}

function eachStaged({ tables, staged }: Insertion): Each[] {
  return tables.flatMap((plan) => {
    const found = staged.find(({ relation }) => relation.table === plan.table.relation.table);
    return found ? [{ plan, staged: found }] : [];
  });
}

async function insertTable(client: pg.ClientBase, each: Each, insertion: Insertion): Promise<number> {
  const { plan, staged } = each;
  const statement = insertSql(each, insertion);
  const { rows: sizes } = await client.query<{ pages: number }>(
    "select (pg_catalog.pg_relation_size($1::regclass) / pg_catalog.current_setting('block_size')::int)::int as pages",
    [staged.stage],
  );
  const pages = sizes[0]?.pages ?? 0;
  if (plan.whole || pages <= batchPages) return (await client.query(statement)).rowCount ?? 0;
  let rows = 0;
  for (let page = 0; page < pages; page += batchPages) {
    insertion.signal?.throwIfAborted();
    const { rowCount } = await client.query(`${statement} where s.ctid >= '(${page},0)'::tid and s.ctid < '(${page + batchPages},0)'::tid`);
    rows += rowCount ?? 0;
    insertion.onProgress?.({ table: staged.relation.table, rows });
  }
  return rows;
}

function insertSql({ plan, staged }: Each, insertion: Insertion): string {
  const columns = plan.columns.filter(({ name }) => !(staged.isRoot && insertion.leave?.has(name)));
  const filled = columns.map((column, at) => (plan.deferred.includes(column.name) ? { expression: 'null', joins: [] } : fill(plan, column, at, insertion)));
  return `insert into ${quoted(staged.relation.table)} (${columns.map(({ name }) => ident(name)).join(', ')}) overriding system value
select ${filled.map(({ expression }) => expression).join(', ')} from ${staged.stage} s ${filled.flatMap(({ joins }) => joins).join(' ')}`;
}

/** Sets what had to wait. Rows are found by their new keys. */
function updateSql({ plan, staged }: Each, insertion: Insertion): string {
  const wanted = plan.columns.filter(({ name }) => plan.deferred.includes(name));
  const keys = plan.columns.filter(({ name }) => staged.key.includes(name));
  const filled = [...keys, ...wanted].map((column, at) => ({ column, ...fill(plan, column, at, insertion) }));
  const values = filled.map(({ expression }, at) => `${expression} as v${at}`).join(', ');
  const there = wanted.map(({ name }) => `s.${ident(name)} is not null`).join(' or ');
  const set = wanted.map(({ name }, at) => `${ident(name)} = f.v${keys.length + at}`).join(', ');
  const match = keys.map(({ name }, at) => `t.${ident(name)} = f.v${at}`).join(' and ');
  return `update ${only(staged.relation)} t set ${set}
from (select ${values} from ${staged.stage} s ${filled.flatMap(({ joins }) => joins).join(' ')} where ${there}) f
where t.${ident(staged.tenantColumn)} = ${literal(insertion.identity.key ?? '')} and ${match}`;
}

/** Takes out what triggers of the application have added: a clone has what its source has. */
export async function removeStrangers(client: pg.ClientBase, insertion: Insertion): Promise<void> {
  for (const each of eachStaged(insertion).reverse()) {
    const { staged } = each;
    const mine = `t.${ident(staged.tenantColumn)} = ${literal(insertion.identity.key ?? '')}`;
    const { rows } = await client.query<{ count: string }>(`select count(*) from ${only(staged.relation)} t where ${mine}`);
    const keys = each.plan.columns.filter(({ name }) => staged.key.includes(name));
    if (Number(rows[0]?.count ?? 0) === staged.rows || keys.length === 0) continue;
    const filled = keys.map((column, at) => ({ column, ...fill(each.plan, column, at, insertion) }));
    const match = filled.map(({ column, expression }) => `t.${ident(column.name)} = ${expression}`).join(' and ');
    await client.query(`delete from ${only(staged.relation)} t where ${mine}
and not exists (select from ${staged.stage} s ${filled.flatMap(({ joins }) => joins).join(' ')} where ${match})`);
  }
}

function fill({ table }: CloneTable, column: ColumnFill, at: number, { maps, identity }: Insertion): Filled {
  return fillSql(table.relation.table, column, { at, maps, identity });
}
