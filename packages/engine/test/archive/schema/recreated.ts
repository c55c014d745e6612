import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type Catalog, connect, readCatalog, runSchema, type SchemaDdl, schemaDdl } from '@partywall/engine';
import { createDatabase, type TestDatabase } from '../../../../../test/support/database.ts';

export interface Recreated {
  readonly source: TestDatabase;
  readonly target: TestDatabase;
  readonly schema: SchemaDdl;
  /** The schema of the target, read again. */
  readonly again: SchemaDdl;
}

/** Makes the schema of a database in an empty one. */
export async function recreated(source: TestDatabase): Promise<Recreated> {
  const schema = await withClient(source.url, schemaDdl);
  const target = await createDatabase();
  const again = await withClient(target.url, async (client) => {
    for (const phase of ['before', 'after'] as const) await runSchema(client, schema, phase);
    return schemaDdl(client);
  });
  return { source, target, schema, again };
}

export async function withClient<Result>(url: string, work: (client: Awaited<ReturnType<typeof connect>>) => Promise<Result>): Promise<Result> {
  const client = await connect(url, { purpose: 'test' });
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** The catalog without what differs between any two databases: object ids, the name, estimates, places of columns, order where it means nothing. */
export async function plainCatalog(url: string): Promise<unknown> {
  const catalog = await withClient(url, readCatalog);
  const plain: Omit<Catalog, 'database'> & { database?: string } = { ...catalog };
  delete plain.database;
  // Facts are rows; roles and what may be done with the database are of the cluster.
  return withoutIds({
    ...plain,
    runtime: catalog.runtime && { ...catalog.runtime, facts: undefined },
    roles: undefined,
    databaseGrants: undefined,
    settings: catalog.settings.filter(({ database }) => database === catalog.database).map(({ role, name, value }) => ({ role, name, value })),
  });
}

const ids = new Set(['oid', 'number', 'estimatedRows', 'pages', 'largeObjects']);

function withoutIds(value: unknown): unknown {
  if (value instanceof Map) return withoutIds(Object.fromEntries(value));
  if (Array.isArray(value)) return value.map(withoutIds).sort((a, b) => compare(JSON.stringify(a) ?? '', JSON.stringify(b) ?? ''));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !ids.has(name))
      .map(([name, member]) => [name, withoutIds(member)]),
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Statements of `pg_dump --schema-only`, sorted: their order follows object ids where nothing else decides. */
export async function dumped(url: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)('pg_dump', ['--schema-only', '--dbname', url], { maxBuffer: 256 * 1024 ** 2 });
  const lines = stdout.split('\n').filter((line) => !line.startsWith('--') && !line.startsWith('\\') && line !== '');
  return lines.join('\n').split(/;\n/).sort();
}
