import { type Catalog, type Column, type Constraint, columnOf, type ForeignAction, holdsRows, type Index, type Relation } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { ScopedRule, TableRule, TenancyModel } from '../model/model.ts';
import type { TableName } from '../model/table-name.ts';
import { policyName, wallName } from './names.ts';

/**
 * The wall that a model asks for on a live catalog, as a value: what each scoped table must have, not how to get there. The plan
 * (plan.ts) is the difference between this and the catalog; the static rules of verify compare the same two.
 */
export interface WantedWall {
  /** Type of the tenant key as schema `partywall` uses it: every textual type is `text`. */
  readonly keyType: KeyType;
  /** The root and every scoped table, partition and inheritance child; parents before what derives from them. */
  readonly tables: ReadonlyMap<TableName, WantedTable>;
  /** Views that read scoped rows and must run with the caller's rights. */
  readonly views: readonly TableName[];
  /** What keeps the wall from being built; any blocker stops the plan. */
  readonly blockers: readonly Note[];
  /** What the wall cannot close, to be named by verify. */
  readonly residuals: readonly Note[];
}

export type KeyType = 'uuid' | 'bigint' | 'integer' | 'smallint' | 'text';

export interface Note {
  readonly table: TableName;
  readonly message: string;
}

export interface WantedTable {
  readonly relation: Relation;
  /** Undefined for the tenant root. */
  readonly rule: ScopedRule | undefined;
  /** Column that holds the tenant; the key itself on the root. */
  readonly column: string;
  readonly columnType: string;
  /** Partywall adds the column on this very table (partitions and children get it from their parent). */
  readonly adds: boolean;
  readonly policy: WantedPolicy;
  /** Unique keys that lead with the tenant: for the primary key, and for what foreign keys reference. */
  readonly keys: readonly WantedKey[];
  /** A plain index on the tenant column, wanted where no key leads with it. */
  readonly index: string | undefined;
  /** Reference from the tenant column to the root, wanted where none is there; undefined on the root and on partitions. */
  readonly rootKey: string | undefined;
  readonly foreignKeys: readonly WantedForeignKey[];
  /** Per-tenant forms of unique constraints and indexes that ignore the tenant today. */
  readonly uniques: readonly WantedUnique[];
}

export interface WantedPolicy {
  readonly name: string;
  /** USING and WITH CHECK alike, as it is created. */
  readonly expression: string;
  /** As `pg_get_expr` prints it back. */
  readonly stored: string;
}

export interface WantedKey {
  readonly name: string;
  readonly columns: readonly string[];
  /** The live index that already is this key. */
  readonly live: Index | undefined;
}

/** A foreign key between scoped tables with the tenant on both sides. */
export interface WantedForeignKey {
  readonly name: string;
  /** The plain key it takes the place of (and whose name it takes in the end). */
  readonly replaces: Constraint;
  readonly columns: readonly string[];
  readonly table: TableName;
  readonly references: readonly string[];
  readonly onDelete: ForeignAction;
  readonly onUpdate: ForeignAction;
  /** For SET NULL and SET DEFAULT: never the tenant column. */
  readonly setColumns: readonly string[];
}

export interface WantedUnique {
  readonly name: string;
  readonly replaces: Index;
  /** Definition for CREATE UNIQUE INDEX after the table name. */
  readonly definition: string;
}

/** Parts of the shape that are not per table, by SQL name. */
export const tenantDefault = 'partywall.tenant_id()';

/** The rule that governs a relation: its own, or that of the table it is a partition or child of. */
export function effectiveRule(model: TenancyModel, catalog: Catalog, relation: Relation): TableRule | 'root' | undefined {
  if (relation.table === model.tenant.table) return 'root';
  const own = model.tables.get(relation.table);
  if (own) return own;
  for (const parent of relation.parents) {
    const above = catalog.relations.get(parent);
    const rule = above && effectiveRule(model, catalog, above);
    if (rule) return rule;
  }
  return undefined;
}

