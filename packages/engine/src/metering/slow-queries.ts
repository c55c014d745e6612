import { createHash } from 'node:crypto';
import { normalizeStatement, type SlowQuery } from '@partywall/wall';
import { sqlState } from '../db/connect.ts';
import type { ControlDatabase, Operation } from '../db/operation.ts';
import { ident } from '../db/sql.ts';
import { tenantSessions } from './connections.ts';
import { UsageFlush } from './usage-flush.ts';

const flushIntervalMs = 5_000;
/** Different statements that are held between two writes. */
const entriesMax = 5_000;
/** Statements of `pg_stat_statements`. */
const statementsMax = 20;
/** A statement that has been running for as long is listed. */
export const runningMsDefault = 1_000;

interface Entry {
  readonly tenant: string;
  readonly fingerprint: string;
  readonly statement: string;
  at: string;
  calls: number;
  failures: number;
  millis: number;
  max_millis: number;
}

/**
 * Keeps the slow statements that walled pools report: for each tenant and hour the 20 slowest, without their values.
 * Hand `record` to `createWalledPool` as `onSlowQuery`. *Stopped* it writes on `flush` alone, *started* every few seconds too. What could not be
 * written is kept for the next time; after a lost answer it may count twice.
 */
export class SlowQueryLog {
  readonly #database: ControlDatabase;
  readonly #flush: UsageFlush;
  #entries = new Map<string, Entry>();
  /** Reports that found no room, because the database could not be reached for long. */
  dropped = 0;

  constructor(database: ControlDatabase, onFailure: (error: unknown) => void = () => undefined) {
    this.#database = database;
    this.#flush = new UsageFlush(() => this.#write(), onFailure);
  }

  readonly record = ({ tenant, statement, milliseconds, failed }: SlowQuery): void => {
    const fingerprint = createHash('sha256').update(statement).digest('hex').slice(0, 32);
    const at = this.#database.clock().toISOString();
    this.#add({ tenant: tenant ?? '', fingerprint, statement, at, calls: 1, failures: failed ? 1 : 0, millis: milliseconds, max_millis: milliseconds });
  };

  start(): void {
    this.#flush.start(flushIntervalMs);
  }

  flush(): Promise<void> {
    return this.#flush.flush();
  }

  stop(): Promise<void> {
    return this.#flush.stop();
  }

  #add(entry: Entry): void {
    const key = `${entry.fingerprint} ${entry.at.slice(0, 13)} ${entry.tenant}`;
    const known = this.#entries.get(key);
    if (known) {
      known.calls += entry.calls;
      known.failures += entry.failures;
      known.millis += entry.millis;
      known.max_millis = Math.max(known.max_millis, entry.max_millis);
      if (entry.at > known.at) known.at = entry.at;
    } else if (this.#entries.size < entriesMax) {
      this.#entries.set(key, entry);
    } else {
      this.dropped += entry.calls;
    }
  }

  async #write(): Promise<void> {
    if (this.#entries.size === 0) return;
    const entries = this.#entries;
    this.#entries = new Map();
    try {
      // A NUL or half of a surrogate pair cannot be stored; in a statement's text it tells nothing.
      const lines = [...entries.values()].map((entry) => ({ ...entry, tenant: storable(entry.tenant), statement: storable(entry.statement) }));
      await this.#database.pool.query('select partywall_control.add_slow_queries($1)', [JSON.stringify(lines)]);
    } catch (error) {
      for (const entry of entries.values()) this.#add(entry);
      throw error;
    }
  }
}

function storable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd');
}

/** A statement of a tenant in an hour. */
export interface SlowStatement {
  /** Null where it belongs to none. */
  readonly tenantId: string | null;
  /** First instant of the hour, ISO 8601. */
  readonly hour: string;
  readonly fingerprint: string;
  readonly statement: string;
  /** How often it was slow. */
  readonly calls: number;
  readonly failures: number;
  readonly averageMs: number;
  readonly maxMs: number;
  readonly lastAt: string;
}

/** Place of a statement in the list: the slowest first. */
export interface SlowStatementKey {
  readonly maxMs: number;
  readonly tenantId: string | null;
  readonly hour: string;
  readonly fingerprint: string;
}

export interface SlowStatementOptions {
  readonly tenant?: string | undefined;
  readonly hours: number;
  readonly limit: number;
  readonly after?: SlowStatementKey | undefined;
}

/** Slow statements of the last hours, slowest first. */
export async function slowStatements(operation: Operation, { tenant, hours, limit, after }: SlowStatementOptions): Promise<SlowStatement[]> {
  const { rows } = await operation.database.pool.query<StatementRow>(
    `select s.tenant_id, to_char(s.hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as hour, s.fingerprint, s.statement, s.calls, s.failures,
  s.millis / s.calls as average, s.max_millis as max, to_char(s.last_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as last_at
from partywall_control.slow_queries s
where s.hour > now() - make_interval(hours => $1) and ($2::text is null or s.tenant_id = $2)
  and ($3::double precision is null or (-s.max_millis, s.tenant_id, s.hour, s.fingerprint) > (-$3::double precision, $4::text, $5::timestamptz, $6::text))
order by -s.max_millis, s.tenant_id, s.hour, s.fingerprint limit $7`,
    [hours, tenant ?? null, after?.maxMs ?? null, after?.tenantId ?? '', after?.hour ?? null, after?.fingerprint ?? null, limit],
  );
  return rows.map((row) => ({
    tenantId: row.tenant_id === '' ? null : row.tenant_id,
    hour: row.hour,
    fingerprint: row.fingerprint,
    statement: row.statement,
    calls: Number(row.calls),
    failures: Number(row.failures),
    averageMs: row.average,
    maxMs: row.max,
    lastAt: row.last_at,
  }));
}

interface StatementRow {
  readonly tenant_id: string;
  readonly hour: string;
  readonly fingerprint: string;
  readonly statement: string;
  readonly calls: string;
  readonly failures: string;
  readonly average: number;
  readonly max: number;
  readonly last_at: string;
}

/** The transactions of tenants whose statement has been running for `runningMs`. */
export function runningStatements(operation: Operation, options: { readonly tenant?: string | undefined; readonly runningMs?: number }) {
  return tenantSessions(operation, { tenant: options.tenant, runningMs: options.runningMs ?? runningMsDefault });
}

export interface ServerStatement {
  readonly statement: string;
  readonly calls: number;
  readonly averageMs: number;
  readonly maxMs: number;
}

/** The slowest statements on average of this database, whoever sent them; null where the server keeps none, or the service role may not read them. */
export async function serverStatements(operation: Operation): Promise<ServerStatement[] | null> {
  const { pool } = operation.database;
  const installed = await pool.query<{ schema: string }>(
    "select n.nspname as schema from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'",
  );
  const [extension] = installed.rows;
  if (!extension) return null;
  try {
    const { rows } = await pool.query<{ query: string; calls: string; mean: number; max: number }>(
      `select s.query, s.calls, s.mean_exec_time as mean, s.max_exec_time as max from ${ident(extension.schema)}.pg_stat_statements s
where s.dbid = (select d.oid from pg_database d where d.datname = current_database()) and s.query <> '<insufficient privilege>'
order by s.mean_exec_time desc limit ${statementsMax}`,
    );
    return rows.map((row) => ({ statement: normalizeStatement(row.query), calls: Number(row.calls), averageMs: row.mean, maxMs: row.max }));
  } catch (error) {
    // 42501: the extension's schema is closed to the service role. 55000: the library is not loaded.
    if (sqlState(error) === '42501' || sqlState(error) === '55000') return null;
    throw error;
  }
}
