import { type Catalog, columnOf, type Relation } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { partsOf, type TableName } from '../../model/table-name.ts';
import { byReference, scopedRelations } from '../../tenants/transfer/tables.ts';
import { rowOwner } from '../export/row-owner-sql.ts';
import type { SourceTable, TenantSource } from '../tenant-source.ts';
import type { SqliteFile } from './open-sqlite.ts';
import { converter, type Storage, type StoredValue, ValueRefused } from './sqlite-value.ts';

const pieceBytes = 256 * 1024;
const examplesMax = 5;
/** A column that is declared NOCASE would take ACME for acme. */
const keyParameter = '?1 collate binary';

export interface SqliteSourceOptions {
  /** The database that the rows are for: its columns say which types values become, and have the tenant column that the wall added. */
  readonly into?: Catalog | undefined;
}

/** Rows that belong to no tenant of the file. */
export interface UnownedRows {
  readonly table: TableName;
  readonly rows: number;
  /** Some of them, as `rowid 17`; empty where the table has none. */
  readonly examples: readonly string[];
}

/**
 * One tenant's rows of a SQLite file. Every value is asked what it is in fact, because a column of SQLite holds what it was given, and one that has
 * no form in the column's type is an error that names table, row and column.
 *
 * @throws PartywallError tenant_unknown; with the rows: backup_refused
 */
export function sqliteSource(file: SqliteFile, tenant: string, options: SqliteSourceOptions = {}): TenantSource {
  const key = tenantKeys(file).get(tenant);
  if (key === undefined) throw new PartywallError('tenant_unknown', `looking for tenant ${tenant.slice(0, 100)} in ${file.file}: there is none`);
  return sourceOf(file, { tenant, key }, options);
}

/** Every tenant of the file, one after the other. Rows of none are not among them: `unownedRows` lists these. */
export async function* sqliteSources(file: SqliteFile, options: SqliteSourceOptions = {}): AsyncGenerator<TenantSource> {
  for (const [tenant, key] of tenantKeys(file)) yield sourceOf(file, { tenant, key }, options);
}

/** Rows whose tenant is NULL or is not there: no tenant's backup or export holds them. */
export function unownedRows(file: SqliteFile): UnownedRows[] {
  const { model, catalog, database } = file;
  const owner = ownerOf(file);
  return scopedRelations(model, catalog)
    .filter(({ table }) => table !== model.tenant.table)
    .flatMap((relation): UnownedRows[] => {
      const rest = `from ${sqlName(relation.table)} t where not exists (select 1 from ${sqlName(model.tenant.table)} r where r.${ident(model.tenant.key)} = ${owner.of(relation.table, 't')})`;
      const { count } = database.prepare(`select count(*) as count ${rest}`).get() as { count: number };
      if (count === 0) return [];
      const rowid = rowidName(file, relation);
      const found = rowid === undefined ? [] : database.prepare(`select cast(t.${rowid} as text) as id ${rest} limit ${examplesMax}`).all();
      return [{ table: relation.table, rows: count, examples: found.map(({ id }) => `rowid ${id}`) }];
    });
}

/** A line each for a report. */
export function unownedText(found: readonly UnownedRows[]): string[] {
  return found.map(
    ({ table, rows, examples }) =>
      `${table}: ${rows} rows of no tenant of the file${examples.length > 0 ? ` (${examples.join(', ')}${rows > examples.length ? ', …' : ''})` : ''}`,
  );
}

interface Owner {
  readonly tenant: string;
  /** The key as it is stored, so that tenant columns compare with it as SQLite compares them. */
  readonly key: bigint | string;
}

/** Keys of all tenants by their text. @throws PartywallError backup_refused for keys that are no text or integer, or are the same as text */
export function tenantKeys({ model, database, file }: Pick<SqliteFile, 'model' | 'database' | 'file'>): Map<string, bigint | string> {
  const statement = database.prepare(`select ${ident(model.tenant.key)} as key from ${sqlName(model.tenant.table)} order by 1`);
  statement.setReadBigInts(true);
  const keys = new Map<string, bigint | string>();
  for (const { key } of statement.iterate() as Iterable<{ key: StoredValue }>) {
    if (typeof key !== 'bigint' && typeof key !== 'string')
      throw new PartywallError('backup_refused', `reading the tenants of ${file}: a key that is neither text nor integer`);
    const text = String(key);
    if (keys.has(text)) throw new PartywallError('backup_refused', `reading the tenants of ${file}: two have the key ${text.slice(0, 100)}`);
    keys.set(text, key);
  }
  return keys;
}

function sourceOf(file: SqliteFile, owner: Owner, { into }: SqliteSourceOptions): TenantSource {
  const tables = byReference(scopedRelations(file.model, file.catalog)).map((relation) => planTable(file, relation, into));
  const condition = ownerOf(file);
  const plans = new Map(tables.map((plan) => [plan.relation.table, { ...plan, where: condition.isOf(plan.relation.table, 't', keyParameter) }]));
  const countOf = (table: TableName): number => {
    const statement = file.database.prepare(`select count(*) as count from ${sqlName(table)} t where ${plans.get(table)?.where}`);
    return (statement.get(owner.key) as { count: number }).count;
  };
  return {
    tenant: owner.tenant,
    at: file.at,
    description: `SQLite file ${file.file}`,
    tables: tables.map(({ relation, columns, tenantColumn }): SourceTable => {
      const key = relation.indexes.find(({ primary }) => primary)?.columns.flatMap((name) => name ?? []) ?? [];
      return { name: relation.table, columns: columns.map(({ name, type }) => ({ name, type })), key, tenantColumn, count: countOf(relation.table) };
    }),
    rows: ({ name }) => {
      const plan = plans.get(name);
      if (!plan) throw new PartywallError('backup_refused', `reading ${name} of ${file.file}: it is no table of the source`);
      return lines(file, plan, owner);
    },
  };
}

