import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted } from '../model/table-name.ts';
import { type QuotaState, readQuotas } from './quotas.ts';

export interface PlanChangeInput {
  readonly tenant: string;
  readonly plan: string;
  readonly reason?: string | undefined;
}

export interface PlanChange {
  readonly tenant: string;
  readonly before: string;
  readonly after: string;
  /** Quotas that the tenant has used more of than the new plan allows. What is there stays; more is refused. */
  readonly exceeded: readonly QuotaState[];
}

/**
 * Puts a tenant on another plan, up or down, at once; where the model says which column of the tenant root holds the plan, there too.
 *
 * @throws PartywallError tenant_unknown, plan_unknown
 */
export async function changePlan(operation: Operation, input: PlanChangeInput): Promise<PlanChange> {
  const { tenant, plan, reason } = input;
  const { pool, model } = operation.database;
  return transaction(pool, async (client) => {
    const { rowCount: known } = await client.query('select from partywall_control.directory where tenant_id = $1', [tenant]);
    if (known === 0) throw unknownTenant(tenant);
    const { rowCount: planned } = await client.query('select from partywall_control.plans where name = $1 for key share', [plan]);
    if (planned === 0)
      throw new PartywallError('plan_unknown', `changing the plan of tenant ${JSON.stringify(tenant)}: there is no plan ${JSON.stringify(plan)}`);
    // The root before the directory: the application's own updates lock in that order.
    await writeRootPlan(client, model, tenant, plan);
    const { rows } = await client.query<{ plan: string }>('select plan from partywall_control.directory where tenant_id = $1 for update', [tenant]);
    const before = rows[0]?.plan;
    if (before === undefined) throw unknownTenant(tenant);
    await client.query('update partywall_control.directory set plan = $2 where tenant_id = $1', [tenant, plan]);
    const exceeded = (await readQuotas(client, tenant)).filter(({ usage, limit }) => limit !== null && usage > limit);
    const details = { before, after: plan, exceeded: exceeded.map(({ quota, usage, limit }) => ({ quota, usage, limit })) };
    await appendAudit(client, operation, { tenant, action: 'tenant.plan_change', reason, details });
    return { tenant, before, after: plan, exceeded };
  });
}

async function writeRootPlan(client: pg.ClientBase, model: TenancyModel, tenant: string, plan: string): Promise<void> {
  const { table, key, profile } = model.tenant;
  if (profile.plan === undefined) return;
  await client.query(`update ${quoted(table)} set ${ident(profile.plan)} = $2 where ${ident(key)} = $1`, [tenant, plan]);
}

function unknownTenant(tenant: string): PartywallError {
  return new PartywallError('tenant_unknown', `changing the plan of tenant ${JSON.stringify(tenant.slice(0, 100))}: there is none`);
}
