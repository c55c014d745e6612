import { connect, describeTarget, PartywallError } from '@partywall/engine';
import { type CommandContext, connectionString } from './context.ts';

/** A database as `psql` would find it, which need not know Partywall. */
export interface PlainDatabase {
  readonly url: string;
  /** Where its tables are, when that is not where the model says. */
  readonly schema: string | undefined;
}

const variables = ['PGHOST', 'PGPORT', 'PGUSER', 'PGPASSWORD', 'PGDATABASE'] as const;

/**
 * The database of --url, of DATABASE_URL, or of PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE; its schema by `?schema=` of the connection string, or by
 * PGSCHEMA. Undefined where none of them is set.
 *
 * @throws PartywallError usage, which never repeats what was given: it may hold a password
 */
export function plainDatabase(ctx: CommandContext): PlainDatabase | undefined {
  const given = ctx.options.url ?? ctx.env['DATABASE_URL'];
  const text = given ? connectionString(given, ctx.options.url === undefined ? 'DATABASE_URL' : '--url') : fromVariables(ctx.env);
  if (text === undefined) return undefined;
  const url = new URL(text);
  const schema = url.searchParams.get('schema') ?? ctx.env['PGSCHEMA'];
  // No parameter of a server: a connection pooler would refuse it.
  url.searchParams.delete('schema');
  return { url: url.toString(), schema: schema || undefined };
}

/** @throws PartywallError wrong_database for a schema that is not there, and what `connect` throws */
export async function connectPlain({ url, schema }: PlainDatabase): Promise<Awaited<ReturnType<typeof connect>>> {
  const client = await connect(url, { purpose: 'backup export' });
  if (schema === undefined) return client;
  const { rowCount } = await client.query('select from pg_catalog.pg_namespace where nspname = $1', [schema]);
  if (rowCount === 1) return client;
  await client.end();
  throw new PartywallError('wrong_database', `reading ${describeTarget(url)}: it has no schema ${JSON.stringify(schema)}`, {
    hint: 'correct ?schema= of the connection string, or PGSCHEMA',
  });
}

function fromVariables(env: CommandContext['env']): string | undefined {
  if (variables.every((name) => !env[name])) return undefined;
  const { PGHOST: host = 'localhost', PGPORT: port, PGUSER: user, PGPASSWORD: password, PGDATABASE: database } = env;
  const url = new URL('postgresql://localhost');
  if (host.startsWith('/')) url.searchParams.set('host', host);
  else url.hostname = host.includes(':') ? `[${host}]` : host;
  if (port) url.port = port;
  if (url.port !== (port ?? '') || url.hostname === '') throw new PartywallError('usage', 'reading PGHOST and PGPORT: no host and port');
  url.username = encodeURIComponent(user ?? '');
  url.password = encodeURIComponent(password ?? '');
  url.pathname = `/${encodeURIComponent(database ?? user ?? '')}`;
  return url.toString();
}
