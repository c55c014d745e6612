import type { Catalog } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import type { CloneRule } from '../../model/clone.ts';
import { keyFamily } from '../../model/key-types.ts';
import type { TenancyModel } from '../../model/model.ts';
import type { TableName } from '../../model/table-name.ts';
import { foreignKeys, type TransferTable } from '../../tenants/transfer/tables.ts';
import type { Alignment } from '../restore/align.ts';
import type { UniqueFact } from './unique-facts.ts';

/** How each column of a clone is filled; what a dry run prints and the real one follows. */
export interface ClonePlan {
  /** In the order of their references, the root first. */
  readonly tables: readonly CloneTable[];
  /** What a person has to decide first, a line each; a clone with any does not begin. */
  readonly undecided: readonly string[];
  /** What differs from the source and does no harm, a line each. */
  readonly notes: readonly string[];
}

export interface CloneTable {
  readonly table: TransferTable;
  /** Of the source. */
  readonly rows: number;
  readonly columns: readonly ColumnFill[];
  /** Columns that refer to rows which come later: NULL at first. */
  readonly deferred: readonly string[];
  /** Rows refer to each other and cannot wait, so they go in one statement. */
  readonly whole: boolean;
}

export interface ColumnFill {
  readonly name: string;
  readonly type: string;
  readonly fill: Fill;
}

export type Fill =
  | { readonly kind: 'kept' }
  /** The key of the clone. */
  | { readonly kind: 'tenant' }
  /** Refers to a tenant: to the clone where it was the source, else as it was. */
  | { readonly kind: 'tenant reference' }
  /** A new value for each old one, by this expression. */
  | { readonly kind: 'new'; readonly expression: string }
  /** The new value of the row that it refers to. */
  | { readonly kind: 'reference'; readonly table: TableName; readonly column: string }
  | { readonly kind: 'rule'; readonly rule: CloneRule }
  /** What the clone was asked to be called. */
  | { readonly kind: 'profile'; readonly of: 'name' | 'slug' | 'plan' | 'contactEmail' }
  /** The root's own status: as it was, unless that keeps the tenant out. */
  | { readonly kind: 'status' };

export interface CloneFacts {
  readonly model: TenancyModel;
  readonly catalog: Catalog;
  /** The tables of the database with all their columns, in the order of their references. */
  readonly live: readonly TransferTable[];
  readonly uniques: readonly UniqueFact[];
  /** Which column of the source goes where. */
  readonly alignment: Alignment;
}

/**
 * A table that refers to itself goes in one statement up to here: its foreign key is asked for at the end. The server keeps a question for each
 * row until then.
 */
const wholeRowsMax = 200_000;