export function wantedWall(model: TenancyModel, catalog: Catalog): WantedWall {
  const blockers: Note[] = [];
  const residuals: Note[] = [];
  const root = catalog.relations.get(model.tenant.table);
  const rootColumn = root && columnOf(root, model.tenant.key);
  if (!root || !rootColumn) {
    const missing = root ? `has no column ${ident(model.tenant.key)}` : 'is not in the database';
    return { keyType: 'text', tables: new Map(), views: [], blockers: [{ table: model.tenant.table, message: `the tenant root ${missing}` }], residuals };
  }
  const keyType = keyTypeOf(rootColumn.type);
  if (!keyType)
    blockers.push({ table: root.table, message: `the tenant key has type ${rootColumn.type}; the wall knows uuid, smallint, integer, bigint and text` });

  const scoped = new Map<TableName, { relation: Relation; rule: ScopedRule | undefined; column: string; type: string }>();
  for (const relation of catalog.relations.values()) {
    const rule = effectiveRule(model, catalog, relation);
    if (
      rule !== 'root' &&
      (rule?.scope === 'unclassified' || (rule === undefined && model.schemas.includes(relation.schema) && holdsRows(relation) && !relation.extension))
    ) {
      blockers.push({ table: relation.table, message: rule ? 'is unclassified' : 'is not in the tenancy model' });
    }
    if (rule !== 'root' && rule?.scope !== 'scoped') continue;
    const column = rule === 'root' ? model.tenant.key : rule.column;
    const live = columnOf(relation, column);
    if (relation.kind === 'foreign' || relation.kind === 'matview') {
      blockers.push({
        table: relation.table,
        message: `a ${relation.kind === 'foreign' ? 'foreign table' : 'materialised view'} cannot hold a wall; classify it as platform without access`,
      });
      continue;
    }
    if (relation.kind === 'view') continue;
    if (rule !== 'root' && !live && !rule.added) {
      blockers.push({ table: relation.table, message: `the tenant column ${ident(column)} is not there` });
      continue;
    }
    if (live && keyType && keyTypeOf(live.type) !== keyType && !(isInteger(live.type) && isInteger(keyType))) {
      blockers.push({ table: relation.table, message: `${ident(column)} has type ${live.type}, the tenant key ${rootColumn.type}` });
    }
    for (const policy of relation.policies) {
      if (policy.permissive && !policy.name.startsWith('partywall_')) {
        blockers.push({
          table: relation.table,
          message: `policy ${ident(policy.name)} is permissive, so it would widen the wall; drop it or make it restrictive`,
        });
      }
    }
    scoped.set(relation.table, { relation, rule: rule === 'root' ? undefined : rule, column, type: live?.type ?? rootColumn.type });
  }
  blockHoles(model, catalog, scoped, blockers);
  blockLostPaths(catalog, scoped, blockers);

  const referenced = referencedColumns(catalog, scoped);
  const tables = new Map<TableName, WantedTable>();
  for (const table of deriveOrder(scoped)) {
    const entry = scoped.get(table);
    if (entry)
      tables.set(table, wantedTable(entry, { scoped, referenced: referenced.get(table) ?? [], catalog, root, rootKey: model.tenant.key, residuals, blockers }));
  }
  return { keyType: keyType ?? 'text', tables, views: scopedViews(catalog, scoped), blockers, residuals };
}

type Scoped = ReadonlyMap<TableName, { relation: Relation; rule: ScopedRule | undefined; column: string; type: string }>;

function wantedTable(
  entry: { relation: Relation; rule: ScopedRule | undefined; column: string; type: string },
  around: {
    scoped: Scoped;
    referenced: readonly (readonly string[])[];
    catalog: Catalog;
    root: Relation;
    rootKey: string;
    residuals: Note[];
    blockers: Note[];
  },
): WantedTable {
  const { relation, rule, column } = entry;
  const isChild = relation.parents.some((parent) => around.scoped.has(parent));
  const primary = relation.constraints.find((constraint) => constraint.kind === 'primary');
  const keySets = [...(primary ? [primary.columns] : []), ...around.referenced].map((columns) => (columns.includes(column) ? columns : [column, ...columns]));
  const keys = isRoot(rule) ? [] : distinctSets(keySets).map((columns) => wantedKey(relation, columns));
  // A key that the parent carries is made and attached there.
  const ownKeys = relation.isPartition ? [] : keys;
  const led = ownKeys.some((key) => (key.live ?? key).columns[0] === column) || relation.isPartition || hasLeadingIndex(relation, column);
  const foreignKeys = relation.constraints.flatMap((constraint) => wantedForeignKey(constraint, entry, around) ?? []);
  return {
    relation,
    rule,
    column,
    columnType: entry.type,
    adds: rule?.added === true && !isChild,
    policy: wantedPolicy(column, entry.type),
    keys: ownKeys,
    index: isRoot(rule) || led ? undefined : wallName('index', relation.name, relation.schema, column),
    rootKey: isRoot(rule) || relation.isPartition ? undefined : wallName('root', relation.name, relation.schema, column),
    foreignKeys,
    uniques: isRoot(rule) || relation.isPartition ? [] : wantedUniques(relation, rule, column, around.residuals),
  };
}

