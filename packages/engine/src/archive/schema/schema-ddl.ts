import type pg from 'pg';
import { tableName } from '../../model/table-name.ts';
import { addressOf, type Draft, isOurs, type Rows } from './draft.ts';
import { order } from './order.ts';
import { readConstraints } from './read-constraints.ts';
import { readDependencies } from './read-dependencies.ts';
import { readOthers } from './read-others.ts';
import { readRights } from './read-rights.ts';
import { readRoles } from './read-roles.ts';
import { readRoutines } from './read-routines.ts';
import { readTables } from './read-tables.ts';
import { readTypes } from './read-types.ts';
import { readViews } from './read-views.ts';
import { type SchemaDdl, schemaFormat } from './schema-document.ts';

/** How texts of the catalogs are written: names in full, and quoted only where they must be. */
const settings = { search_path: '', quote_all_identifiers: 'off', DateStyle: 'ISO', IntervalStyle: 'postgres', extra_float_digits: '1', bytea_output: 'hex' };

/**
 * Reads the whole schema of the connected database as statements: every schema but PostgreSQL's own, with those of Partywall. Inside or outside of a
 * transaction of the caller; settings of the session are put back. The catalogs are read as they are now, whatever snapshot the transaction has,
 * so a caller who wants the schema of its rows holds locks on their tables.
 */
export async function schemaDdl(client: pg.ClientBase): Promise<SchemaDdl> {
  const before = await client.query<{ name: string; value: string }>(
    'select s.name, pg_catalog.current_setting(s.name) as value from unnest($1::text[]) s (name)',
    [Object.keys(settings)],
  );
  await applySettings(client, Object.entries(settings));
  const schema = await read(client);
  await applySettings(
    client,
    before.rows.map(({ name, value }) => [name, value]),
  );
  return schema;
}

async function read(client: pg.ClientBase): Promise<SchemaDdl> {
  const rows: Rows = async (text) => (await client.query(text)).rows;
  const [server] = await rows<{ version: number }>("select pg_catalog.current_setting('server_version_num')::integer as version");
  const version = server?.version ?? 0;
  const readings = [
    await readTypes(rows),
    await readRoutines(rows),
    await readTables(rows, version),
    await readConstraints(rows),
    await readViews(rows),
    await readRights(rows),
    await readOthers(rows),
  ];
  const drafts = readings.flatMap((reading) => reading.drafts);
  const { placed, circular } = order(drafts, await readDependencies(rows));
  const tables = await relationNames(rows);
  const nameOf = (draft: Draft): string | null => (draft.part === undefined ? null : (tables.get(draft.part) ?? null));
  return {
    format: schemaFormat,
    major: Math.floor(version / 10_000),
    roles: await readRoles(rows),
    extensions: await rows<{ name: string; version: string }>(
      'select x.extname as name, x.extversion as version from pg_catalog.pg_extension x where x.oid >= 16384 order by x.extname',
    ),
    items: placed.map(({ draft, statements, phase, needs }) => ({
      id: statements === draft.stub ? `stub of ${draft.id}` : draft.id,
      kind: draft.kind,
      phase,
      statements: [...statements],
      needs: needs.map(({ id }) => id).sort(),
      table: nameOf(draft),
    })),
    unsupported: [...readings.flatMap((reading) => reading.unsupported ?? []), ...circular],
  };
}

async function relationNames(rows: Rows): Promise<ReadonlyMap<string, string>> {
  const found = await rows<{ oid: number; schema: string; name: string }>(
    `select c.oid, n.nspname as schema, c.relname as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm') and ${isOurs('n')}`,
  );
  return new Map(found.map(({ oid, schema, name }) => [addressOf('pg_class', oid), tableName(schema, name)]));
}

async function applySettings(client: pg.ClientBase, values: readonly (readonly [string, string])[]): Promise<void> {
  await client.query('select pg_catalog.set_config(s.name, s.value, false) from unnest($1::text[], $2::text[]) s (name, value)', [
    values.map(([name]) => name),
    values.map(([, value]) => value),
  ]);
}
