import type pg from 'pg';
import { type TableName, tableName } from '../model/table-name.ts';
import type {
  Catalog,
  Column,
  Constraint,
  DatabaseFunction,
  ForeignKey,
  Index,
  Policy,
  Relation,
  Role,
  Runtime,
  RuntimeFunction,
  RuntimeRelation,
  Schema,
  Sequence,
  Trigger,
} from './catalog.ts';
import * as sql from './catalog-sql.ts';

type NamePair = [schema: string, name: string];
type OfRelation<T> = T & { relation: number };
type RelationRow = Omit<Relation, 'table' | 'parents' | 'reads' | 'columns' | 'constraints' | 'indexes' | 'policies' | 'triggers'> & {
  parents: NamePair[];
  reads: NamePair[];
};
type ConstraintRow = OfRelation<Omit<Constraint, 'foreign'> & { foreign: (Omit<ForeignKey, 'table'> & { table: NamePair }) | null }>;
type ServerObjects = Pick<Catalog, 'eventTriggers' | 'extensions' | 'foreignServers' | 'languages' | 'settings'> & {
  publications: { name: string; allTables: boolean; tables: NamePair[] }[];
};

/**
 * Reads the catalogs of the connected database in one read-only snapshot. The client must not be inside a transaction.
 * Columns that are NULL in SQL come back as undefined.
 */
export async function readCatalog(client: pg.ClientBase): Promise<Catalog> {
  await client.query('begin isolation level repeatable read, read only');
  try {
    // Definitions print names relative to the search path: an empty one qualifies them all.
    // Object ids come as float8, which fewer digits would round.
    await client.query("set local search_path = ''; set local extra_float_digits = 1");
    const catalog = await read(client);
    await client.query('commit');
    return catalog;
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

async function read(client: pg.ClientBase): Promise<Catalog> {
  // The row types are what the named statements return; catalog-sql.ts and catalog.ts change together.
  const rows = async <Row>(text: string): Promise<Row[]> => {
    const result = await client.query(text);
    return result.rows.map(withoutNulls) as Row[];
  };
  const one = async <Row>(text: string): Promise<Row> => {
    const [row] = await rows<Row>(text);
    if (row === undefined) throw new Error('reading the catalog: a query that returns one row returned none');
    return row;
  };

  const database = await one<Pick<Catalog, 'database' | 'serverVersion' | 'currentUser' | 'largeObjects' | 'protectsContext' | 'databaseGrants'>>(
    sql.databaseSql,
  );
  const relationRows = await rows<RelationRow>(sql.relationsSql);
  const columns = byRelation(await rows<OfRelation<Column>>(sql.columnsSql(database.serverVersion)));
  const constraints = byRelation((await rows<ConstraintRow>(sql.constraintsSql(database.serverVersion))).map(toConstraint));
  const indexes = byRelation((await rows<OfRelation<Index>>(sql.indexesSql)).map((index) => ({ ...index, columns: withoutNull(index.columns) })));
  const policies = byRelation(await rows<OfRelation<Policy>>(sql.policiesSql));
  const triggers = byRelation(await rows<OfRelation<Trigger>>(sql.triggersSql));
  const functions = await rows<DatabaseFunction>(sql.functionsSql);
  const sequences = await rows<Omit<Sequence, 'ownedBy'> & { ownedBy?: { table: NamePair; column: string } }>(sql.sequencesSql);
  const roles = await rows<Role>(sql.rolesSql(database.serverVersion));
  const schemas = await rows<Schema>(sql.schemasSql);
  const enums = await rows<{ name: string; labels?: string[] }>(sql.enumsSql);
  const defaultPrivileges = await rows<Catalog['defaultPrivileges'][number]>(sql.defaultPrivilegesSql);
  const server = await one<ServerObjects>(sql.serverObjectsSql);
  const runtime = await readRuntime(rows);

  const relations = new Map<TableName, Relation>();
  for (const row of relationRows) {
    const table = tableName(row.schema, row.name);
    relations.set(table, {
      ...row,
      table,
      parents: row.parents.map(toName),
      partitionKey: withoutNull(row.partitionKey),
      reads: row.reads.map(toName).sort(),
      columns: columns.get(row.oid) ?? [],
      constraints: constraints.get(row.oid) ?? [],
      indexes: indexes.get(row.oid) ?? [],
      policies: policies.get(row.oid) ?? [],
      triggers: triggers.get(row.oid) ?? [],
    });
  }

  return {
    ...database,
    ...server,
    relations,
    functions,
    sequences: sequences.map((sequence) => ({
      ...sequence,
      ownedBy: sequence.ownedBy && { table: toName(sequence.ownedBy.table), column: sequence.ownedBy.column },
    })),
    roles: new Map(roles.map((role) => [role.name, role])),
    schemas: new Map(schemas.map((schema) => [schema.name, schema])),
    enums: new Map(enums.map(({ name, labels }) => [name, labels ?? []])),
    defaultPrivileges,
    publications: server.publications.map((publication) => ({ ...publication, tables: publication.tables.map(toName) })),
    runtime,
  };
}

async function readRuntime(rows: <Row>(text: string) => Promise<Row[]>): Promise<Runtime | undefined> {
  const [state] = await rows<{ owner: string; keyType?: string; factsReadable: boolean }>(sql.runtimeStateSql);
  if (!state) return undefined;
  const functions = await rows<RuntimeFunction>(sql.runtimeFunctionsSql);
  const relations = await rows<RuntimeRelation>(sql.runtimeRelationsSql);
  const [facts] = state.factsReadable ? await rows<{ facts: Record<string, unknown> }>(sql.runtimeFactsSql) : [];
  return { owner: state.owner, keyType: state.keyType, functions, relations, facts: facts?.facts };
}

function toConstraint({ foreign, ...row }: ConstraintRow): OfRelation<Constraint> {
  return { ...row, foreign: foreign ? { ...foreign, table: toName(foreign.table) } : undefined };
}

function toName([schema, name]: NamePair): TableName {
  return tableName(schema, name);
}

function byRelation<T extends { relation: number }>(rows: readonly T[]): Map<number, Omit<T, 'relation'>[]> {
  const groups = new Map<number, Omit<T, 'relation'>[]>();
  for (const { relation, ...row } of rows) {
    const group = groups.get(relation);
    if (group) group.push(row);
    else groups.set(relation, [row]);
  }
  return groups;
}

/** Expressions among columns are null in JSON. */
function withoutNull(columns: readonly (string | null | undefined)[]): (string | undefined)[] {
  return columns.map((column) => column ?? undefined);
}

function withoutNulls(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value ?? undefined]));
}
