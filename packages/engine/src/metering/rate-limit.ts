import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';

const minuteMs = 60_000;

/** What a request of a tenant found. */
export interface PacedRequest {
  /** To be passed with the next request. */
  readonly paidUntil: number | undefined;
  /** Above 0: refused, and nothing was taken. */
  readonly retryAfterMs: number;
}

/**
 * A token bucket that holds a minute's worth: as many may come at once; after that, one each 60 / rate seconds. Kept as the one time until
 * which the requests so far have used up their share (milliseconds since the epoch), so that nothing is added up that could drift.
 */
export function paceRequest(paidUntil: number | undefined, requestsPerMinute: number, now: number): PacedRequest {
  const shareMs = minuteMs / requestsPerMinute;
  const from = Math.max(now, paidUntil ?? now);
  const waitMs = from + shareMs - (now + minuteMs);
  return waitMs > 0 ? { paidUntil, retryAfterMs: Math.ceil(waitMs) } : { paidUntil: from + shareMs, retryAfterMs: 0 };
}

/** A rate that stands in for the plan's. */
export interface RateOverride {
  readonly requestsPerMinute: number;
  /** Null: until it is removed. */
  readonly until: Date | null;
  readonly reason: string | null;
  readonly createdAt: Date;
}

export interface RateLimit {
  /** Rate in force; null: none. */
  readonly requestsPerMinute: number | null;
  readonly override: RateOverride | null;
}

/** @throws PartywallError tenant_unknown */
export async function showRateLimit({ database }: Operation, tenant: string): Promise<RateLimit> {
  return readRateLimit(database.pool, tenant);
}

export interface RateLimitInput {
  readonly tenant: string;
  readonly requestsPerMinute: number;
  readonly until?: Date | undefined;
  readonly reason?: string | undefined;
}

/**
 * Gives a tenant a rate of its own, below its plan's or above. Processes learn of it with their next report, within `reportMs` of `CallLeases`.
 *
 * @throws PartywallError tenant_unknown, input_invalid (an end that has passed)
 */
export async function setRateLimit(operation: Operation, input: RateLimitInput): Promise<RateLimit> {
  const { tenant, requestsPerMinute, until, reason } = input;
  if (until && until <= operation.database.clock()) {
    throw new PartywallError('input_invalid', `limiting the rate of tenant ${JSON.stringify(tenant)}: until ${until.toISOString()} has passed`);
  }
  return transaction(operation.database.pool, async (client) => {
    const before = await readRateLimit(client, tenant);
    await client.query(
      `insert into partywall_control.rate_overrides (tenant_id, requests_per_minute, until, reason) values ($1, $2, $3, $4)
       on conflict (tenant_id) do update set requests_per_minute = excluded.requests_per_minute, until = excluded.until, reason = excluded.reason, created_at = now()`,
      [tenant, requestsPerMinute, until ?? null, reason ?? null],
    );
    const after = await readRateLimit(client, tenant);
    await appendAudit(client, operation, { tenant, action: 'rate_limit.set', reason, details: { before: auditOf(before), after: auditOf(after) } });
    return after;
  });
}

/**
 * Takes a tenant's own rate away, so that its plan's is in force again.
 *
 * @returns undefined where it had none
 * @throws PartywallError tenant_unknown
 */
export async function removeRateLimit(
  operation: Operation,
  input: { readonly tenant: string; readonly reason?: string | undefined },
): Promise<RateLimit | undefined> {
  const { tenant, reason } = input;
  return transaction(operation.database.pool, async (client) => {
    const before = await readRateLimit(client, tenant);
    const { rowCount } = await client.query('delete from partywall_control.rate_overrides where tenant_id = $1', [tenant]);
    if (rowCount === 0) return undefined;
    const after = await readRateLimit(client, tenant);
    await appendAudit(client, operation, { tenant, action: 'rate_limit.remove', reason, details: { before: auditOf(before), after: auditOf(after) } });
    return after;
  });
}

async function readRateLimit(client: pg.ClientBase | pg.Pool, tenant: string): Promise<RateLimit> {
  interface Row {
    readonly rate: number | null;
    readonly own: number | null;
    readonly until: Date | null;
    readonly reason: string | null;
    readonly created_at: Date;
  }
  const { rows } = await client.query<Row>(
    `select partywall_control.request_rate(d.tenant_id) as rate, o.requests_per_minute as own, o.until, o.reason, o.created_at
     from partywall_control.directory d
       left join partywall_control.rate_overrides o on o.tenant_id = d.tenant_id and (o.until is null or o.until > now())
     where d.tenant_id = $1`,
    [tenant],
  );
  const row = rows[0];
  if (!row) throw new PartywallError('tenant_unknown', `reading the rate limit of tenant ${JSON.stringify(tenant.slice(0, 100))}: there is none`);
  const override = row.own === null ? null : { requestsPerMinute: row.own, until: row.until, reason: row.reason, createdAt: row.created_at };
  return { requestsPerMinute: row.rate, override };
}

function auditOf({ requestsPerMinute, override }: RateLimit): Record<string, unknown> {
  return { requestsPerMinute, until: override?.until?.toISOString() ?? null, override: override !== null };
}
