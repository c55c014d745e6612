import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';

/** Tokens of one tenant in one process. A minute's worth may come at once; after that, one comes back every 60 / rate seconds. */
export interface TokenBucket {
  readonly tokens: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

const minuteMs = 60_000;

/** What remains after one request; `retryAfterMs` above 0: it is refused, and nothing was taken. */
export interface TakenToken {
  readonly bucket: TokenBucket;
  readonly retryAfterMs: number;
}

/** Takes one token. Pure. A clock that goes back adds nothing; a lower rate cuts what was saved. */
export function takeToken(before: TokenBucket | undefined, requestsPerMinute: number, now: number): TakenToken {
  const elapsed = before ? Math.max(0, now - before.at) : 0;
  const tokens = before ? Math.min(requestsPerMinute, before.tokens + (elapsed * requestsPerMinute) / minuteMs) : requestsPerMinute;
  if (tokens >= 1) return { bucket: { tokens: tokens - 1, at: now }, retryAfterMs: 0 };
  return { bucket: { tokens, at: now }, retryAfterMs: Math.ceil(((1 - tokens) * minuteMs) / requestsPerMinute) };
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