/** Defaults that make a value of their own for each row, unlike constants and times. */
const generates = /\(/;
const tellsTime = /^\(*(?:now|current_|clock_timestamp|statement_timestamp|transaction_timestamp|timezone|localtime)/i;

/**
 * Decides how every column of a clone is filled:
 *
 * - the tenant column, and whatever refers to the root: the clone's key;
 * - a value that may be there once in the whole database: by the model's rule; else by the column's own sequence or default; a UUID anew; and what
 *   has none of these is undecided;
 * - a reference to a row of the tenant: that row's new value, through any number of tables;
 * - everything else: kept.
 */
export function planClone(facts: CloneFacts): ClonePlan {
  const undecided: string[] = [];
  const byName = new Map(facts.live.map((table) => [table.relation.table, table]));
  const fills = decideFills(facts, byName);
  for (const table of facts.live) undecided.push(...uniquesLeft(facts, table, fills));
  followReferences(facts, byName, fills); // of what has just become new
  undecided.push(...brokenRules(facts, byName, fills));
  undecided.push(...problemsOf(facts.alignment, facts.live));
  const aligned = new Map(facts.alignment.tables.map((table) => [table.live.relation.table, table]));
  const tables = facts.live.map((table, at): CloneTable => {
    const from = aligned.get(table.relation.table);
    const { deferred, whole, stuck } = waiting(table, facts.live.slice(at), from?.source.count ?? 0);
    undecided.push(...stuck);
    const columns = (from?.live.columns ?? []).map(
      ({ name, type }): ColumnFill => ({ name, type, fill: fills.get(table.relation.table)?.get(name) ?? { kind: 'kept' } }),
    );
    return { table, rows: from?.source.count ?? 0, columns, deferred, whole };
  });
  return { tables, undecided, notes: facts.alignment.notes };
}

type Fills = Map<TableName, Map<string, Fill>>;

function decideFills({ model, catalog, live, uniques }: CloneFacts, byName: ReadonlyMap<TableName, TransferTable>): Fills {
  const fills: Fills = new Map();
  for (const table of live) {
    const own = new Map<string, Fill>();
    fills.set(table.relation.table, own);
    if (table.isRoot) {
      const { profile, status } = model.tenant;
      for (const each of ['name', 'slug', 'plan', 'contactEmail'] as const)
        if (profile[each] !== undefined) own.set(profile[each], { kind: 'profile', of: each });
      if (status) own.set(status.column, { kind: 'status' });
      // As provisioning makes it.
      if (keyFamily(typeOf(table, table.tenantColumn)) === 'text' && generator(catalog, table, table.tenantColumn) === undefined)
        own.set(table.tenantColumn, { kind: 'profile', of: 'slug' });
    } else {
      own.set(table.tenantColumn, { kind: 'tenant' });
    }
    for (const [column, rule] of model.clone.get(table.relation.table) ?? []) own.set(column, ruleFill(rule, byName));
    for (const { columns } of uniques.filter(({ relation }) => relation === table.relation.oid)) {
      const [column, second] = columns;
      if (column === undefined || second !== undefined || own.has(column) || follows(table, column, byName)) continue;
      const expression = generator(catalog, table, column);
      if (expression !== undefined) own.set(column, { kind: 'new', expression });
    }
  }
  followReferences({ model, live }, byName, fills);
  return fills;
}

function followReferences({ model, live }: Pick<CloneFacts, 'model' | 'live'>, byName: ReadonlyMap<TableName, TransferTable>, fills: Fills): void {
  for (const own of fills.values()) for (const [name, { kind }] of own) if (kind === 'kept') own.delete(name);
  for (const table of live) for (const { name } of table.columns) fillOf(table.relation.table, name, { fills, byName, model, trail: [] });
}

function ruleFill(rule: CloneRule, byName: ReadonlyMap<TableName, TransferTable>): Fill {
  const column = rule.kind === 'reference' ? byName.get(rule.table)?.key[0] : undefined;
  return rule.kind === 'reference' && column !== undefined ? { kind: 'reference', table: rule.table, column } : { kind: 'rule', rule };
}

interface Resolving {
  readonly fills: Fills;
  readonly byName: ReadonlyMap<TableName, TransferTable>;
  readonly model: TenancyModel;
  readonly trail: readonly string[];
}

/** The fill of a column, decided by what it refers to where nothing else has decided it. */
function fillOf(table: TableName, column: string, resolving: Resolving): Fill {
  const { fills, byName, model, trail } = resolving;
  const own = fills.get(table);
  const known = own?.get(column);
  if (known) return known;
  const transfer = byName.get(table);
  const here = `${table}.${column}`;
  if (!own || !transfer || trail.includes(here)) return { kind: 'kept' };
  for (const { to, columns, references } of referencesOf(transfer, model)) {
    const at = columns.indexOf(column);
    const target = references[at];
    const parent = byName.get(to);
    if (at < 0 || target === undefined || !parent) continue;
    if (parent.isRoot && target === parent.tenantColumn) {
      own.set(column, { kind: 'tenant reference' });
      return { kind: 'tenant reference' };
    }
    const fill = fillOf(to, target, { ...resolving, trail: [...trail, here] });
    if (fill.kind === 'kept') continue;
    const followed: Fill =
      fill.kind === 'reference' || fill.kind === 'tenant reference' || fill.kind === 'tenant' ? fill : { kind: 'reference', table: to, column: target };
    own.set(column, followed);
    return followed;
  }
  own.set(column, { kind: 'kept' });
  return { kind: 'kept' };
}

interface Reference {
  readonly to: TableName;
  readonly columns: readonly string[];
  readonly references: readonly string[];
}

/** Foreign keys, and the ways of the model that are none. */
function referencesOf({ relation }: TransferTable, model: TenancyModel): Reference[] {
  const rule = model.tables.get(relation.table);
  const paths = rule?.scope === 'scoped' ? rule.paths : [];
  return [
    ...foreignKeys(relation).map(({ columns, foreign }) => ({ to: foreign.table, columns, references: foreign.columns })),
    ...paths.map(({ table, columns, references }) => ({ to: table, columns, references })),
  ];
}

/** A column that refers to a row of the tenant takes that row's value and none of its own. */
function follows(table: TransferTable, column: string, byName: ReadonlyMap<TableName, TransferTable>): boolean {
  return foreignKeys(table.relation).some(({ columns, foreign }) => columns.includes(column) && byName.has(foreign.table));
}

function typeOf(table: TransferTable, name: string): string {
  return table.columns.find((column) => column.name === name)?.type ?? '';
}

/** What makes a new value for the column: its identity, its default, or a new UUID. Undefined where nothing does. */
function generator(catalog: Catalog, { relation }: TransferTable, name: string): string | undefined {
  const column = relation.columns.find((each) => each.name === name);
  if (!column) return undefined;
  const sequence = catalog.sequences.find(({ ownedBy }) => ownedBy?.table === relation.table && ownedBy.column === name);
  if (column.identity) return sequence && `pg_catalog.nextval(${literal(`${ident(sequence.schema)}.${ident(sequence.name)}`)}::pg_catalog.regclass)`;
  if (column.default !== undefined && generates.test(column.default) && !tellsTime.test(column.default)) return column.default;
  return column.type === 'uuid' ? 'pg_catalog.gen_random_uuid()' : undefined;
}

/** Whether no row that was there can have the filled value. */
function differs(fill: Fill): boolean {
  if (fill.kind === 'rule') return ['suffix', 'random', 'null', 'sql', 'polymorphic'].includes(fill.rule.kind);
  if (fill.kind === 'profile') return fill.of === 'name' || fill.of === 'slug';
  return fill.kind === 'tenant' || fill.kind === 'tenant reference' || fill.kind === 'new' || fill.kind === 'reference';
}

/** Uniques in all tenants whose values would come twice. A composite one may be saved by one of its columns that generates. */
function uniquesLeft({ catalog, uniques }: CloneFacts, table: TransferTable, fills: Fills): string[] {
  const { relation } = table;
  const own = fills.get(relation.table) ?? new Map<string, Fill>();
  return uniques
    .filter((unique) => unique.relation === relation.oid)
    .flatMap(({ name, columns }) => {
      if (columns.some((column) => differs(own.get(column) ?? { kind: 'kept' }))) return [];
      const made = columns.find((column) => own.get(column)?.kind === 'kept' && generator(catalog, table, column) !== undefined);
      const expression = made === undefined ? undefined : generator(catalog, table, made);
      if (made !== undefined && expression !== undefined) {
        own.set(made, { kind: 'new', expression });
        return [];
      }
      return [`${relation.table} (${columns.join(', ')}): ${name} allows each value once in all tenants; say in clone how one of them is filled`];
    });
}

function brokenRules({ model, live }: CloneFacts, byName: ReadonlyMap<TableName, TransferTable>, fills: Fills): string[] {
  const makesUuids = [...fills.values()].some((columns) => [...columns.values()].some((fill) => fill.kind === 'new'));
  return live.flatMap((table) =>
    [...(model.clone.get(table.relation.table) ?? [])].flatMap(([name, rule]) => {
      const here = `${table.relation.table}.${name}`;
      const column = table.relation.columns.find((each) => each.name === name);
      if (!column) return [`${here}: clone names a column that is not there`];
      if (name === table.tenantColumn) return [`${here}: clone names the tenant's own column`];
      if (rule.kind === 'null' && column.notNull) return [`${here}: clone says null, and the column is not null`];
      if ((rule.kind === 'suffix' || rule.kind === 'random') && keyFamily(column.type) !== 'text' && !(rule.kind === 'random' && column.type === 'uuid'))
        return [`${here}: clone says ${rule.kind}, and the column is ${column.type}`];
      if (rule.kind === 'ids' && !makesUuids) return [`${here}: clone says ids, and no table of tenants gets new ones`];
      if (rule.kind === 'polymorphic' && !table.columns.some((each) => each.name === rule.by)) return [`${here}: clone names ${rule.by}, which is not there`];
      const targets = rule.kind === 'reference' ? [rule.table] : rule.kind === 'polymorphic' ? [...rule.tables.values()] : [];
      return targets
        .filter((target) => byName.get(target)?.key.length !== 1)
        .map((target) => `${here}: ${target} is no table of tenants with a key of one column`);
    }),
  );
}

/** What stands in the way of writing rows where none are: that a table has no key does not, because none has to be told from another. */
export function problemsOf(alignment: Alignment, live: readonly TransferTable[]): string[] {
  const keyless = live.flatMap(({ relation, key }) => (key.length === 0 ? [`${relation.table} has no key`] : []));
  return alignment.problems.filter((problem) => !keyless.some((start) => problem.startsWith(start)));
}

/** References to rows that are inserted later, or in the same table. `[table, ...later]` are those that are not there yet. */
export function waiting(table: TransferTable, notYet: readonly TransferTable[], rows: number): { deferred: string[]; whole: boolean; stuck: string[] } {
  const deferred: string[] = [];
  const stuck: string[] = [];
  let whole = false;
  for (const { columns, foreign } of foreignKeys(table.relation)) {
    const itself = foreign.table === table.relation.table;
    if (!notYet.some(({ relation }) => relation.table === foreign.table)) continue;
    if (itself && rows <= wholeRowsMax) {
      whole = true;
      continue;
    }
    const nullable = columns.filter((name) => name !== table.tenantColumn && table.relation.columns.some((column) => column.name === name && !column.notNull));
    if (nullable.length > 0) deferred.push(...nullable);
    else if (itself) whole = true;
    else stuck.push(`${table.relation.table} (${columns.join(', ')}) and ${foreign.table} refer to each other, and neither may be null`);
  }
  return { deferred: [...new Set(deferred)], whole, stuck };
}
