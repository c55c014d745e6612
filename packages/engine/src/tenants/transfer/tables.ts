import type pg from 'pg';
import type { Catalog, Constraint, Index, Relation } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import { effectiveRule } from '../../wall/shape.ts';
import type { TableHead } from './layout.ts';

export interface TransferColumn {
  readonly name: string;
  readonly type: string;
  /** Sorts by a collation, which another database may have otherwise. */
  readonly collated: boolean;
  /** `generated always as identity`: can be inserted, never updated. */
  readonly alwaysIdentity: boolean;
}

/** A table that holds rows of tenants, as it is exported and restored. */
export interface TransferTable {
  readonly relation: Relation;
  readonly isRoot: boolean;
  /** Holds the tenant; on the root its key. */
  readonly tenantColumn: string;
  readonly columns: readonly TransferColumn[];
  /** Empty: rows have no identity, so the table can be exported and not restored. */
  readonly key: readonly string[];
  /** Columns of references to tables that come later: inserted as NULL, then updated. */
  readonly deferred: readonly string[];
}

interface ColumnFact {
  readonly relation: number;
  readonly name: string;
  readonly type: string;
  readonly collated: boolean;
  readonly always: boolean;
}

const columnsSql = `select a.attrelid::int8::text::float8 as relation, a.attname as name, pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
  a.attcollation <> 0 as collated, a.attidentity = 'a' as always
from pg_catalog.pg_attribute a where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attrelid, a.attnum`;

/** The relations that hold rows of tenants: the root and every scoped table. A partition's rows are read through its parent. */
export function scopedRelations(model: TenancyModel, catalog: Catalog): Relation[] {
  const scoped = [...catalog.relations.values()].filter((relation) => {
    if ((relation.kind !== 'table' && relation.kind !== 'partitioned') || relation.isPartition) return false;
    const rule = effectiveRule(model, catalog, relation);
    return rule === 'root' || rule?.scope === 'scoped';
  });
  return scoped.sort((left, right) => order(left, model) - order(right, model) || (left.table < right.table ? -1 : 1));
}

/**
 * The tables in the order of an export: the root, then each after the tables it refers to. Their columns are read in the transaction of
 * `client`, so that they are those of the snapshot. What the lifecycle alone may change stays out: status and plan of the root.
 */
export async function transferTables(client: pg.ClientBase, model: TenancyModel, catalog: Catalog): Promise<TransferTable[]> {
  const relations = scopedRelations(model, catalog);
  const { rows } = await client.query<ColumnFact>(columnsSql, [relations.map(({ oid }) => oid)]);
  const facts = Map.groupBy(rows, ({ relation }) => relation);
  const ordered = byReference(relations);
  return ordered.map((relation, at) => {
    const rule = effectiveRule(model, catalog, relation);
    const isRoot = rule === 'root';
    const kept = isRoot ? [model.tenant.status?.column, model.tenant.profile.plan] : [];
    const columns = (facts.get(relation.oid) ?? [])
      .filter(({ name }) => !kept.includes(name))
      .map(({ name, type, collated, always }) => ({ name, type, collated, alwaysIdentity: always }));
    const tenantColumn = rule !== 'root' && rule?.scope === 'scoped' ? rule.column : model.tenant.key;
    if (!columns.some(({ name }) => name === tenantColumn)) {
      throw new PartywallError('phase_refused', `reading ${relation.table}: it has no column ${tenantColumn} yet`, { hint: 'run `partywall apply` first' });
    }
    const later = ordered.slice(at + 1).map(({ table }) => table);
    return {
      relation,
      isRoot,
      tenantColumn,
      columns,
      key: isRoot ? [model.tenant.key] : keyOf(relation),
      deferred: deferredColumns(relation, later, tenantColumn),
    };
  });
}

export function headOf({ relation, key, columns }: TransferTable): TableHead {
  return { name: relation.table, key: [...key], columns: columns.map(({ name, type }) => ({ name, type })) };
}

/** For FROM, UPDATE and DELETE: inheritance children are tables of their own, partitions are not. */
export function only(relation: Relation): string {
  return relation.kind === 'table' ? `only ${quoted(relation.table)}` : quoted(relation.table);
}

/** The tenant's rows of a table in an order that is the same in every database. COPY takes no parameters. */
export function rowsQuery(table: TransferTable, tenant: string): string {
  const sorted = table.key.length > 0 ? table.columns.filter(({ name }) => table.key.includes(name)) : table.columns;
  const byKey = table.key.length > 0 ? table.key.flatMap((name) => sorted.find((column) => column.name === name) ?? []) : sorted;
  const order = byKey.map(({ name, collated }) => {
    if (table.key.length === 0) return `t.${ident(name)}::text collate "C"`;
    return `t.${ident(name)}${collated ? ' collate "C"' : ''}`;
  });
  const columns = table.columns.map(({ name }) => `t.${ident(name)}`).join(', ');
  return `select ${columns} from ${only(table.relation)} t where t.${ident(table.tenantColumn)} = ${literal(tenant)} order by ${order.join(', ')}`;
}

/** References that hold rows of tenants to each other or to what they share. */
export function foreignKeys(relation: Relation): (Constraint & { foreign: NonNullable<Constraint['foreign']> })[] {
  return relation.constraints.flatMap((constraint) => (constraint.foreign ? [{ ...constraint, foreign: constraint.foreign }] : []));
}

/** Unique indexes over plain columns and all rows. */
export function plainUniques(relation: Relation): (Omit<Index, 'columns'> & { readonly columns: readonly string[] })[] {
  return relation.indexes.flatMap((index) => {
    const columns = index.columns.flatMap((column) => column ?? []);
    return index.unique && index.valid && !index.predicate && columns.length === index.columns.length ? [{ ...index, columns }] : [];
  });
}

function order(relation: Relation, model: TenancyModel): number {
  return relation.table === model.tenant.table ? 0 : 1;
}

/** Each table after those that it refers to, the first one (the root) first; in a circle of references somebody comes too early. */
export function byReference(relations: readonly Relation[]): Relation[] {
  const byName = new Map(relations.map((relation) => [relation.table, relation]));
  const ordered: Relation[] = [];
  const seen = new Set<TableName>();
  const visit = (relation: Relation): void => {
    if (seen.has(relation.table)) return;
    seen.add(relation.table);
    for (const { foreign } of foreignKeys(relation)) {
      const parent = byName.get(foreign.table);
      if (parent) visit(parent);
    }
    ordered.push(relation);
  };
  const [root, ...others] = relations;
  // The root goes first whatever it refers to: it is there already, and only updated.
  if (root) {
    seen.add(root.table);
    ordered.push(root);
  }
  for (const relation of others) visit(relation);
  return ordered;
}

function keyOf(relation: Relation): readonly string[] {
  const uniques = plainUniques(relation);
  const required = (columns: readonly string[]): boolean => columns.every((name) => relation.columns.some((column) => column.name === name && column.notNull));
  return (uniques.find(({ primary }) => primary) ?? uniques.find(({ columns }) => required(columns)))?.columns ?? [];
}

function deferredColumns(relation: Relation, later: readonly TableName[], tenantColumn: string): string[] {
  const nullable = (name: string): boolean => name !== tenantColumn && relation.columns.some((column) => column.name === name && !column.notNull);
  const columns = foreignKeys(relation).flatMap(({ foreign, columns }) => (later.includes(foreign.table) ? columns.filter(nullable) : []));
  return [...new Set(columns)];
}
