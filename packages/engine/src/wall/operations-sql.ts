import { dollarQuote, ident, literal } from '../db/sql.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import type { WantedTable, WantedWall } from './shape.ts';

/**
 * What an operator works with beside the wall: `recovery_map` (proposals that give stray rows an owner), `demo_seed_log` (what a seed
 * created, so that it can be undone) and the view `orphaned_data_summary` (rows that have no tenant, an unknown one, or a parent of
 * another). Idempotent, and the same text before and after the wall is built: the checks are made from tables and references,
 * not from what their constraints look like today.
 *
 * The summary has no row when all is well. Whoever reads it needs SELECT on it, EXECUTE on `partywall.orphaned_rows()` and a role
 * that row level security does not bind; a bound role gets an error instead of counts that are too low.
 */
export function operationsSql(wanted: WantedWall): string[] {
  return [
    `create table if not exists partywall.recovery_map (
  id bigint generated always as identity primary key,
  entity_table text not null,
  entity_id text not null,
  match_method text not null,
  match_confidence numeric(5, 2) not null check (match_confidence between 0 and 100),
  proposed_fix jsonb not null,
  status text not null default 'pending' check (status in ('pending', 'approved', 'applied', 'rejected', 'failed')),
  error text,
  created_at timestamptz not null default now(),
  decided_by text,
  decided_at timestamptz,
  unique (entity_table, entity_id, match_method)
)`,
    'create index if not exists recovery_map_status on partywall.recovery_map (status, match_confidence desc)',
    `create table if not exists partywall.demo_seed_log (
  id bigint generated always as identity primary key,
  seed_identifier text not null unique,
  is_demo boolean not null default false,
  status text not null default 'started' check (status in ('started', 'completed', 'failed', 'undone')),
  error text,
  created_entities jsonb not null default '[]',
  attempts integer not null default 1,
  created_at timestamptz not null default now(),
  finished_at timestamptz
)`,
    orphanedRowsSql(wanted),
    'create or replace view partywall.orphaned_data_summary with (security_invoker = true) as select entity_table, problem, via, row_count from partywall.orphaned_rows()',
    'revoke all on function partywall.orphaned_rows() from public',
    'revoke all on table partywall.recovery_map, partywall.demo_seed_log, partywall.orphaned_data_summary from public',
    'revoke all on sequence partywall.recovery_map_id_seq, partywall.demo_seed_log_id_seq from public',
  ];
}

/** One query that counts rows out of place; `problem` and `via` are the columns it groups by. */
export interface OrphanCheck {
  readonly table: TableName;
  /** What it is about: the rows' own tenants, or that of the rows they refer to. */
  readonly kind: 'tenant' | 'reference';
  /** Rows (problem text, via text, row_count bigint), one for each problem that exists. */
  readonly query: string;
}

/** One check for the tenant of every table and one for each reference between scoped tables. */
export function orphanChecks(wanted: WantedWall): OrphanCheck[] {
  const root = [...wanted.tables.values()].find((table) => table.rule === undefined);
  if (!root) return [];
  return [...wanted.tables.values()].flatMap((table) => {
    // A partition's rows are counted through its parent; an inheritance child's too, but its references are its own.
    if (table.rule === undefined || table.relation.isPartition) return [];
    const isChild = table.relation.parents.some((parent) => wanted.tables.has(parent));
    return [...(isChild ? [] : [tenantCheck(table, root)]), ...referenceChecks(table, wanted)];
  });
}

function tenantCheck(table: WantedTable, root: WantedTable): OrphanCheck {
  const column = `t.${ident(table.column)}`;
  const known = `exists (select from ${quoted(root.relation.table)} r where r.${ident(root.column)} = ${column})`;
  return {
    table: table.relation.table,
    kind: 'tenant',
    query: `select case when ${column} is null then 'no tenant' else 'unknown tenant' end, ${literal(table.column)}, count(*)
from ${quoted(table.relation.table)} t where ${column} is null or not ${known} group by 1`,
  };
}

