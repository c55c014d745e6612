import { type Column, type Constraint, columnOf, type Relation } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import type { WantedTable, WantedWall } from '../../wall/shape.ts';
import { candidateValues, uniqueValue } from './candidate-values.ts';
import { checkExpression } from './check-expression.ts';
import type { ColumnFacts, ColumnFactsOf } from './column-facts.ts';
import { satisfyCheck } from './satisfy-check.ts';
import { become, type Probe, type Transaction } from './transaction.ts';

/** A row that is there for the time of one transaction, planted by the application's own role as one tenant. */
export interface Planted {
  readonly table: WantedTable;
  readonly tenant: string;
  /** Values as text by column. */
  readonly row: ReadonlyMap<string, string | null>;
  /** SQL condition that only this row fulfils. */
  readonly where: string;
}

/** Everything planting needs that does not change during a run. */
export interface Garden {
  readonly wanted: WantedWall;
  readonly relations: ReadonlyMap<TableName, Relation>;
  readonly columnFacts: ColumnFactsOf;
  /** Values of a committed row of a table that no tenant owns, for references to it, another at each call; undefined where it has none. */
  existing(table: TableName, columns: readonly string[]): Promise<ReadonlyMap<string, string> | undefined>;
  /** Checked values by table and column: what one check accepted, it accepts again. */
  readonly accepted: Map<string, string>;
}

export interface Bed {
  readonly garden: Garden;
  readonly tx: Transaction;
  /** Parents planted in this transaction, by tenant and table. */
  readonly planted: Map<string, Planted>;
}

export type PlantResult = Planted | { readonly failed: string };

/** SQL values to insert, by column. */
export type Draft = Map<string, string>;

const depthMax = 12;
/** Times that a refused row is changed and tried again. */
const repairsMax = 6;
const uniqueViolation = '23505';
const checkViolation = '23514';
/** Which columns that could be left out are filled in nevertheless. */
type Filling = (column: string) => boolean;
/** Ways to fill a row that checks over several columns make us try. */
const fillingsMax = 12;

/**
 * What a row needs; then, for each nullable column of a check over several columns, that one as well (`num_nonnulls(a, b) = 1`); then
 * everything (`a is not null or b is not null`).
 */
function fillingsOf(relation: Relation): Filling[] {
  const checked = relation.constraints
    .filter((constraint) => constraint.kind === 'check' && constraint.columns.length > 1)
    .flatMap((constraint) => constraint.columns);
  const optional = [...new Set(checked)].filter((name) => !columnOf(relation, name)?.notNull);
  return [() => false, ...optional.slice(0, fillingsMax).map((name) => (column: string) => column === name), () => true];
}

/**
 * Plants a row of `table` for `tenant`, with the parents it needs, in the tenant's own context, which is the context
 * afterwards.
 */
export async function plant(bed: Bed, table: WantedTable, tenant: string, trail: readonly TableName[] = []): Promise<PlantResult> {
  const taken = await firstTaken(bed, { table, tenant, trail, overrides: new Map() }, (row) => insertDraft(bed.tx, table, row));
  return 'failed' in taken ? taken : toPlanted(table, tenant, taken.inserted);
}

/**
 * A draft of a row that the server takes from `tenant`, proven by inserting and undoing it. The parents it needs stay planted, so the
 * same draft with one value changed differs in that value alone.
 */
export function provenDraft(bed: Bed, table: WantedTable, tenant: string, overrides: Draft = new Map()): Promise<{ row: Draft } | { failed: string }> {
  return firstTaken(bed, { table, tenant, trail: [], overrides }, (row) => bed.tx.probe(insertText(table, row)));
}

/** Drafts a row in each way until the server takes one. Why the plainest was refused is what is said of a failure. */
async function firstTaken(
  bed: Bed,
  { overrides, ...wanted }: Omit<RowToDraft, 'filling'> & { readonly overrides: Draft },
  insert: (row: Draft) => Promise<Probe>,
): Promise<{ row: Draft; inserted: Extract<Probe, { ok: true }> } | { failed: string }> {
  await become(bed.tx, wanted.tenant);
  let failed: string | undefined;
  for (const filling of fillingsOf(wanted.table.relation)) {
    const draft = await draftRow(bed, { ...wanted, filling });
    if ('failed' in draft) {
      failed ??= draft.failed;
      continue;
    }
    for (const [column, value] of overrides) draft.row.set(column, value);
    for (let attempt = 1; attempt <= repairsMax; attempt += 1) {
      const inserted = await insert(draft.row);
      if (inserted.ok) return { row: draft.row, inserted };
      failed ??= `${inserted.state} ${inserted.message}`;
      if (!(await repair(bed, wanted.table, draft.row, inserted, new Set([wanted.table.column, ...overrides.keys()])))) break;
    }
  }
  return { failed: failed ?? 'no way to fill a row' };
}

