import { type Column, type Constraint, columnOf, type Relation } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import type { WantedTable, WantedWall } from '../../wall/shape.ts';
import { candidateValues, uniqueValue } from './candidate-values.ts';
import type { ColumnFacts, ColumnFactsOf } from './column-facts.ts';
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
  /** Values of a committed row of a table that no tenant owns, for references to it; undefined where it has none. */
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
/** How much of a row is filled in: what it needs, or all of it (for checks such as `a is not null or b is not null`). */
const fillings = ['needed', 'everything'] as const;
type Filling = (typeof fillings)[number];

/**
 * Plants a row of `table` for `tenant`, with the parents it needs, in the tenant's own context, which is the context
 * afterwards.
 */
export async function plant(bed: Bed, table: WantedTable, tenant: string, trail: readonly TableName[] = []): Promise<PlantResult> {
  await become(bed.tx, tenant);
  let failed = 'no way to fill a row';
  for (const filling of fillings) {
    const draft = await draftRow(bed, { table, tenant, filling, trail });
    if ('failed' in draft) {
      failed = draft.failed;
      continue;
    }
    const inserted = await insertDraft(bed.tx, table, draft.row);
    if (inserted.ok) return toPlanted(table, tenant, inserted);
    failed = `${inserted.state} ${inserted.message}`;
  }
  return { failed };
}

/**
 * A draft of a row that the server takes from `tenant`, proven by inserting and undoing it. The parents it needs stay planted, so the
 * same draft with one value changed differs in that value alone.
 */
export async function provenDraft(bed: Bed, table: WantedTable, tenant: string, overrides: Draft = new Map()): Promise<{ row: Draft } | { failed: string }> {
  await become(bed.tx, tenant);
  let failed = 'no way to fill a row';
  for (const filling of fillings) {
    const draft = await draftRow(bed, { table, tenant, filling, trail: [] });
    if ('failed' in draft) {
      failed = draft.failed;
      continue;
    }
    for (const [column, value] of overrides) draft.row.set(column, value);
    const inserted = await bed.tx.probe(insertText(table, draft.row));
    if (inserted.ok) return draft;
    failed = `${inserted.state} ${inserted.message}`;
  }
  return { failed };
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

/** A parent for others: one for each tenant, table and transaction. */
export async function plantParent(bed: Bed, table: WantedTable, tenant: string, trail: readonly TableName[] = []): Promise<PlantResult> {
  const key = `${tenant}/${table.relation.table}`;
  const known = bed.planted.get(key);
  if (known) return known;
  const made = await plant(bed, table, tenant, trail);
  if (!('failed' in made)) bed.planted.set(key, made);
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
  const uniqueColumns = new Set(relation.indexes.filter((index) => index.unique).flatMap((index) => index.columns));
  for (const column of relation.columns) {
    if (row.has(column.name) || column.generated) continue;
    const numbered = column.identity || /\bnextval\(/.test(column.default ?? '');
    const drawn = numbered || (uniqueColumns.has(column.name) && !/uuid|random/i.test(column.default ?? ''));
    // A number of our own leaves the sequence where it is: it would not be rolled back.
    const needed = column.notNull && column.default === undefined;
    if (!drawn && !needed && !(filling === 'everything' && column.default === undefined)) continue;
    const value = await columnValue(bed, relation, column, drawn);
    if (value !== undefined) row.set(column.name, typed(value, column));
    else if (needed) return { failed: `no value for ${column.name} (${column.type}) passes its checks` };
  }
  return { row };
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
  if (open.length === 0 || (!needed && filling === 'needed')) return undefined;
  const target = bed.garden.wanted.tables.get(foreign.table);
  let values: ReadonlyMap<string, string | null> | undefined;
  if (target && target.rule === undefined) values = new Map([[target.column, tenant]]);
  else if (foreign.table === relation.table) {
    if (!needed) return undefined;
    return `${relation.table} refers to itself by ${constraint.name} and cannot be empty there`;
  } else if (target) {
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
  const checks = relation.constraints.filter((constraint) => constraint.kind === 'check' && constraint.columns.join() === column.name);
  const random = unique ? uniqueValue(facts) : undefined;
  if (checks.length === 0 && facts.domainChecks.length === 0) return random ?? candidateValues(facts, [])[0];
  const key = `${relation.table}/${column.name}`;
  const known = bed.garden.accepted.get(key);
  if (known !== undefined && !unique) return known;
  const expressions = checks.map((check) => check.definition);
  for (const value of [...(random === undefined ? [] : [random]), ...uniqueShapes(facts, unique), ...candidateValues(facts, expressions)].slice(0, 80)) {
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
  const conditions = checks.map((check) => `(${/^CHECK \((.*)\)(?: NO INHERIT)?(?: NOT VALID)?(?: NOT ENFORCED)?$/s.exec(check)?.[1] ?? 'true'}) is not false`);
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
