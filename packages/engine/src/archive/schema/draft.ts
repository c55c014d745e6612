import type pg from 'pg';

/**
 * What the statements of a schema are made for, in the order in which they are made where nothing asks for another. All up to `sequence owner` is made
 * before the rows are loaded, and the rest after them.
 */
export const kinds = [
  'schema',
  'extension',
  'collation',
  'type',
  'sequence',
  'routine',
  'aggregate',
  'operator',
  'cast',
  'text search',
  'table',
  'partition',
  'default',
  'sequence owner',
  'key',
  'index',
  'check',
  'foreign key',
  'statistics',
  'view',
  'rule',
  'trigger',
  'policy',
  'row security',
  'rights',
  'publication',
  'event trigger',
  'setting',
  'refresh',
  'default privileges',
] as const;
export type Kind = (typeof kinds)[number];

/** An object of the schema as it is read, before it has its place in the order. */
export interface Draft {
  /** Tells it from every other object of the database, in any database alike: `table public.customers`. */
  readonly id: string;
  readonly kind: Kind;
  readonly statements: readonly string[];
  /** Objects of the system catalogs that this makes, as `addressOf` writes them: what depends on one of them comes later. */
  readonly makes: readonly string[];
  /** What it needs beyond what `pg_depend` knows: addresses. */
  readonly needs?: readonly string[];
  /** Table that it is a part of, by the address of the table. */
  readonly part?: string;
  /** A form that needs nothing, for an object that needs itself in the end: made first, and the statements then replace it. */
  readonly stub?: readonly string[];
}

/** What is read of the catalogs at once. */
export interface Reading {
  readonly drafts: readonly Draft[];
  /** What no statement can be made for, a line each. */
  readonly unsupported?: readonly string[];
}

/** Runs a query of the catalogs; the row type is what the query returns. */
export type Rows = <Row extends pg.QueryResultRow>(text: string) => Promise<Row[]>;

export function addressOf(catalog: string, oid: number): string {
  return `${catalog} ${oid}`;
}

/** SQL: the schema `alias` (of pg_namespace) is neither PostgreSQL's own nor temporary. */
export function isOurs(alias: string): string {
  return `${alias}.nspname !~ '^pg_' and ${alias}.nspname <> 'information_schema'`;
}

/** SQL: the object does not come with an extension. */
export function isFree(catalog: string, oid: string): string {
  return `not exists (select from pg_catalog.pg_depend x_of where x_of.classid = 'pg_catalog.${catalog}'::regclass and x_of.objid = ${oid} and x_of.deptype = 'e')`;
}

/** SQL: `table public.customers`. */
export function identityOf(catalog: string, oid: string): string {
  return `(select i.type || ' ' || i.identity from pg_catalog.pg_identify_object('pg_catalog.${catalog}'::regclass, ${oid}, 0) i)`;
}
