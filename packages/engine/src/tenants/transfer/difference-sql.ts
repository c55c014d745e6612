import { ident } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import { only, plainUniques, type TransferTable } from './tables.ts';

/** A table whose rows of the export lie in a temporary table of the same columns. */
export interface StagedTable extends TransferTable {
  /** SQL name of the temporary table. */
  readonly stage: string;
  readonly rows: number;
}

/**
 * Statements that turn the tenant's live rows (`t`) into the staged ones (`s`), as few of them as possible: a row that is deleted and
 * inserted again takes along what refers to it. $1 is the tenant. Rows are compared as they are stored (`*=`), because some types
 * have no equality and others call different texts equal.
 */
const identical = 'operator(pg_catalog.*=)';
const different = 'operator(pg_catalog.*<>)';

/** How many rows each kind of change concerns. */
export function countsSql(table: StagedTable): string {
  const there = (row: string): string => `${row}.${ident(table.key[0] ?? '')} is not null`;
  const both = `${there('t')} and ${there('s')}`;
  return `select count(*) filter (where not ${there('t')})::int8::text as inserted, count(*) filter (where ${both} and ${rowOf(table, 's')} ${different} ${rowOf(table, 't')})::int8::text as updated,
  count(*) filter (where not (${there('s')}))::int8::text as deleted, count(*) filter (where ${both} and ${rowOf(table, 's')} ${identical} ${rowOf(table, 't')})::int8::text as unchanged
from (select * from ${only(table.relation)} t where ${mine(table)}) t full join ${table.stage} s on ${match(table)}`;
}

export function insertSql(table: StagedTable): string {
  const columns = table.columns.map(({ name }) => name);
  const values = columns.map((name) => (table.deferred.includes(name) ? 'null' : `s.${ident(name)}`));
  return `insert into ${quoted(table.relation.table)} (${columns.map(ident).join(', ')}) overriding system value
select ${values.join(', ')} from ${table.stage} s where not exists (select from ${only(table.relation)} t where ${mine(table)} and ${match(table)})`;
}

/** Undefined where a row has nothing beside its key. */
export function updateSql(table: StagedTable): string | undefined {
  const settable = table.columns.filter(({ name, alwaysIdentity }) => !table.key.includes(name) && name !== table.tenantColumn && !alwaysIdentity);
  if (settable.length === 0) return undefined;
  return `update ${only(table.relation)} t set ${settable.map(({ name }) => `${ident(name)} = s.${ident(name)}`).join(', ')}
from ${table.stage} s where ${mine(table)} and ${match(table)} and ${rowOf(table, 's')} ${different} ${rowOf(table, 't')}`;
}

/** Rows that the export does not have. */
export function deleteSql(table: StagedTable): string {
  return `delete from ${only(table.relation)} t where ${gone(table)}`;
}

/** Before `deleteSql`: lets go of what would be deleted later, where references run in a circle. */
export function unlinkSql(table: StagedTable): string | undefined {
  if (table.deferred.length === 0) return undefined;
  const set = table.deferred.map((name) => `${ident(name)} = null`).join(', ');
  const linked = table.deferred.map((name) => `t.${ident(name)} is not null`).join(' or ');
  return `update ${only(table.relation)} t set ${set} where ${gone(table)} and (${linked})`;
}

/**
 * The live row is in the export with other unique values. Two rows that exchange a position cannot be updated one after the other. Undefined
 * where a table has none.
 */
export function moved(table: StagedTable): string | undefined {
  const { relation, isRoot } = table;
  const plain = plainUniques(relation).filter(({ primary }) => !primary);
  const uniques = relation.indexes.filter(({ unique, primary }) => unique && !primary);
  const excludes = relation.constraints.some(({ kind }) => kind === 'exclude');
  if (isRoot || (uniques.length === 0 && !excludes)) return undefined;
  const known = new Set(table.columns.map(({ name }) => name));
  // Expressions and conditions may read any column.
  const all = excludes || plain.length < uniques.length || plain.some(({ columns }) => columns.some((name) => !known.has(name)));
  const columns = all ? [...known] : [...new Set(plain.flatMap((index) => index.columns))];
  return `${mine(table)} and exists (select from ${table.stage} s where ${match(table)} and ${row('s', columns)} ${different} ${row('t', columns)})`;
}

/** The row belongs to the tenant. */
export function mine(table: TransferTable, name = 't'): string {
  return `${name}.${ident(table.tenantColumn)} = $1`;
}

/** The staged row and the live one have the same key. */
export function match({ key }: Pick<TransferTable, 'key'>, columns: readonly string[] = key): string {
  return columns.map((name) => `t.${ident(name)} = s.${ident(name)}`).join(' and ');
}

/** The live row is the tenant's and not in the export. */
export function gone(table: StagedTable): string {
  return `${mine(table)} and not exists (select from ${table.stage} s where ${match(table)})`;
}

function rowOf({ columns }: TransferTable, name: string): string {
  return row(
    name,
    columns.map((column) => column.name),
  );
}

/** As one record: rows that are written out are compared column by column, with the operators of their types. */
function row(name: string, columns: readonly string[]): string {
  return `row(${columns.map((column) => `${name}.${ident(column)}`).join(', ')})::record`;
}
