import { normalizeStatement } from '@partywall/wall';
import type { Operation } from '../db/operation.ts';

const sessionsMax = 200;

/** A transaction in progress, and the tenant whose it is. */
export interface TenantSession {
  readonly tenantId: string;
  readonly name: string;
  readonly pid: number;
  readonly role: string;
  readonly application: string;
  /** Null where the service role may not see it. */
  readonly state: string | null;
  /** How long its transaction has lasted, and its statement, where one is running. */
  readonly transactionMs: number | null;
  readonly statementMs: number | null;
  readonly waiting: string | null;
  /** Without its values. */
  readonly statement: string | null;
}

export interface SessionOptions {
  readonly tenant?: string | undefined;
  /** Only statements that have been running for as long. */
  readonly runningMs?: number;
}

/**
 * The sessions that are inside a tenant, longest transaction first, `sessionsMax` at most. A session between transactions is nobody's: the wall
 * leaves no tenant on an idle connection. SQL in the application's own hands could take another tenant's lock and be shown as its session.
 */
export async function tenantSessions(operation: Operation, options: SessionOptions = {}): Promise<TenantSession[]> {
  const { rows } = await operation.database.pool.query<SessionRow>(
    `select s.tenant_id, d.name, a.pid, a.usename as role, a.application_name as application, a.state, a.wait_event_type || ': ' || a.wait_event as waiting,
  1000 * extract(epoch from clock_timestamp() - a.xact_start)::double precision as transaction_ms,
  case when a.state = 'active' then 1000 * extract(epoch from clock_timestamp() - a.query_start)::double precision end as statement_ms,
  case when a.state is not null then a.query end as query
from (select distinct t.tenant_id, t.pid from partywall_control.tenant_sessions() t) s
  join pg_stat_activity a on a.pid = s.pid join partywall_control.directory d on d.tenant_id = s.tenant_id
where ($1::text is null or s.tenant_id = $1)
  and ($2::double precision is null or a.state = 'active' and clock_timestamp() - a.query_start >= $2 * interval '1 millisecond')
order by a.xact_start nulls last, a.pid limit ${sessionsMax}`,
    [options.tenant ?? null, options.runningMs ?? null],
  );
  return rows.map((row) => ({
    tenantId: row.tenant_id,
    name: row.name,
    pid: row.pid,
    role: row.role,
    application: row.application,
    state: row.state,
    transactionMs: row.transaction_ms,
    statementMs: row.statement_ms,
    waiting: row.waiting,
    statement: row.query === null ? null : normalizeStatement(row.query),
  }));
}

interface SessionRow {
  readonly tenant_id: string;
  readonly name: string;
  readonly pid: number;
  readonly role: string;
  readonly application: string;
  readonly state: string | null;
  readonly waiting: string | null;
  readonly transaction_ms: number | null;
  readonly statement_ms: number | null;
  readonly query: string | null;
}