function referenceChecks(table: WantedTable, wanted: WantedWall): OrphanCheck[] {
  const checks = new Map<string, OrphanCheck>();
  for (const { target, columns, references } of scopedReferences(table, wanted)) {
    const tenant = ident(table.column);
    const parentTenant = ident(target.column);
    const present = columns.map((column) => `t.${ident(column)} is not null`).join(' and ');
    const joined = columns.map((column, at) => `p.${ident(references[at] ?? '')} = t.${ident(column)}`).join(' and ');
    const via = `(${columns.join(', ')}) → ${target.relation.table}`;
    // Where the parent's columns are unique per tenant only, the parent of the row's own tenant is the one that counts.
    const query = `select case when exists (select from ${quoted(target.relation.table)} p where ${joined}) then 'parent of another tenant' else 'missing parent' end, ${literal(via)}, count(*)
from ${quoted(table.relation.table)} t where ${present}
  and not exists (select from ${quoted(target.relation.table)} p where ${joined} and p.${parentTenant} is not distinct from t.${tenant}) group by 1`;
    checks.set(via, { table: table.relation.table, kind: 'reference', query });
  }
  return [...checks.keys()].sort().flatMap((via) => checks.get(via) ?? []);
}

/** References from a scoped table to scoped tables (not the root), without the tenant columns on either side. */
export function scopedReferences(
  table: WantedTable,
  wanted: WantedWall,
): { target: WantedTable; columns: readonly string[]; references: readonly string[]; constraint: string | undefined }[] {
  const fromKeys = table.relation.constraints.flatMap(({ name, columns, foreign }) =>
    foreign ? [{ table: foreign.table, columns, references: foreign.columns, constraint: name }] : [],
  );
  const fromPaths = (table.rule?.paths ?? []).map((path) => ({ ...path, constraint: undefined }));
  return [...fromKeys, ...fromPaths, ...fromUnit(table, wanted)].flatMap((reference) => {
    const target = wanted.tables.get(reference.table);
    if (!target || target.rule === undefined) return [];
    const kept = reference.columns.flatMap((column, at) => {
      const references = reference.references[at];
      return references === undefined || (column === table.column && references === target.column) ? [] : [{ column, references }];
    });
    if (kept.length === 0) return [];
    return [{ target, columns: kept.map((pair) => pair.column), references: kept.map((pair) => pair.references), constraint: reference.constraint }];
  });
}

/** A row's unit, whether or not a key holds it. */
function fromUnit(
  { relation, unit }: WantedTable,
  { unitTable, tables }: WantedWall,
): { table: TableName; columns: string[]; references: string[]; constraint: undefined }[] {
  const units = unitTable === undefined ? undefined : tables.get(unitTable);
  if (!unit || !units?.unit || relation.table === units.relation.table) return [];
  return [{ table: units.relation.table, columns: [unit.column], references: [units.unit.column], constraint: undefined }];
}

/**
 * Each check is a statement of its own, so that a column that expand has yet to add, or a table that is gone, costs its own line and
 * says why instead of failing the whole summary.
 */
function orphanedRowsSql(wanted: WantedWall): string {
  const checks = orphanChecks(wanted).map((check) => `    (${literal(check.table)}, ${literal(check.query)})`);
  const list = checks.length === 0 ? 'select null::text, null::text where false' : `values\n${checks.join(',\n')}`;
  const body = `declare
  target record;
begin
  for target in select * from (${list}) as checks (name, query) loop
    begin
      return query execute 'select ' || quote_literal(target.name) || '::text, c.* from (' || target.query || ') c (problem, via, row_count)';
    exception when undefined_column or undefined_table then
      return query select target.name, 'not checked'::text, sqlerrm, null::bigint;
    end;
  end loop;
end`;
  return `create or replace function partywall.orphaned_rows() returns table (entity_table text, problem text, via text, row_count bigint) language plpgsql stable
set search_path = pg_catalog, pg_temp set row_security = off as ${dollarQuote(body)}`;
}
