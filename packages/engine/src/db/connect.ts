import pg from 'pg';
import { PartywallError } from '../errors.ts';

/** Oldest and newest major version of PostgreSQL that the engine is tested with. */
export const supportedMajors = { min: 15, max: 18 } as const;

const connectTimeoutMs = 10_000;

export interface ConnectOptions {
  /** What the connection is for, shown in `pg_stat_activity`: `partywall apply`. */
  readonly purpose: string;
  /** Makes the socket; default one of Node's. */
  readonly stream?: pg.ClientConfig['stream'];
}

/**
 * Opens a connection for the engine's own work. Refuses servers outside `supportedMajors`.
 *
 * Names are resolved by qualified name only, so the search path is empty; text output is pinned because parts of the catalog
 * are compared as text. Statements are not compiled: that takes half a second of one that reads the catalogs in twenty milliseconds.
 *
 * @throws PartywallError database_unreachable, database_refused, wrong_database, server_unsupported
 */
export async function connect(url: string, options: ConnectOptions): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: `partywall ${options.purpose}`,
    connectionTimeoutMillis: connectTimeoutMs,
    ...(options.stream && { stream: options.stream }),
  });
  // Losing an idle connection surfaces in the next query; without a listener it would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (cause) {
    throw connectionError(url, cause);
  }
  try {
    const { rows } = await client.query<{ version: number }>("select current_setting('server_version_num')::int as version");
    refuseUnsupported(rows[0]?.version ?? 0, describeTarget(url));
    await client.query(
      "select set_config('search_path', '', false), set_config('DateStyle', 'ISO', false), set_config('quote_all_identifiers', 'off', false), set_config('jit', 'off', false), set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false)",
    );
  } catch (error) {
    await client.end();
    throw error;
  }
  return client;
}

/**
 * The rule on versions; `version` as in `server_version_num`.
 *
 * @throws PartywallError server_unsupported
 */
export function refuseUnsupported(version: number, target: string): void {
  const major = Math.floor(version / 10_000);
  if (major < supportedMajors.min || major > supportedMajors.max) {
    throw new PartywallError('server_unsupported', `connecting to ${target}: the server is PostgreSQL ${major}`);
  }
}

/** `user@host:port/database`, without the password. */
export function describeTarget(url: string): string {
  try {
    const { username, hostname, port, pathname } = new URL(url);
    return `${decodeURIComponent(username) || 'default user'}@${hostname || 'local socket'}:${port || 5432}${pathname || '/'}`;
  } catch {
    return 'the given connection string';
  }
}

function connectionError(url: string, cause: unknown): PartywallError {
  const code = sqlState(cause);
  const target = describeTarget(url);
  const reason = cause instanceof Error ? reasonOf(cause) : String(cause);
  if (code === '3D000') return new PartywallError('wrong_database', `connecting to ${target}: ${reason}`, { cause });
  // A missing password is the client's own error, without a SQLSTATE.
  if (code?.startsWith('28') || reason.startsWith('SASL')) return new PartywallError('database_refused', `connecting to ${target}: ${reason}`, { cause });
  return new PartywallError('database_unreachable', `connecting to ${target}: ${reason}`, { cause });
}

/** A refused dual-stack connection is an AggregateError with an empty message; its first cause says why. */
function reasonOf(error: Error): string {
  if (error.message) return error.message;
  const first: unknown = error instanceof AggregateError ? error.errors[0] : undefined;
  return first instanceof Error ? first.message : error.name;
}

/** The SQLSTATE (or system error code) of an error, if it has one. */
export function sqlState(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