/** Changes a refused draft so that it may be taken; false where nothing is known to change. */
async function repair(bed: Bed, table: WantedTable, row: Draft, refusal: Extract<Probe, { ok: false }>, fixed: ReadonlySet<string>): Promise<boolean> {
  const { relation } = table;
  if (refusal.state === checkViolation) {
    const check = relation.constraints.find((constraint) => constraint.kind === 'check' && constraint.name === refusal.constraint);
    return check !== undefined && satisfyCheck(bed, relation, check, row, fixed);
  }
  if (refusal.state !== uniqueViolation) return false;
  // Values drawn at random from few: another draw.
  const drawn = relation.columns.filter(
    (column) => uniqueColumnsOf(relation).has(column.name) && row.has(column.name) && !fixed.has(column.name) && !isReference(relation, column.name),
  );
  for (const column of drawn) {
    const value = await columnValue(bed, relation, column, true);
    if (value !== undefined) row.set(column.name, typed(value, column));
  }
  return drawn.length > 0;
}

function isReference(relation: Relation, name: string): boolean {
  return relation.constraints.some((constraint) => constraint.foreign && constraint.columns.includes(name)) || relation.partitionKey.includes(name);
}

/** Runs `work` in a savepoint and undoes it, also what was planted meanwhile. */
export async function undone<T>(bed: Bed, work: () => Promise<T>): Promise<T> {
  const before = [...bed.planted];
  try {
    return await bed.tx.undone(work);
  } finally {
    bed.planted.clear();
    for (const [key, planted] of before) bed.planted.set(key, planted);
  }
}

/** Lets a planted row be the parent that others of the same tenant refer to. */
export function asParent(bed: Bed, planted: Planted): void {
  bed.planted.set(`${planted.tenant}/${planted.table.relation.table}`, planted);
}

/** A parent for others: one for each tenant, table and transaction. */
export async function plantParent(bed: Bed, table: WantedTable, tenant: string, trail: readonly TableName[] = []): Promise<PlantResult> {
  const known = bed.planted.get(`${tenant}/${table.relation.table}`);
  if (known) return known;
  const made = await plant(bed, table, tenant, trail);
  if (!('failed' in made)) asParent(bed, made);
  return made;
}

/** A row that is there already, as the tenant sees it, for tables that nothing can be planted in. */
export async function findRow(tx: Transaction, table: WantedTable, tenant: string): Promise<PlantResult> {
  await become(tx, tenant);
  const found = await tx.probe(`select ${returning(table.relation)} from ${quoted(table.relation.table)} limit 1`);
  if (!found.ok) return { failed: `${found.state} ${found.message}` };
  return found.rows.length === 0 ? { failed: 'the tenant has no row' } : toPlanted(table, tenant, found);
}

interface RowToDraft {
  readonly table: WantedTable;
  readonly tenant: string;
  readonly filling: Filling;
  /** Tables that wait for this one to be planted. */
  readonly trail: readonly TableName[];
}

