import type { Constraint, Index, Relation } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { ScopedRule } from '../model/model.ts';
import type { TableName } from '../model/table-name.ts';
import { isWallName, wallName } from './names.ts';
import type { Note, Scoped, ScopedRelation, WantedForeignKey, WantedKey, WantedUnique } from './shape.ts';

/** Columns of each scoped table that foreign keys of scoped tables reference: each needs a key with the tenant. */
export function referencedColumns(scoped: Scoped): ReadonlyMap<TableName, readonly (readonly string[])[]> {
  const referenced = new Map<TableName, (readonly string[])[]>();
  for (const { relation } of scoped.values()) {
    for (const { foreign, inherited, enforced } of relation.constraints) {
      if (!foreign || inherited || !enforced || !scoped.has(foreign.table)) continue;
      referenced.set(foreign.table, [...(referenced.get(foreign.table) ?? []), foreign.columns]);
    }
  }
  return referenced;
}

/** For the primary key and for what is referenced, the same with the tenant. A partition's primary key is made and attached from its parent. */
export function wantedKeys({ relation, column }: ScopedRelation, referenced: readonly (readonly string[])[]): WantedKey[] {
  const primary = relation.isPartition ? undefined : relation.constraints.find((constraint) => constraint.kind === 'primary');
  const sets = [...(primary ? [primary.columns] : []), ...referenced].map((columns) => (columns.includes(column) ? columns : [column, ...columns]));
  return distinctSets(sets).map((columns) => ({
    name: wallName('key', relation.name, relation.schema, ...columns),
    columns,
    live: relation.indexes.find(
      (index) => index.unique && index.valid && !index.predicate && sameSet(index.columns, columns) && !isDeferrable(relation, index),
    ),
  }));
}

/** Undefined where the key may stay as it is. One that is not enforced neither checks nor cascades, so it stays too. */
export function wantedForeignKey(
  constraint: Constraint,
  { relation, column }: ScopedRelation,
  around: { readonly scoped: Scoped; readonly root: Relation; readonly residuals: Note[] },
): WantedForeignKey | undefined {
  const { foreign } = constraint;
  if (!foreign || constraint.inherited || !constraint.enforced) return undefined;
  const target = around.scoped.get(foreign.table);
  if (!target) return undefined;
  if (foreign.table === around.root.table) {
    if (!constraint.columns.includes(column)) {
      around.residuals.push({ table: relation.table, message: `${constraint.name} refers to other tenants on purpose: it tells whether a tenant exists` });
    }
    return undefined;
  }
  const setColumns = (foreign.setColumns.length > 0 ? foreign.setColumns : constraint.columns).filter((name) => name !== column);
  const sets = foreign.onDelete === 'set null' || foreign.onDelete === 'set default';
  const hasTenant = constraint.columns.some((name, at) => name === column && foreign.columns[at] === target.column);
  const setsTenant = sets && (foreign.setColumns.length === 0 ? constraint.columns : foreign.setColumns).includes(column);
  const updateSets = foreign.onUpdate === 'set null' || foreign.onUpdate === 'set default';
  if (hasTenant && !setsTenant && !updateSets) return undefined;
  if (updateSets) {
    around.residuals.push({
      table: relation.table,
      message: `${constraint.name} loses ON UPDATE ${foreign.onUpdate.toUpperCase()}: it would reach the tenant column`,
    });
  }
  const columns = hasTenant ? constraint.columns : [column, ...constraint.columns];
  return {
    name: wallName('fk', relation.name, relation.schema, constraint.name, ...columns),
    replaces: constraint,
    columns,
    table: foreign.table,
    references: hasTenant ? foreign.columns : [target.column, ...foreign.columns],
    onDelete: foreign.onDelete,
    onUpdate: updateSets ? 'no action' : foreign.onUpdate,
    setColumns: sets ? setColumns : [],
  };
}

export function wantedUniques(relation: Relation, rule: ScopedRule, residuals: Note[]): WantedUnique[] {
  const wanted: WantedUnique[] = [];
  for (const index of globalUniques(relation, rule.column)) {
    if (!isPerTenant(rule, index)) {
      residuals.push({ table: relation.table, message: `${index.name} is unique over all tenants: a duplicate tells that another tenant has the value` });
      continue;
    }
    wanted.push({
      name: wallName('unique', relation.name, relation.schema, index.name),
      replaces: index,
      constraint: relation.constraints.find((constraint) => constraint.kind === 'unique' && constraint.index === index.name),
      definition: usingClause(index).replace('(', `(${ident(rule.column)}, `),
    });
  }
  if (relation.constraints.some((constraint) => constraint.kind === 'exclude' && !constraint.columns.includes(rule.column))) {
    residuals.push({ table: relation.table, message: 'an exclusion constraint spans tenants: a refused row tells that another tenant holds the range' });
  }
  return wanted;
}

/** Whether the per-tenant form of a unique is the key itself, so that one index serves both. */
export function isSameKey({ replaces, constraint }: WantedUnique, key: WantedKey, column: string): boolean {
  return !replaces.predicate && !constraint?.deferrable && sameSet([column, ...replaces.columns], key.columns);
}

/** Valid unique indexes that ignore the tenant, other than the primary key's and those of a build under way. */
export function globalUniques(relation: Relation, column: string): Index[] {
  return relation.indexes.filter((index) => index.unique && index.valid && !index.primary && !index.columns.includes(column) && !isWallName(index.name));
}

export function isPerTenant(rule: ScopedRule, index: Index): boolean {
  return (rule.uniques.get(index.constraint ?? index.name) ?? rule.uniques.get(index.name)) === 'per tenant';
}

const name = '(?:"(?:[^"]|"")*"|[^\\s".]+)';
const indexHead = new RegExp(`^CREATE (?:UNIQUE )?INDEX ${name} ON (?:ONLY )?${name}\\.${name} (?=USING )`, 's');

/** What follows the table in the index's definition: `USING btree (lower(email)) WHERE active`. Names may look like any of it. */
export function usingClause(index: Index): string {
  const head = indexHead.exec(index.definition)?.[0];
  if (head === undefined) throw new Error(`reading the definition of index ${index.name}: ${index.definition}`);
  return index.definition.slice(head.length);
}

const builtUnderLockBlocksMax = 10_000;

/**
 * A deferrable unique cannot be built beside writers without checking at once while it is built, which is what it is there to avoid. Up
 * to this size (80 MB) it is built under the lock instead, in well under a second.
 */
export function isBuiltUnderLock(relation: Relation): boolean {
  return relation.pages <= builtUnderLockBlocksMax;
}

function isDeferrable(relation: Relation, index: Index): boolean {
  return relation.constraints.some((constraint) => constraint.index === index.name && constraint.deferrable);
}

export function sameSet(left: readonly (string | undefined)[], right: readonly (string | undefined)[]): boolean {
  return left.length === right.length && left.every((item) => right.includes(item));
}

function distinctSets(sets: readonly (readonly string[])[]): (readonly string[])[] {
  return sets.filter((set, at) => sets.findIndex((other) => sameSet(other, set)) === at);
}
