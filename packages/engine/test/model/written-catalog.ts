import type { Catalog, Constraint, Relation } from '../../src/catalog/catalog.ts';
import { type TableName, tableName } from '../../src/model/table-name.ts';

/** A table written down for a test of pure functions; the catalog of a real database is what `inferring` reads. */
export interface WrittenTable {
  readonly schema?: string;
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly type?: string; readonly notNull?: boolean }[];
  readonly keys?: readonly { readonly columns: readonly string[]; readonly table: TableName; readonly references: readonly string[] }[];
  readonly uniques?: readonly (readonly string[])[];
  readonly parents?: readonly TableName[];
}

const nobody = { grants: [] };

/** A catalog with these tables; the first column of each is its primary key. */
export function writtenCatalog(tables: readonly WrittenTable[]): Catalog {
  const relations = tables.map(toRelation);
  return {
    database: 'written',
    serverVersion: 180_000,
    currentUser: 'postgres',
    relations: new Map(relations.map((relation) => [relation.table, relation])),
    functions: [],
    sequences: [],
    roles: new Map(),
    schemas: new Map([...new Set(relations.map(({ schema }) => schema))].map((name) => [name, { name, owner: 'postgres', ...nobody }])),
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
    protectsContext: true,
    runtime: undefined,
  };
}

function toRelation(written: WrittenTable, at: number): Relation {
  const { schema = 'public', name } = written;
  const key = written.columns[0]?.name ?? 'id';
  const uniques = (written.uniques ?? []).map((columns, number) => ({ name: `${name}_unique_${number}`, columns }));
  const index = { valid: true, nullsNotDistinct: false, predicate: undefined, method: 'btree', definition: '', attachedTo: undefined };
  return {
    oid: 20_000 + at,
    table: tableName(schema, name),
    schema,
    name,
    kind: 'table',
    owner: 'postgres',
    unlogged: false,
    extension: undefined,
    rls: false,
    rlsForced: false,
    options: [],
    parents: written.parents ?? [],
    isPartition: false,
    partitionBound: undefined,
    partitionKey: [],
    estimatedRows: -1,
    pages: 0,
    comment: undefined,
    columns: written.columns.map((column, number) => ({
      number: number + 1,
      name: column.name,
      type: column.type ?? 'uuid',
      notNull: column.notNull ?? number === 0,
      default: undefined,
      identity: false,
      generated: false,
      local: true,
      ...nobody,
    })),
    constraints: [
      constraint({ name: `${name}_pkey`, kind: 'primary', columns: [key] }),
      ...(written.keys ?? []).map(({ columns, table, references }, number) =>
        constraint({
          name: `${name}_fkey_${number}`,
          kind: 'foreign',
          columns,
          foreign: { table, columns: references, onDelete: 'no action', onUpdate: 'no action', setColumns: [], match: 'simple' },
        }),
      ),
    ],
    indexes: [
      { ...index, name: `${name}_pkey`, columns: [key], unique: true, primary: true, constraint: `${name}_pkey` },
      ...uniques.map(({ name: unique, columns }) => ({ ...index, name: unique, columns, unique: true, primary: false, constraint: undefined })),
    ],
    policies: [],
    triggers: [],
    rules: [],
    ...nobody,
    reads: [],
    definition: undefined,
  };
}

function constraint(given: Pick<Constraint, 'name' | 'kind' | 'columns'> & Partial<Constraint>): Constraint {
  return {
    oid: 0,
    validated: true,
    enforced: true,
    deferrable: false,
    deferred: false,
    inherited: false,
    definition: '',
    index: undefined,
    foreign: undefined,
    ...given,
  };
}