async function draftRow(bed: Bed, { table, tenant, filling, trail }: RowToDraft): Promise<{ row: Draft } | { failed: string }> {
  const { relation } = table;
  if (trail.length > depthMax || trail.includes(relation.table)) return { failed: `${[...trail, relation.table].join(' → ')} need each other` };
  const row: Draft = new Map([[table.column, typed(tenant, columnOf(relation, table.column))]]);
  for (const bound of partitionValues(relation, bed.garden)) row.set(bound.column, typed(bound.value, columnOf(relation, bound.column)));
  for (const constraint of relation.constraints) {
    const failed = await fillReference(bed, { table, tenant, constraint, row, filling, trail: [...trail, relation.table] });
    if (failed !== undefined) return { failed };
  }
  const referring = new Set(relation.constraints.flatMap((constraint) => (constraint.foreign ? constraint.columns : [])));
  const uniqueColumns = uniqueColumnsOf(relation);
  for (const column of relation.columns) {
    if (row.has(column.name) || column.generated || referring.has(column.name)) continue;
    const numbered = column.identity || /\bnextval\(/.test(column.default ?? '');
    const drawn = numbered || (uniqueColumns.has(column.name) && !/uuid|random/i.test(column.default ?? ''));
    // A number of our own leaves the sequence where it is: it would not be rolled back.
    const needed = column.notNull && column.default === undefined;
    if (!drawn && !needed && !(filling(column.name) && column.default === undefined)) continue;
    const value = await columnValue(bed, relation, column, drawn);
    if (value !== undefined) row.set(column.name, typed(value, column));
    else if (needed) return { failed: `no value that is tried for ${column.name} (${column.type}) passes ${checksOf(bed, relation, column)}` };
  }
  for (const constraint of relation.constraints) await referToItself(bed, relation, constraint, row);
  return { row };
}

/** The checks of a column, as a person finds them. */
function checksOf(bed: Bed, relation: Relation, column: Column): string {
  const own = ownChecks(relation, column).map(({ name, definition }) => `${name}, ${definition}`);
  const ofDomain = (bed.garden.columnFacts(relation.oid, column.name)?.domainChecks ?? []).map((definition) => `its type's ${definition}`);
  return [...own, ...ofDomain].join(', and ') || 'its type';
}

function ownChecks(relation: Relation, column: Column): Constraint[] {
  return relation.constraints.filter((constraint) => constraint.kind === 'check' && constraint.columns.join() === column.name);
}

/** Columns of unique indexes, also those inside an expression: `lower(name)`. */
export function uniqueColumnsOf(relation: Relation): ReadonlySet<string> {
  const unique = relation.indexes.filter((index) => index.unique);
  const inExpressions = unique
    .filter((index) => index.columns.includes(undefined))
    .flatMap((index) => relation.columns.map((column) => column.name).filter((name) => index.definition.includes(name)));
  return new Set([...unique.flatMap((index) => index.columns.filter((name) => name !== undefined)), ...inExpressions]);
}

/** A row that must refer to one of its own table, and is the first, refers to itself; its key is then drawn here, not by its default. */
async function referToItself(bed: Bed, relation: Relation, { foreign, columns }: Constraint, row: Draft): Promise<void> {
  if (foreign?.table !== relation.table) return;
  for (const [at, name] of columns.entries()) {
    if (row.has(name) || !columnOf(relation, name)?.notNull) continue;
    const key = columnOf(relation, foreign.columns[at] ?? '');
    if (!key) continue;
    const value = row.has(key.name) ? undefined : await columnValue(bed, relation, key, true);
    if (value !== undefined) row.set(key.name, typed(value, key));
    const own = row.get(key.name);
    if (own !== undefined) row.set(name, own);
  }
}

/** Inserts a draft and reads it back; kept until the surrounding savepoint is undone. */
export function insertDraft(tx: Transaction, table: WantedTable, row: ReadonlyMap<string, string>): Promise<Probe> {
  return tx.keep(`${insertText(table, row)} returning ${returning(table.relation)}`);
}

export function insertText(table: WantedTable, row: ReadonlyMap<string, string>): string {
  const columns = [...row.keys()].map(ident).join(', ');
  return `insert into ${quoted(table.relation.table)} (${columns}) overriding system value values (${[...row.values()].join(', ')})`;
}

/** The values of a planted row as a draft, without what the server computes. */
export function asDraft(planted: Planted): Draft {
  return new Map(
    planted.table.relation.columns.flatMap((column) => {
      const value = planted.row.get(column.name);
      return column.generated || value === undefined ? [] : [[column.name, value === null ? 'null' : typed(value, column)]];
    }),
  );
}

export function typed(value: string, column: Column | undefined): string {
  return column ? `${literal(value)}::${column.type}` : literal(value);
}

interface ReferenceToFill {
  readonly table: WantedTable;
  readonly tenant: string;
  readonly constraint: Constraint;
  readonly row: Draft;
  readonly filling: Filling;
  readonly trail: readonly TableName[];
}

/** Sets the columns of a foreign key to a parent of the same tenant; returns why it could not. */
async function fillReference(bed: Bed, { table, tenant, constraint, row, filling, trail }: ReferenceToFill): Promise<string | undefined> {
  const { foreign } = constraint;
  const { relation } = table;
  if (!foreign) return undefined;
  const open = constraint.columns.filter((name) => !row.has(name));
  const needed = open.some((name) => columnOf(relation, name)?.notNull && columnOf(relation, name)?.default === undefined);
  if (open.length === 0 || foreign.table === relation.table || (!needed && !open.some(filling))) return undefined;
  const target = bed.garden.wanted.tables.get(foreign.table);
  let values: ReadonlyMap<string, string | null> | undefined;
  if (target && target.rule === undefined) values = new Map([[target.column, tenant]]);
  else if (target) {
    const parent = await plantParent(bed, target, tenant, trail);
    if ('failed' in parent) return needed ? `its parent ${foreign.table}: ${parent.failed}` : undefined;
    values = parent.row;
  } else {
    values = await bed.garden.existing(foreign.table, foreign.columns);
    if (!values) return needed ? `${foreign.table} has no row to refer to` : undefined;
  }
  for (const [at, name] of constraint.columns.entries()) {
    const value = values.get(foreign.columns[at] ?? '');
    if (!row.has(name) && value !== undefined && value !== null) row.set(name, typed(value, columnOf(relation, name)));
  }
  return undefined;
}

/** A value that the column's own checks accept, unlike any other where `unique`; undefined where none was found. */
export async function columnValue(bed: Bed, relation: Relation, column: Column, unique: boolean): Promise<string | undefined> {
  const facts = bed.garden.columnFacts(relation.oid, column.name);
  if (!facts) return undefined;
  const checks = ownChecks(relation, column);
  const random = unique ? uniqueValue(facts) : undefined;
  if (checks.length === 0 && facts.domainChecks.length === 0) return random ?? candidateValues(facts, [], unique)[0];
  const key = `${relation.table}/${column.name}`;
  const known = bed.garden.accepted.get(key);
  if (known !== undefined && !unique) return known;
  const expressions = checks.map((check) => check.definition);
  for (const value of [...(random === undefined ? [] : [random]), ...uniqueShapes(facts, unique), ...candidateValues(facts, expressions, unique)].slice(
    0,
    80,
  )) {
    if (!(await passes(bed.tx, column, value, expressions))) continue;
    bed.garden.accepted.set(key, value);
    return value;
  }
  return undefined;
}

/** Text that is unique and still looks like something. */
function uniqueShapes(facts: ColumnFacts, unique: boolean): string[] {
  const random = unique && facts.category === 'S' && facts.kind === 'base' ? uniqueValue(facts) : undefined;
  return random === undefined
    ? []
    : [`${random.slice(0, 12)}@example.org`, `https://example.org/${random}`, random.toUpperCase(), `a${random}`, random.replaceAll(/[a-f]/g, '1')];
}

/** Asks the server itself whether the column's checks accept a value. The value is selected, or a domain's own check would be skipped. */
async function passes(tx: Transaction, column: Column, value: string, checks: readonly string[]): Promise<boolean> {
  const conditions = checks.map((check) => `(${checkExpression(check)}) is not false`);
  const probe = await tx.probe(
    `select ${ident(column.name)}::text from (select ${typed(value, column)} as ${ident(column.name)}) as row_of_one where ${conditions.join(' and ') || 'true'}`,
  );
  return probe.ok && probe.rows.length === 1;
}

/** For a partitioned table: key values that the first partition takes. A hash or a default partition takes any. */
function partitionValues(relation: Relation, garden: Garden): { column: string; value: string }[] {
  if (relation.kind !== 'partitioned') return [];
  const child = [...garden.relations.values()].find((candidate) => candidate.isPartition && candidate.parents.includes(relation.table));
  if (!child?.partitionBound) return [];
  const bound = /^FOR VALUES (?:IN|FROM) \((.*?)\)(?: TO \(.*\))?$/s.exec(child.partitionBound)?.[1];
  const values =
    bound === undefined ? [] : [...bound.matchAll(/'((?:[^']|'')*)'|([^,\s]+)/g)].map(([, text, plain]) => text?.replaceAll("''", "'") ?? plain ?? '');
  const own = relation.partitionKey.flatMap((column, at) => {
    const value = values[at];
    return column === undefined || value === undefined || /^(MINVALUE|MAXVALUE|NULL)$/.test(value) ? [] : [{ column, value }];
  });
  return [...own, ...partitionValues(child, garden)];
}

function returning(relation: Relation): string {
  return [
    `tableoid::text as "pw tableoid"`,
    `ctid::text as "pw ctid"`,
    ...relation.columns.map((column) => `${ident(column.name)}::text as ${ident(column.name)}`),
  ].join(', ');
}

function toPlanted(table: WantedTable, tenant: string, probe: Extract<Probe, { ok: true }>): PlantResult {
  const [found] = probe.rows;
  if (!found) return { failed: 'the row was not there after the insert' };
  const { 'pw tableoid': tableoid, 'pw ctid': ctid, ...columns } = found;
  const row = new Map(Object.entries(columns));
  const primary = table.relation.constraints.find((constraint) => constraint.kind === 'primary');
  const keyed = primary?.columns.map((name) => `${ident(name)} = ${typed(row.get(name) ?? '', columnOf(table.relation, name))}`);
  const where = keyed?.join(' and ') ?? `tableoid = ${literal(tableoid ?? '')}::oid and ctid = ${literal(ctid ?? '')}::tid`;
  return { table, tenant, row, where };
}
