import type pg from 'pg';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { ident } from '../../src/db/sql.ts';
import { quoted } from '../../src/model/table-name.ts';

/**
 * What a database is, as a value that two runs can be compared by: the catalog without what differs from run to run (object ids,
 * estimates), and all rows as JSON. `ignoring` leaves out grants to these roles, which a rollback says it leaves.
 */
export interface State {
  readonly objects: Readonly<Record<string, unknown>>;
  readonly rows: Readonly<Record<string, readonly string[]>>;
}

const volatileFields = new Set([
  'oid',
  'estimatedRows',
  'pages',
  'number',
  'largeObjects',
  'database',
  'registered_at',
  'changed_at',
  'taken_at',
  'created_at',
  'ipad',
  'opad',
]);

export async function stateOf(client: pg.ClientBase, options: { ignoring?: readonly string[] } = {}): Promise<State> {
  const catalog = await readCatalog(client);
  const ignored = new Set(options.ignoring ?? []);
  return { objects: objectsOf(catalog, ignored), rows: await rowsOf(client, catalog) };
}

function objectsOf(catalog: Catalog, ignored: ReadonlySet<string>): Record<string, unknown> {
  const relations = [...catalog.relations.values()].flatMap((relation) => {
    const { columns, constraints, indexes, policies, triggers, ...rest } = relation;
    const parts = { columns, constraints, indexes, policies, triggers };
    return [[relation.table, rest], ...Object.entries(parts).flatMap(([kind, list]) => list.map((part) => [`${relation.table} ${kind} ${part.name}`, part]))];
  });
  const named = [
    ...relations,
    ...catalog.functions.map((routine) => [`function ${routine.schema}.${routine.name}`, routine]),
    ...catalog.sequences.map((sequence) => [`sequence ${sequence.schema}.${sequence.name}`, sequence]),
    ...[...catalog.schemas].map(([name, schema]) => [`schema ${name}`, schema]),
    ...catalog.eventTriggers.map((trigger) => [`event trigger ${trigger.name}`, trigger]),
    ...catalog.defaultPrivileges.map((entry) => [`default privileges ${entry.role} ${entry.schema ?? ''} ${entry.objects}`, entry]),
    ['database', { grants: catalog.databaseGrants, settings: catalog.settings }],
    ['runtime', { keyType: catalog.runtime?.keyType, functions: catalog.runtime?.functions, facts: catalog.runtime?.facts }],
  ];
  return Object.fromEntries(named.map(([name, value]) => [String(name), without(value, ignored)]));
}

function without(value: unknown, ignored: ReadonlySet<string>): unknown {
  if (Array.isArray(value)) {
    return value
      .filter((item) => !(isRecord(item) && typeof item['grantee'] === 'string' && ignored.has(item['grantee'])))
      .map((item) => without(item, ignored));
  }
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).flatMap(([name, field]) => (volatileFields.has(name) ? [] : [[name, without(field, ignored)]])));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

async function rowsOf(client: pg.ClientBase, catalog: Catalog): Promise<Record<string, string[]>> {
  const all: Record<string, string[]> = {};
  const tables = [...catalog.relations.values()].filter((relation) => relation.kind === 'table').map((relation) => quoted(relation.table));
  const own = catalog.runtime
    ? await client.query<{ name: string }>("select relname as name from pg_class where relnamespace = 'partywall'::regnamespace and relkind = 'r'")
    : { rows: [] };
  for (const table of [...tables, ...own.rows.map(({ name }) => `partywall.${ident(name)}`)]) {
    // Facts carry progress that is reached over different ways.
    if (table === 'partywall."facts"') continue;
    const { rows } = await client.query<{ row: string }>(
      `select (to_jsonb(t.*) - 'registered_at' - 'changed_at' - 'taken_at' - 'created_at' - 'ipad' - 'opad')::text as row from only ${table} t order by 1`,
    );
    all[table] = rows.map(({ row }) => row);
  }
  return all;
}
