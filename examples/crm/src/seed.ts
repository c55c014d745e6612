import fs from 'node:fs/promises';
import type pg from 'pg';
import { type CrmTable, crmTables, generateCrm, type Row } from './generate.ts';

export const defaultSeed = 20_240_701;

export interface LoadResult {
  /** False: the database held the CRM already and nothing was changed. */
  readonly loaded: boolean;
  /** One line for a person. */
  readonly message: string;
  /** Rows inserted, by table; empty when nothing was. */
  readonly rows: Readonly<Partial<Record<CrmTable, number>>>;
}

/** What `loadCrm` uses of `pg.Client`; a pool will not do, since everything happens in one transaction. */
export type LoadClient = Pick<pg.ClientBase, 'query'>;

const schemaFile = new URL('../schema.sql', import.meta.url);
/** Bounds the size of one statement's parameter to about a megabyte. */
const rowsPerInsertMax = 2_000;

/** The journal as the team's migration tool would have left it. Its last line says which rows were loaded. */
const migrations = [
  ['20240624_tenants_and_users', '2024-06-24T15:02:11Z'],
  ['20240702_customers_contacts', '2024-07-02T09:41:37Z'],
  ['20240919_deals_and_pipelines', '2024-09-19T12:20:05Z'],
  ['20250114_activities_notes', '2025-01-14T16:33:48Z'],
  ['20250520_tags', '2025-05-20T10:05:59Z'],
  ['20251103_files', '2025-11-03T14:27:30Z'],
  ['20260212_customer_overview', '2026-02-12T08:58:14Z'],
] as const;
const dataVersion = '20260701_demo_data';

/**
 * Creates the CRM's tables in schema `public` and fills them, in one transaction. A database that holds the CRM is left
 * alone, also when another seed is asked for; one whose tables are someone else's is refused by the first name that is taken.
 * Concurrent calls wait for each other.
 */
export async function loadCrm(client: LoadClient, options: { readonly seed?: number } = {}): Promise<LoadResult> {
  const seed = options.seed ?? defaultSeed;
  await client.query('begin');
  try {
    await client.query('set local search_path = public');
    await client.query("select pg_advisory_xact_lock(hashtextextended('crm:load', 0))");
    const present = await loadedName(client);
    if (present !== undefined) {
      await client.query('commit');
      return { loaded: false, message: `the CRM is already there (${present}); nothing was changed`, rows: {} };
    }
    await client.query(await fs.readFile(schemaFile, 'utf8'));
    const rows = await insertAll(client, seed);
    await client.query('commit');
    const total = Object.values(rows).reduce((sum, count) => sum + count, 0);
    return { loaded: true, message: `loaded the CRM: ${total} rows in ${crmTables.length} tables from seed ${seed}`, rows };
  } catch (cause) {
    await client.query('rollback').catch(() => undefined); // on a lost connection there is nothing to roll back, and `cause` says why
    throw nameTaken(cause) ? new Error(`loading the CRM: ${cause.message}; give it a database of its own`, { cause }) : cause;
  }
}

/** duplicate_table, duplicate_function */
function nameTaken(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && (error.code === '42P07' || error.code === '42723');
}

async function loadedName(client: LoadClient): Promise<string | undefined> {
  const journal = await client.query<{ there: boolean }>(
    `select count(*) = 3 as there from information_schema.columns
     where table_schema = 'public' and table_name = 'schema_migrations' and column_name in ('version', 'name', 'applied_at')`,
  );
  if (!journal.rows[0]?.there) return undefined;
  const data = await client.query<{ name: string }>('select name from schema_migrations where version = $1', [dataVersion]);
  return data.rows[0]?.name;
}

async function insertAll(client: LoadClient, seed: number): Promise<Record<CrmTable, number>> {
  const generated = generateCrm(seed);
  const counts = Object.fromEntries(crmTables.map((table) => [table, generated[table].length])) as Record<CrmTable, number>; // every table is a key
  for (const table of crmTables) {
    for (let from = 0; from < generated[table].length; from += rowsPerInsertMax) {
      await insertRows(client, table, generated[table].slice(from, from + rowsPerInsertMax));
    }
  }
  // Rows that bring their own key do not advance its sequence: the first insert of the application would collide.
  for (const table of ['activities', 'notes', 'tags'] as const) {
    await client.query(`select setval(pg_get_serial_sequence($1, 'id'), (select max(id) from ${table}))`, [table]);
  }
  await insertRows(client, 'schema_migrations', [
    ...migrations.map(([version, at]) => ({ version, name: version.slice(9).replaceAll('_', ' '), applied_at: at })),
    { version: dataVersion, name: `demo data, seed ${seed}`, applied_at: '2026-07-01T00:00:00Z' },
  ]);
  await client.query(`analyze ${crmTables.join(', ')}`);
  return counts;
}

/** The table's own column types read the JSON, so no list of columns or types is kept here. */
async function insertRows(client: LoadClient, table: CrmTable | 'schema_migrations', rows: readonly Row[]): Promise<void> {
  await client.query(`insert into ${table} select * from json_populate_recordset(null::${table}, $1::json)`, [JSON.stringify(rows)]);
}
