import type { Operation } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';

/** Hours of `TenantUsage.hourly`; they are kept for longer than a year. */
export const usageHours = { default: 24, max: 744 } as const;

/** What was asked and how it was answered, over a stretch of time. Times of answers are null where there were none. */
export interface RequestFigures {
  readonly calls: number;
  /** Answered with a status of 500 or above. */
  readonly errors: number;
  /** Errors by calls, 0 to 1. */
  readonly errorRate: number | null;
  readonly averageMs: number | null;
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly p99Ms: number | null;
}

export interface TenantUsage {
  readonly tenantId: string;
  readonly name: string;
  readonly status: string;
  /** First instant of the month that `apiCalls` counts, ISO 8601. */
  readonly periodStart: string;
  /** Calls of this month, as the quota counts them. */
  readonly apiCalls: number;
  /** Over the hours asked for, the current one included. */
  readonly requests: RequestFigures & { readonly hours: number };
  /** People with a request in the last 1, 7 and 30 days, days in UTC. */
  readonly activeUsers: { readonly day: number; readonly week: number; readonly month: number };
  /** Rows by table; a table that the last survey could not count, and no quota counts, is not there. */
  readonly rows: Readonly<Record<string, number>>;
  /** Null before the first survey, where no quota counts bytes. */
  readonly storageBytes: number | null;
  /** When rows and bytes were surveyed, ISO 8601; what a quota counts is exact at any time. */
  readonly measuredAt: string | null;
  /** Transactions in progress. */
  readonly connections: number;
  /** Hours with calls, oldest first. */
  readonly hourly: (RequestFigures & { readonly hour: string })[];
}

interface FigureRow {
  readonly calls: string;
  readonly errors: string;
  readonly millis: number | null;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

const isoTime = (expression: string): string => `to_char(${expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** Sums over rows `h` of `request_hours` or `request_minutes`; `figuresOf` reads them. */
export const figureColumns = `coalesce(sum(h.calls), 0) as calls, coalesce(sum(h.errors), 0) as errors, sum(h.millis) as millis, ${[50, 95, 99]
  .map(
    (percent) =>
      `partywall_control.latency_percentile(array[${Array.from({ length: 11 }, (_, n) => `coalesce(sum(h.buckets[${n + 1}]), 0)`).join(', ')}]::bigint[], ${percent / 100}) as p${percent}`,
  )
  .join(', ')}`;

/**
 * What one tenant uses.
 *
 * @throws PartywallError tenant_unknown
 */
export async function tenantUsage(operation: Operation, tenant: string, options: { readonly hours?: number } = {}): Promise<TenantUsage> {
  const { pool } = operation.database;
  const hours = options.hours ?? usageHours.default;
  const [usage, people, total, hourly] = await Promise.all([
    pool.query<UsageRow>(
      `select d.name, d.status, ${isoTime('u.period_start')} as period_start, u.api_calls, u.rows, u.storage_bytes, ${isoTime('u.measured_at')} as measured_at, u.connections
from partywall_control.tenant_usage($1) u join partywall_control.directory d on d.tenant_id = u.tenant_id`,
      [tenant],
    ),
    pool.query<{ day: string; week: string; month: string }>(
      `select count(distinct a.user_id) filter (where a.day > t.today - 1) as day, count(distinct a.user_id) filter (where a.day > t.today - 7) as week,
  count(distinct a.user_id) as month
from (select (now() at time zone 'UTC')::date as today) t join partywall_control.active_users a on a.tenant_id = $1 and a.day > t.today - 30`,
      [tenant],
    ),
    pool.query<FigureRow>(
      `select ${figureColumns} from partywall_control.request_hours h where h.tenant_id = $1 and h.hour > now() - make_interval(hours => $2)`,
      [tenant, hours],
    ),
    pool.query<FigureRow & { hour: string }>(
      `select ${isoTime('h.hour')} as hour, ${figureColumns} from partywall_control.request_hours h
where h.tenant_id = $1 and h.hour > now() - make_interval(hours => $2) group by h.hour order by h.hour`,
      [tenant, hours],
    ),
  ]);
  const [row] = usage.rows;
  if (!row) throw new PartywallError('tenant_unknown', `reading what ${JSON.stringify(tenant)} uses: there is no such tenant`);
  const [active] = people.rows;
  return {
    tenantId: tenant,
    name: row.name,
    status: row.status,
    periodStart: row.period_start,
    apiCalls: Number(row.api_calls),
    requests: { hours, ...figuresOf(total.rows[0]) },
    activeUsers: { day: Number(active?.day), week: Number(active?.week), month: Number(active?.month) },
    rows: row.rows,
    storageBytes: row.storage_bytes === null ? null : Number(row.storage_bytes),
    measuredAt: row.measured_at,
    connections: Number(row.connections),
    hourly: hourly.rows.map((hour) => ({ hour: hour.hour, ...figuresOf(hour) })),
  };
}

interface UsageRow {
  readonly name: string;
  readonly status: string;
  readonly period_start: string;
  readonly api_calls: string;
  readonly rows: Record<string, number>;
  readonly storage_bytes: string | null;
  readonly measured_at: string | null;
  readonly connections: string;
}

export function figuresOf(row: FigureRow | undefined): RequestFigures {
  const calls = Number(row?.calls ?? 0);
  const errors = Number(row?.errors ?? 0);
  return {
    calls,
    errors,
    errorRate: calls === 0 ? null : errors / calls,
    averageMs: calls === 0 ? null : (row?.millis ?? 0) / calls,
    p50Ms: row?.p50 ?? null,
    p95Ms: row?.p95 ?? null,
    p99Ms: row?.p99 ?? null,
  };
}
