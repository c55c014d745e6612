import { type Catalog, type Column, type Constraint, columnOf, type ForeignAction, type Index, type Relation } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { ScopedRule, TableRule, TenancyModel } from '../model/model.ts';
import type { TableName } from '../model/table-name.ts';
import { shapeBlockers } from './blockers.ts';
import type { ContextForm } from './context-sql.ts';
import { policyName, wallName } from './names.ts';
import { isSameKey, referencedColumns, wantedForeignKey, wantedKeys, wantedUniques } from './shape-keys.ts';
import { unitBlockers, unitColumnFor, unitTypeOf, type WantedUnit, wantedUnitPolicies } from './unit-policies.ts';

/**
 * The wall that a model asks for on a live catalog, as a value: what each scoped table must have, not how to get there. The plan
 * (plan.ts) is the difference between this and the catalog; the static rules of verify compare the same two.
 */
export interface WantedWall {
  /** Type of the tenant key as schema `partywall` uses it: every textual type is `text`. */
  readonly keyType: KeyType;
  /** The table of the units, where the model has them. */
  readonly unitTable: TableName | undefined;
  /** How contexts are kept. */
  readonly context: ContextForm;
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
  /** What narrows it inside a unit; undefined where its rows are the tenant's in every unit. */
  readonly unit: WantedUnit | undefined;
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
  /** The constraint that the replaced index carries, if any. */
  readonly constraint: Constraint | undefined;
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
  const residuals: Note[] = [];
  const root = catalog.relations.get(model.tenant.table);
  const rootColumn = root && columnOf(root, model.tenant.key);
  if (!root || !rootColumn) {
    const missing = root ? `has no column ${ident(model.tenant.key)}` : 'is not in the database';
    const blockers = [{ table: model.tenant.table, message: `the tenant root ${missing}` }];
    return {
      keyType: 'text',
      unitTable: undefined,
      context: { keyType: 'text', isProtected: catalog.protectsContext },
      tables: new Map(),
      views: [],
      blockers,
      residuals,
    };
  }
  const scoped = scopedRelations(model, catalog, rootColumn);
  const blockers = [...shapeBlockers(model, catalog, scoped, { relation: root, key: rootColumn }), ...unitBlockers(model, catalog, scoped)];
  const referenced = referencedColumns(scoped);
  const tables = new Map<TableName, WantedTable>();
  for (const table of deriveOrder(scoped)) {
    const entry = scoped.get(table);
    const unit = entry?.rule && unitColumnFor(model, catalog, entry.relation, entry.rule);
    if (entry) tables.set(table, wantedTable(entry, { unit, scoped, referenced: referenced.get(table) ?? [], root, residuals }));
  }
  const keyType = keyTypeOf(rootColumn.type) ?? 'text';
  const context: ContextForm = { keyType, unitType: unitTypeOf(model, catalog), isProtected: catalog.protectsContext };
  return { keyType, unitTable: model.unit?.table, context, tables, views: scopedViews(catalog, scoped), blockers, residuals };
}

/** A relation that holds tenants' rows, or the root (no rule). */
export interface ScopedRelation {
  readonly relation: Relation;
  readonly rule: ScopedRule | undefined;
  readonly column: string;
  readonly type: string;
}
export type Scoped = ReadonlyMap<TableName, ScopedRelation>;

function scopedRelations(model: TenancyModel, catalog: Catalog, rootColumn: Column): Scoped {
  const scoped = new Map<TableName, ScopedRelation>();
  for (const relation of catalog.relations.values()) {
    if (relation.kind !== 'table' && relation.kind !== 'partitioned') continue;
    const rule = effectiveRule(model, catalog, relation);
    if (rule !== 'root' && rule?.scope !== 'scoped') continue;
    const column = rule === 'root' ? model.tenant.key : rule.column;
    const live = columnOf(relation, column);
    if (rule !== 'root' && !live && !rule.added) continue;
    scoped.set(relation.table, { relation, rule: rule === 'root' ? undefined : rule, column, type: live?.type ?? rootColumn.type });
  }
  return scoped;
}

function wantedTable(
  entry: ScopedRelation,
  around: { unit: string | undefined; scoped: Scoped; referenced: readonly (readonly string[])[]; root: Relation; residuals: Note[] },
): WantedTable {
  const { relation, rule, column } = entry;
  const isChild = relation.parents.some((parent) => around.scoped.has(parent));
  const uniques = !rule || relation.isPartition ? [] : wantedUniques(relation, rule, around.residuals);
  const keys = rule ? wantedKeys(entry, around.referenced).filter((key) => key.live || !uniques.some((unique) => isSameKey(unique, key, column))) : [];
  const led = keys.some((key) => (key.live ?? key).columns[0] === column) || relation.isPartition || hasLeadingIndex(relation, column);
  return {
    relation,
    rule,
    column,
    columnType: entry.type,
    adds: rule?.added === true && !isChild,
    policy: wantedPolicy(column, entry.type),
    unit: around.unit === undefined ? undefined : wantedUnitPolicies(relation, around.unit),
    keys,
    index: !rule || led ? undefined : wallName('index', relation.name, relation.schema, column),
    rootKey: !rule || relation.isPartition ? undefined : wallName('root', relation.name, relation.schema, column),
    foreignKeys: relation.constraints.flatMap((constraint) => wantedForeignKey(constraint, entry, around) ?? []),
    uniques,
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

/**
 * The root, then each table after those its paths lead through, children after their parents. Rows of a partitioned table lie in
 * its partitions, so what is derived from it comes after these too.
 */
function deriveOrder(scoped: Scoped): TableName[] {
  const children = new Map<TableName, TableName[]>();
  for (const [table, { relation }] of scoped) {
    for (const parent of relation.parents) children.set(parent, [...(children.get(parent) ?? []), table]);
  }
  const order: TableName[] = [];
  const seen = new Set<TableName>();
  const visit = (table: TableName): void => {
    const entry = scoped.get(table);
    if (!entry || seen.has(table)) return;
    seen.add(table);
    for (const parent of entry.relation.parents) visit(parent);
    for (const path of entry.rule?.paths ?? []) if (path.table !== table) visitFamily(path.table);
    order.push(table);
  };
  const visitFamily = (table: TableName): void => {
    visit(table);
    for (const child of children.get(table) ?? []) visitFamily(child);
  };
  for (const [table, { rule }] of scoped) if (!rule) visitFamily(table);
  // Parents before partitions, so that a new partition leaves the order of the others as it is.
  for (const [table, { relation }] of scoped) if (!relation.isPartition) visit(table);
  for (const table of scoped.keys()) visit(table);
  return order;
}

/** The type that schema `partywall` uses for keys of this column type, undefined for a type the wall does not know. */
export function keyTypeOf(type: string): KeyType | undefined {
  if (type === 'uuid' || type === 'bigint' || type === 'integer' || type === 'smallint' || type === 'text') return type;
  return type.startsWith('character varying') ? 'text' : undefined;
}

export function hasLeadingIndex(relation: Relation, column: string): boolean {
  return relation.indexes.some((index) => index.valid && !index.predicate && index.method === 'btree' && index.columns[0] === column);
}

/** The live column of a wanted table, undefined until Partywall has added it. */
export function tenantColumn(table: WantedTable): Column | undefined {
  return columnOf(table.relation, table.column);
}
