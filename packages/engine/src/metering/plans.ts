import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';

export const planTiers = ['free', 'starter', 'pro', 'enterprise'] as const;
export type PlanTier = (typeof planTiers)[number];

/** What a tenant pays for. */
export interface Plan {
  /** Lower-case letters, digits, `-` and `_`. */
  readonly name: string;
  readonly title: string;
  /** Recovery and retention promise. */
  readonly tier: PlanTier;
  /** Quota → limit; a quota that is not named has none. */
  readonly limits: Readonly<Record<string, number>>;
  /** Null: no limit. */
  readonly requestsPerMinute: number | null;
  /** How long a cancelled or deleted tenant can be restored. */
  readonly retentionDays: number;
  readonly auditRetentionDays: number;
}

/** A plan that is in the database. */
export interface StoredPlan extends Plan {
  readonly changedAt: Date;
  /** How many tenants are on it. */
  readonly tenants: number;
}

/** So that a list of them needs no second page. */
export const plansMax = 100;

/** In the order of their names. */
export async function listPlans({ database }: Operation): Promise<StoredPlan[]> {
  const { rows } = await database.pool.query<PlanRow>(`${planSql} order by p.name limit ${plansMax}`);
  return rows.map(planOf);
}

/** @returns undefined where there is none of that name */
export async function showPlan({ database }: Operation, name: string): Promise<StoredPlan | undefined> {
  return readPlan(database.pool, name);
}

/**
 * Adds a plan, or replaces the one of this name for all tenants that are on it.
 *
 * @throws PartywallError input_invalid (a limit of something that is not counted, too many plans)
 */
export async function putPlan(operation: Operation, plan: Plan): Promise<{ readonly plan: StoredPlan; readonly created: boolean }> {
  return transaction(operation.database.pool, async (client) => {
    // One at a time, so that the number of plans is what it was when it was counted.
    await client.query("select pg_advisory_xact_lock(hashtextextended('partywall:plans', 0))");
    const before = await readPlan(client, plan.name);
    await refuseUncounted(client, plan, before);
    if (!before) await refuseTooMany(client);
    await client.query(
      `insert into partywall_control.plans (name, title, tier, limits, requests_per_minute, retention_days, audit_retention_days) values ($1, $2, $3, $4, $5, $6, $7)
       on conflict (name) do update set title = excluded.title, tier = excluded.tier, limits = excluded.limits, requests_per_minute = excluded.requests_per_minute,
         retention_days = excluded.retention_days, audit_retention_days = excluded.audit_retention_days, changed_at = now()`,
      [plan.name, plan.title, plan.tier, JSON.stringify(plan.limits), plan.requestsPerMinute, plan.retentionDays, plan.auditRetentionDays],
    );
    const after = await readPlan(client, plan.name);
    if (!after) throw new Error(`plan ${plan.name} is gone in the transaction that wrote it`);
    const action = before ? 'plan.change' : 'plan.create';
    await appendAudit(client, operation, { tenant: null, action, target: `plan:${plan.name}`, details: { before: auditOf(before), after: auditOf(after) } });
    return { plan: after, created: !before };
  });
}

/**
 * Removes a plan that nobody is on.
 *
 * @returns false where there is none of that name
 * @throws PartywallError plan_in_use
 */
export async function deletePlan(operation: Operation, input: { readonly name: string; readonly reason?: string | undefined }): Promise<boolean> {
  const { name, reason } = input;
  return transaction(operation.database.pool, async (client) => {
    // Whoever puts a tenant on it holds a key share of this row.
    const { rowCount } = await client.query('select from partywall_control.plans where name = $1 for update', [name]);
    if (rowCount === 0) return false;
    const before = await readPlan(client, name);
    if (before && before.tenants > 0) {
      throw new PartywallError('plan_in_use', `deleting plan ${name}: ${before.tenants} tenants are on it`, { extra: { tenants: before.tenants } });
    }
    await client.query('delete from partywall_control.plans where name = $1', [name]);
    await appendAudit(client, operation, { tenant: null, action: 'plan.delete', target: `plan:${name}`, reason, details: { before: auditOf(before) } });
    return true;
  });
}

interface PlanRow {
  readonly name: string;
  readonly title: string;
  readonly tier: PlanTier;
  readonly limits: Readonly<Record<string, number>>;
  readonly requests_per_minute: number | null;
  readonly retention_days: number;
  readonly audit_retention_days: number;
  readonly changed_at: Date;
  readonly tenants: number;
}

/** The directory is read once, however many plans there are. */
const planSql = `select p.name, p.title, p.tier, p.limits, p.requests_per_minute, p.retention_days, p.audit_retention_days, p.changed_at,
  coalesce(d.tenants, 0) as tenants
from partywall_control.plans p
  left join (select plan, count(*)::int as tenants from partywall_control.directory group by plan) d on d.plan = p.name`;

async function readPlan(client: pg.ClientBase | pg.Pool, name: string): Promise<StoredPlan | undefined> {
  const { rows } = await client.query<PlanRow>(`${planSql} where p.name = $1`, [name]);
  return rows[0] && planOf(rows[0]);
}

function planOf(row: PlanRow): StoredPlan {
  return {
    name: row.name,
    title: row.title,
    tier: row.tier,
    limits: row.limits,
    requestsPerMinute: row.requests_per_minute,
    retentionDays: row.retention_days,
    auditRetentionDays: row.audit_retention_days,
    changedAt: row.changed_at,
    tenants: row.tenants,
  };
}

/** A misspelt quota would limit nothing. Names that the plan had already may stay: the plans that come with Partywall name common ones. */
async function refuseUncounted(client: pg.ClientBase, plan: Plan, before: Plan | undefined): Promise<void> {
  const { rows } = await client.query<{ name: string }>('select name from partywall_control.quotas order by name');
  const known = new Set([...rows.map(({ name }) => name), ...Object.keys(before?.limits ?? {})]);
  const unknown = Object.keys(plan.limits).filter((quota) => !known.has(quota));
  if (unknown.length === 0) return;
  throw new PartywallError('input_invalid', `writing plan ${plan.name}: limits: nothing counts ${unknown.join(', ')}`, {
    details: [`counted: ${[...known].join(', ')}`],
  });
}

async function refuseTooMany(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ plans: number }>('select count(*)::int as plans from partywall_control.plans');
  if ((rows[0]?.plans ?? 0) >= plansMax) throw new PartywallError('input_invalid', `adding a plan: there are ${plansMax}, which is all there can be`);
}

function auditOf(plan: StoredPlan | undefined): Plan | null {
  if (!plan) return null;
  const { changedAt: _changedAt, tenants: _tenants, ...written } = plan;
  return written;
}