/** One expression for every table, so that a difference is a difference: the tenant column equals the context's tenant. */
function wantedPolicy(column: string, type: string): WantedPolicy {
  const expression = `${ident(column)} = ${tenantDefault}`;
  // A varchar column is relabelled to text, which costs nothing and keeps its index.
  const stored = type.startsWith('character varying') ? `((${column})::text = ${tenantDefault})` : `(${column} = ${tenantDefault})`;
  return { name: policyName(`${column} ${stored}`), expression, stored };
}

/** `pg_get_expr` quotes a name only where it must; the shape never quotes. Compare both without quotes. */
export function sameExpression(live: string | undefined, stored: string): boolean {
  return live !== undefined && live.replaceAll('"', '') === stored.replaceAll('"', '');
}

function wantedKey(relation: Relation, columns: readonly string[]): WantedKey {
  const live = relation.indexes.find(
    (index) => index.unique && index.valid && !index.predicate && sameSet(index.columns, columns) && !isDeferrable(relation, index),
  );
  return { name: wallName('key', relation.name, relation.schema, ...columns), columns, live };
}

function wantedForeignKey(
  constraint: Constraint,
  entry: { relation: Relation; column: string },
  around: { scoped: Scoped; root: Relation; residuals: Note[]; blockers: Note[] },
): WantedForeignKey | undefined {
  const { foreign } = constraint;
  if (constraint.kind !== 'foreign' || !foreign || constraint.inherited) return undefined;
  const { relation, column } = entry;
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
  const nullsTenant = sets && (foreign.setColumns.length === 0 ? constraint.columns : foreign.setColumns).includes(column);
  const updateSets = foreign.onUpdate === 'set null' || foreign.onUpdate === 'set default';
  if (hasTenant && !nullsTenant && !updateSets) return undefined;
  if (foreign.match === 'full' && constraint.columns.length > 1) {
    around.blockers.push({
      table: relation.table,
      message: `${constraint.name} is MATCH FULL over several columns, which a key with the tenant cannot be; make it MATCH SIMPLE with a check`,
    });
  }
  if (updateSets)
    around.residuals.push({
      table: relation.table,
      message: `${constraint.name} loses ON UPDATE ${foreign.onUpdate.toUpperCase()}: it would reach the tenant column`,
    });
  const columns = hasTenant ? constraint.columns : [column, ...constraint.columns];
  const references = hasTenant ? foreign.columns : [target.column, ...foreign.columns];
  return {
    name: wallName('fk', relation.name, relation.schema, constraint.name, ...columns),
    replaces: constraint,
    columns,
    table: foreign.table,
    references,
    onDelete: foreign.onDelete,
    onUpdate: updateSets ? 'no action' : foreign.onUpdate,
    setColumns: sets ? setColumns : [],
  };
}

