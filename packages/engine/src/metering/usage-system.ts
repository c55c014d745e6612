import type { Operation } from '../db/operation.ts';
import { figureColumns, figuresOf, type RequestFigures } from './usage.ts';

/** What the whole system uses; the processes of the control plane add their own resources. */
export interface SystemUsage {
  readonly tenants: { readonly total: number; readonly byStatus: Readonly<Record<string, number>> };
  /** Over the last hour and the last day, tenants or none. */
  readonly requests: { readonly hour: RequestFigures; readonly day: RequestFigures };
  /** People with a request today, in UTC. */
  readonly activeUsers: number;
  readonly connections: {
    readonly used: number;
    /** `max_connections` without what is reserved for superusers. */
    readonly max: number;
    readonly byRole: { readonly role: string; readonly state: string; readonly connections: number; readonly limit: number | null }[];
  };
  readonly database: {
    readonly bytes: number;
    /** Reads that found their page in memory, 0 to 1; null before the first read. */
    readonly cacheHitRatio: number | null;
    readonly deadlocks: number;
    readonly rollbackRatio: number | null;
    readonly oldestTransactionSeconds: number | null;
  };
}

/**
 * Measures the whole system. `state` is `hidden` where the service role may not see it (it is a member of `pg_read_all_stats` where
 * `partywall migrate` was run by somebody who can grant that).
 */
export async function systemUsage(operation: Operation): Promise<SystemUsage> {
  const { pool } = operation.database;
  const [tenants, hour, day, people, roles, facts] = await Promise.all([
    pool.query<{ status: string; n: string }>('select status, count(*) as n from partywall_control.directory group by status order by status'),
    pool.query(`select ${figureColumns} from partywall_control.request_minutes h where h.minute > now() - interval '1 hour'`),
    pool.query(`select ${figureColumns} from partywall_control.request_hours h where h.hour > now() - interval '24 hours'`),
    pool.query<{ n: string }>(`select count(distinct user_id) as n from partywall_control.active_users where day = (now() at time zone 'UTC')::date`),
    pool.query<{ role: string; state: string; n: string; limit: number | null }>(
      `select coalesce(a.usename, '-') as role, coalesce(a.state, 'hidden') as state, count(*) as n, nullif(max(r.rolconnlimit), -1) as limit
from pg_stat_activity a left join pg_roles r on r.oid = a.usesysid
where a.datname = current_database() and ${isClient} group by 1, 2 order by 3 desc, 1, 2 limit 100`,
    ),
    pool.query<FactsRow>(factsSql),
  ]);
  const [fact] = facts.rows;
  const byStatus = Object.fromEntries(tenants.rows.map(({ status, n }) => [status, Number(n)]));
  return {
    tenants: { total: Object.values(byStatus).reduce((sum, n) => sum + n, 0), byStatus },
    requests: { hour: figuresOf(hour.rows[0]), day: figuresOf(day.rows[0]) },
    activeUsers: Number(people.rows[0]?.n ?? 0),
    connections: {
      used: Number(fact?.used ?? 0),
      max: Number(fact?.max ?? 0),
      byRole: roles.rows.map(({ role, state, n, limit }) => ({ role, state, connections: Number(n), limit })),
    },
    database: {
      bytes: Number(fact?.bytes ?? 0),
      cacheHitRatio: fact?.hits ?? null,
      deadlocks: Number(fact?.deadlocks ?? 0),
      rollbackRatio: fact?.rollbacks ?? null,
      oldestTransactionSeconds: fact?.oldest ?? null,
    },
  };
}

interface FactsRow {
  readonly used: string;
  readonly max: string;
  readonly bytes: string;
  readonly hits: number | null;
  readonly deadlocks: string;
  readonly rollbacks: number | null;
  readonly oldest: number | null;
}

/** What kind of process it is cannot be seen either, of another role's; background workers are few. */
const isClient = "coalesce(a.backend_type, 'client backend') = 'client backend'";

/** Connections of the whole server, because its limit is; the rest of this database. */
const factsSql = `select
  (select count(*) from pg_stat_activity a where a.datid is not null and ${isClient}) as used,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as max,
  pg_database_size(d.datid) as bytes, d.blks_hit / nullif(d.blks_hit + d.blks_read, 0)::double precision as hits, d.deadlocks,
  d.xact_rollback / nullif(d.xact_commit + d.xact_rollback, 0)::double precision as rollbacks,
  (select extract(epoch from max(now() - a.xact_start))::double precision from pg_stat_activity a where a.datid = d.datid) as oldest
from pg_stat_database d where d.datname = current_database()`;
