import type pg from 'pg';
import type { Operation } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { type RateLimit, showRateLimit } from './rate-limit.ts';

/** What a tenant uses of one quota, and may. */
export interface QuotaState {
  readonly quota: string;
  readonly kind: 'rows' | 'bytes' | 'calls';
  /** Rows, bytes, or calls of this month. */
  readonly usage: number;
  /** In force now; null: none. */
  readonly limit: number | null;
  /** Of the plan alone. */
  readonly planLimit: number | null;
  readonly increase: QuotaIncrease | null;
  /** When the usage starts again from nothing, where it does. */
  readonly reset: Date | null;
}

/** A limit above the plan's, until a date. */
export interface QuotaIncrease {
  readonly limit: number;
  readonly until: Date;
  readonly reason: string | null;
  readonly createdAt: Date;
}

export interface TenantQuotas {
  readonly tenant: string;
  readonly plan: string;
  /** In the order of their names. */
  readonly quotas: readonly QuotaState[];
  readonly rateLimit: RateLimit;
}

/**
 * What a tenant uses of each quota, and what it may.
 *
 * @throws PartywallError tenant_unknown
 */
export async function showQuotas(operation: Operation, tenant: string): Promise<TenantQuotas> {
  const { pool } = operation.database;
  const { rows } = await pool.query<{ plan: string }>('select plan from partywall_control.directory where tenant_id = $1', [tenant]);
  const plan = rows[0]?.plan;
  if (plan === undefined) throw new PartywallError('tenant_unknown', `reading the quotas of tenant ${JSON.stringify(tenant.slice(0, 100))}: there is none`);
  return { tenant, plan, quotas: await readQuotas(pool, tenant), rateLimit: await showRateLimit(operation, tenant) };
}

interface QuotaRow {
  readonly quota: string;
  readonly kind: QuotaState['kind'];
  readonly used: string;
  readonly max: string | null;
  readonly plan_max: string | null;
  readonly resets_at: Date | null;
  readonly increased_to: string | null;
  readonly until: Date;
  readonly reason: string | null;
  readonly created_at: Date;
}

const quotasSql = `select u.quota, q.kind, u.used, u.max, (p.limits ->> u.quota)::bigint as plan_max, u.resets_at,
  i.max as increased_to, i.until, i.reason, i.created_at
from partywall_control.quota_usage($1) u
  join partywall_control.quotas q on q.name = u.quota
  join partywall_control.directory d on d.tenant_id = u.tenant_id
  join partywall_control.plans p on p.name = d.plan
  left join partywall_control.quota_increases i on i.tenant_id = u.tenant_id and i.quota = u.quota and i.until > now()
order by u.quota`;

/** All quotas of a tenant; none where there is no such tenant. */
export async function readQuotas(client: pg.ClientBase | pg.Pool, tenant: string): Promise<QuotaState[]> {
  const { rows } = await client.query<QuotaRow>(quotasSql, [tenant]);
  return rows.map((row) => ({
    quota: row.quota,
    kind: row.kind,
    usage: Number(row.used),
    limit: numberOf(row.max),
    planLimit: numberOf(row.plan_max),
    increase: row.increased_to === null ? null : { limit: Number(row.increased_to), until: row.until, reason: row.reason, createdAt: row.created_at },
    reset: row.resets_at,
  }));
}

function numberOf(text: string | null): number | null {
  return text === null ? null : Number(text);
}