function wantedUniques(relation: Relation, rule: ScopedRule, column: string, residuals: Note[]): WantedUnique[] {
  const wanted: WantedUnique[] = [];
  for (const index of relation.indexes) {
    if (!index.unique || index.primary || index.columns.includes(column) || index.name.startsWith('pw_')) continue;
    const meaning = rule.uniques.get(index.constraint ?? index.name) ?? rule.uniques.get(index.name) ?? 'global';
    if (meaning === 'global') {
      residuals.push({ table: relation.table, message: `${index.name} is unique over all tenants: a duplicate tells that another tenant has the value` });
      continue;
    }
    const using = / USING (.*)$/s.exec(index.definition)?.[1] ?? '';
    wanted.push({
      name: wallName('unique', relation.name, relation.schema, index.name),
      replaces: index,
      definition: `using ${using.replace('(', `(${ident(column)}, `)}`,
    });
  }
  if (relation.constraints.some((constraint) => constraint.kind === 'exclude' && !constraint.columns.includes(column))) {
    residuals.push({ table: relation.table, message: 'an exclusion constraint spans tenants: a refused row tells that another tenant holds the range' });
  }
  return wanted;
}

/** Columns of each scoped table that foreign keys of scoped tables reference: each needs a key with the tenant. */
function referencedColumns(catalog: Catalog, scoped: Scoped): Map<TableName, (readonly string[])[]> {
  const referenced = new Map<TableName, (readonly string[])[]>();
  for (const { relation } of scoped.values()) {
    for (const { foreign, inherited } of relation.constraints) {
      if (!foreign || inherited || !scoped.has(foreign.table) || !catalog.relations.has(foreign.table)) continue;
      referenced.set(foreign.table, [...(referenced.get(foreign.table) ?? []), foreign.columns]);
    }
  }
  return referenced;
}

/** A table that others share cannot point at one tenant's row: it would be that tenant's data. */
function blockHoles(model: TenancyModel, catalog: Catalog, scoped: Scoped, blockers: Note[]): void {
  for (const relation of catalog.relations.values()) {
    const rule = effectiveRule(model, catalog, relation);
    if (rule === 'root' || rule?.scope !== 'shared') continue;
    for (const { foreign, name } of relation.constraints) {
      if (foreign && scoped.has(foreign.table) && foreign.table !== model.tenant.table) {
        blockers.push({ table: relation.table, message: `is shared, but ${name} refers to ${foreign.table}, which is scoped` });
      }
    }
  }
}

/** A path names columns on both sides; each must be there before anything is derived from it. */
function blockLostPaths(catalog: Catalog, scoped: Scoped, blockers: Note[]): void {
  for (const { relation, rule } of scoped.values()) {
    for (const path of rule?.paths ?? []) {
      const target = catalog.relations.get(path.table);
      const lost = [
        ...path.columns.filter((column) => !columnOf(relation, column)).map((column) => `${relation.table} has no column ${ident(column)}`),
        ...path.references.filter((column) => !target || !columnOf(target, column)).map((column) => `${path.table} has no column ${ident(column)}`),
      ];
      for (const message of lost) blockers.push({ table: relation.table, message: `cannot be derived from ${path.table}: ${message}` });
    }
  }
}

function scopedViews(catalog: Catalog, scoped: Scoped): TableName[] {
  return [...catalog.relations.values()]
    .filter((relation) => relation.kind === 'view' && !relation.extension && readsScoped(catalog, relation, scoped))
    .map((view) => view.table);
}

/** Whether a view or materialised view reads, directly or through others, a table in `scoped`. */
export function readsScoped(catalog: Catalog, view: Relation, scoped: { has(table: TableName): boolean }, seen = new Set<TableName>()): boolean {
  return view.reads.some((table) => {
    if (scoped.has(table)) return true;
    const next = catalog.relations.get(table);
    if (!next || seen.has(table)) return false;
    seen.add(table);
    return readsScoped(catalog, next, scoped, seen);
  });
}

/** The root, then each table after those its paths lead through, children after their parents. */
function deriveOrder(scoped: Scoped): TableName[] {
  const order: TableName[] = [];
  const seen = new Set<TableName>();
  const visit = (table: TableName): void => {
    const entry = scoped.get(table);
    if (!entry || seen.has(table)) return;
    seen.add(table);
    for (const parent of entry.relation.parents) visit(parent);
    for (const path of entry.rule?.paths ?? []) visit(path.table);
    order.push(table);
  };
  for (const [table, { rule }] of scoped) if (!rule) visit(table);
  for (const table of scoped.keys()) visit(table);
  return order;
}

/** The type that schema `partywall` uses for keys of this column type, undefined for a type the wall does not know. */
export function keyTypeOf(type: string): KeyType | undefined {
  if (type === 'uuid' || type === 'bigint' || type === 'integer' || type === 'smallint' || type === 'text') return type;
  return type.startsWith('character varying') ? 'text' : undefined;
}

function isInteger(type: string): boolean {
  return type === 'bigint' || type === 'integer' || type === 'smallint';
}

function isRoot(rule: ScopedRule | undefined): rule is undefined {
  return rule === undefined;
}

export function hasLeadingIndex(relation: Relation, column: string): boolean {
  return relation.indexes.some((index) => index.valid && !index.predicate && index.columns[0] === column);
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

/** The live column of a wanted table, undefined until Partywall has added it. */
export function tenantColumn(table: WantedTable): Column | undefined {
  return columnOf(table.relation, table.column);
}