interface ColumnPlan {
  readonly name: string;
  readonly type: string;
  /** The file has no such column: it holds the tenant. */
  readonly added: boolean;
}

interface TablePlan {
  readonly relation: Relation;
  readonly tenantColumn: string;
  readonly columns: readonly ColumnPlan[];
}

function planTable({ model, catalog }: SqliteFile, relation: Relation, into: Catalog | undefined): TablePlan {
  const rule = model.tables.get(relation.table);
  const tenantColumn = rule?.scope === 'scoped' ? rule.column : model.tenant.key;
  const target = into?.relations.get(relation.table);
  const columns = relation.columns.flatMap(({ name, type, generated }): ColumnPlan[] => {
    const wanted = target && columnOf(target, name);
    return generated || wanted?.generated ? [] : [{ name, type: wanted?.type ?? type, added: false }];
  });
  const wall = target && columnOf(target, tenantColumn);
  if (!wall || columnOf(relation, tenantColumn)) return { relation, tenantColumn, columns };
  const keyType = catalog.relations.get(model.tenant.table)?.columns.find(({ name }) => name === model.tenant.key)?.type ?? 'text';
  return { relation, tenantColumn, columns: [...columns, { name: tenantColumn, type: wall.type || keyType, added: true }] };
}

/** Rows in COPY's text format, in the order of the key. */
async function* lines(file: SqliteFile, plan: TablePlan & { readonly where: string }, owner: Owner): AsyncGenerator<Buffer> {
  const { relation } = plan;
  const rowid = rowidName(file, relation);
  const stored = plan.columns.filter(({ added }) => !added);
  const values = stored.flatMap(({ name }) => {
    const column = `t.${ident(name)}`;
    // As bytes: SQLite checks no text, and a library that decodes one puts something else in its place.
    return [`typeof(${column})`, `case typeof(${column}) when 'text' then cast(${column} as blob) else ${column} end`];
  });
  const key = relation.indexes.find(({ primary }) => primary)?.columns.flatMap((name) => (name === undefined ? [] : `t.${ident(name)}`)) ?? [];
  const order = key.length > 0 ? key : rowid === undefined ? [] : [`t.${rowid}`];
  const statement = file.database.prepare(
    `select ${rowid === undefined ? 'null' : `cast(t.${rowid} as text)`} as id${values.map((value, at) => `, ${value} as v${at}`).join('')} from ${sqlName(relation.table)} t where ${plan.where}${order.length > 0 ? ` order by ${order.join(', ')}` : ''}`,
  );
  statement.setReadBigInts(true);
  const converters = stored.map(({ type }) => converter(type));
  const added = plan.columns.filter((column) => column.added).map(() => field(owner.tenant));
  let piece = '';
  let number = 0;
  for (const row of statement.iterate(owner.key) as Iterable<Record<string, StoredValue>>) {
    number += 1;
    const fields = converters.map((toText, at) => {
      try {
        const text = toText(row[`v${at * 2}`] as Storage, row[`v${at * 2 + 1}`] ?? null, file.encoding); // what typeof() says
        return text === null ? '\\N' : field(text);
      } catch (error) {
        if (!(error instanceof ValueRefused)) throw error;
        const place = row['id'] === null ? `row ${number} by its key` : `rowid ${row['id']}`;
        throw new PartywallError('backup_refused', `reading ${relation.table} of ${file.file}: ${place}, column ${stored[at]?.name}: ${error.message}`);
      }
    });
    piece += `${[...fields, ...added].join('\t')}\n`;
    if (piece.length < pieceBytes) continue;
    yield Buffer.from(piece);
    piece = '';
  }
  if (piece !== '') yield Buffer.from(piece);
}

const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function field(text: string): string {
  return /[\\\n\r\t]/.test(text) ? text.replace(/[\\\n\r\t]/g, (character) => escapes[character] ?? character) : text;
}

function ownerOf({ model, catalog }: SqliteFile) {
  return rowOwner(model, catalog, sqlName);
}

function sqlName(table: TableName): string {
  return `main.${ident(partsOf(table).name)}`;
}

/** A name that reaches the row number, undefined where the table has none (WITHOUT ROWID, or columns of all three names). */
function rowidName({ database }: Pick<SqliteFile, 'database'>, relation: Relation): string | undefined {
  const free = ['rowid', '_rowid_', 'oid'].find((name) => !relation.columns.some((column) => column.name.toLowerCase() === name));
  const { wr } = (database.prepare("select wr from pragma_table_list where schema = 'main' and name = ?").get(relation.name) ?? {}) as { wr?: number };
  return wr === 1 ? undefined : free;
}
