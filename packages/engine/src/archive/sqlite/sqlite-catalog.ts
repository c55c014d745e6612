import type { DatabaseSync } from 'node:sqlite';
import type { Catalog, Column, Constraint, Index, Relation } from '../../catalog/catalog.ts';
import { type TableName, tableName } from '../../model/table-name.ts';
import { postgresType } from './sqlite-types.ts';

interface TableRow {
  readonly name: string;
  readonly type: string;
}

interface ColumnRow {
  readonly cid: number;
  readonly name: string;
  readonly type: string;
  readonly notnull: number;
  readonly dflt_value: string | null;
  readonly pk: number;
  /** 1: of a virtual table, 2 and 3: generated. */
  readonly hidden: number;
}

interface IndexRow {
  readonly name: string;
  readonly unique: number;
  readonly origin: string;
  readonly partial: number;
}

interface KeyRow {
  readonly id: number;
  readonly table: string;
  readonly from: string;
  readonly to: string | null;
}

export interface CatalogOptions {
  /** The schema that the file's tables count as. */
  readonly schema: string;
  /** Whom they count as owned by. */
  readonly owner: string;
  /** Of the file, for messages. */
  readonly name: string;
}

/** What a SQLite file holds, as a catalog: so the model, its check and its orders work on it as on a database of PostgreSQL. */
export function sqliteCatalog(database: DatabaseSync, options: CatalogOptions): Catalog {
  // Tables behind virtual ones (`shadow`) hold what these show; those of SQLite itself are no tables of the application.
  const tables = rows<TableRow>(database, "select name, type from pragma_table_list where schema = 'main' and type in ('table', 'virtual')").filter(
    ({ name }) => !name.startsWith('sqlite_'),
  );
  // SQLite compares names without regard to case, and foreign keys write them as they like.
  const actual = new Map(tables.map(({ name }) => [name.toLowerCase(), name]));
  const columns = new Map(tables.map(({ name }) => [name, rows<ColumnRow>(database, 'select * from pragma_table_xinfo(?) order by cid', name)]));
  const nameOf = (name: string): TableName => tableName(options.schema, actual.get(name.toLowerCase()) ?? name);
  const relations = tables.map(({ name }, at): Relation => {
    const own = columns.get(name) ?? [];
    return {
      ...bare,
      oid: at + 1,
      table: nameOf(name),
      schema: options.schema,
      name,
      owner: options.owner,
      columns: own.map(toColumn),
      constraints: foreignKeys(database, name, { own, nameOf, columns, actual }),
      indexes: indexesOf(database, name, own),
    };
  });
  return { ...empty, database: options.name, currentUser: options.owner, relations: new Map(relations.map((relation) => [relation.table, relation])) };
}

function toColumn(row: ColumnRow): Column {
  return {
    number: row.cid + 1,
    name: row.name,
    type: postgresType(row.type),
    notNull: row.notnull === 1 || row.pk > 0,
    default: row.dflt_value ?? undefined,
    identity: false,
    generated: row.hidden !== 0,
    local: true,
    grants: [],
  };
}

function primaryKey(columns: readonly ColumnRow[]): string[] {
  return columns
    .filter(({ pk }) => pk > 0)
    .sort((left, right) => left.pk - right.pk)
    .map(({ name }) => name);
}

interface Names {
  readonly own: readonly ColumnRow[];
  readonly nameOf: (name: string) => TableName;
  readonly columns: ReadonlyMap<string, readonly ColumnRow[]>;
  readonly actual: ReadonlyMap<string, string>;
}

function foreignKeys(database: DatabaseSync, table: string, { own, nameOf, columns, actual }: Names): Constraint[] {
  const named = (list: readonly ColumnRow[], name: string): string => list.find((column) => column.name.toLowerCase() === name.toLowerCase())?.name ?? name;
  const keys = Map.groupBy(rows<KeyRow>(database, 'select id, "table", "from", "to" from pragma_foreign_key_list(?) order by id, seq', table), ({ id }) => id);
  return [...keys.values()].flatMap((parts, at): Constraint[] => {
    const [first] = parts;
    if (!first) return [];
    const target = columns.get(actual.get(first.table.toLowerCase()) ?? '') ?? [];
    const key = primaryKey(target);
    return [
      {
        oid: at + 1,
        name: `${table}_fkey_${first.id}`,
        kind: 'foreign',
        columns: parts.map(({ from }) => named(own, from)),
        // SQLite enforces references only where the application has switched that on.
        validated: false,
        enforced: false,
        deferrable: false,
        deferred: false,
        inherited: false,
        definition: '',
        index: undefined,
        foreign: {
          table: nameOf(first.table),
          columns: parts.map(({ to }, place) => (to === null ? (key[place] ?? '') : named(target, to))),
          onDelete: 'no action',
          onUpdate: 'no action',
          setColumns: [],
          match: 'simple',
        },
      },
    ];
  });
}

function indexesOf(database: DatabaseSync, table: string, columns: readonly ColumnRow[]): Index[] {
  const key = primaryKey(columns);
  const uniques = rows<IndexRow>(database, 'select name, "unique", origin, partial from pragma_index_list(?) order by seq', table)
    .filter((index) => index.unique === 1 && index.origin !== 'pk')
    .map((index) =>
      toIndex(index.name, {
        columns: rows<{ name: string | null }>(database, 'select name from pragma_index_info(?) order by seqno', index.name).map(
          ({ name }) => name ?? undefined,
        ),
        primary: false,
        predicate: index.partial === 1 ? 'some rows' : undefined,
      }),
    );
  return key.length === 0 ? uniques : [toIndex(`${table}_pkey`, { columns: key, primary: true, predicate: undefined }), ...uniques];
}

function toIndex(name: string, index: Pick<Index, 'columns' | 'primary' | 'predicate'>): Index {
  return { ...index, name, unique: true, valid: true, nullsNotDistinct: false, method: 'btree', definition: '', constraint: undefined, attachedTo: undefined };
}

/** The row types are what the named pragmas return. */
function rows<Row>(database: DatabaseSync, text: string, ...values: string[]): Row[] {
  return database.prepare(text).all(...values) as Row[];
}

const bare: Omit<Relation, 'oid' | 'table' | 'schema' | 'name' | 'owner' | 'columns' | 'constraints' | 'indexes'> = {
  kind: 'table',
  unlogged: false,
  extension: undefined,
  rls: false,
  rlsForced: false,
  options: [],
  parents: [],
  isPartition: false,
  partitionBound: undefined,
  partitionKey: [],
  estimatedRows: -1,
  pages: 0,
  comment: undefined,
  policies: [],
  triggers: [],
  rules: [],
  grants: [],
  reads: [],
  definition: undefined,
};

const empty: Omit<Catalog, 'database' | 'currentUser' | 'relations'> = {
  serverVersion: 0,
  functions: [],
  sequences: [],
  roles: new Map(),
  schemas: new Map(),
  defaultPrivileges: [],
  eventTriggers: [],
  enums: new Map(),
  extensions: [],
  foreignServers: [],
  languages: [],
  settings: [],
  publications: [],
  databaseGrants: [],
  largeObjects: 0,
  protectsContext: false,
  runtime: undefined,
};
