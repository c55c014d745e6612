import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { type QuotaIncrease, type QuotaState, readQuotas } from './quotas.ts';

/** How long a temporary increase may last; what lasts longer is a plan. */
export const increaseDaysMax = 366;
const dayMs = 86_400_000;

export interface IncreaseInput {
  readonly tenant: string;
  readonly quota: string;
  /** The whole limit, not what is added to it. */
  readonly limit: number;
  /** Until then, not after; the plan's limit is in force again by itself. */
  readonly until: Date;
  readonly reason?: string | undefined;
}

/**
 * Gives a tenant a higher limit until a date, in place of an increase that it has. It is in force for the next transaction that commits; for API
 * calls, with the next report of each process.
 *
 * @throws PartywallError tenant_unknown, input_invalid (no such quota, one that has no limit, a limit that is none, a date that has
 *   passed or is too far)
 */
export async function increaseQuota(operation: Operation, input: IncreaseInput): Promise<QuotaState> {
  const { tenant, quota, limit, until, reason } = input;
  const doing = `increasing the quota ${JSON.stringify(quota)} of tenant ${JSON.stringify(tenant.slice(0, 100))}`;
  const now = operation.database.clock();
  if (until <= now) throw new PartywallError('input_invalid', `${doing}: until ${until.toISOString()} has passed`);
  if (until.getTime() - now.getTime() > increaseDaysMax * dayMs) {
    throw new PartywallError('input_invalid', `${doing}: until ${until.toISOString()} is more than ${increaseDaysMax} days away`, {
      hint: 'change the plan of the tenant instead',
    });
  }
  return transaction(operation.database.pool, async (client) => {
    const states = await readQuotas(client, tenant);
    if (states.length === 0) throw new PartywallError('tenant_unknown', `${doing}: there is no such tenant`);
    const before = states.find((state) => state.quota === quota);
    if (!before) throw new PartywallError('input_invalid', `${doing}: quota: one of ${states.map((state) => state.quota).join(', ')}`);
    if (before.planLimit === null) throw new PartywallError('input_invalid', `${doing}: its plan does not limit it`);
    if (limit <= before.planLimit) throw new PartywallError('input_invalid', `${doing}: limit: ${limit} is no more than the ${before.planLimit} of its plan`);
    await client.query(
      `insert into partywall_control.quota_increases (tenant_id, quota, max, until, reason) values ($1, $2, $3, $4, $5)
       on conflict (tenant_id, quota) do update set max = excluded.max, until = excluded.until, reason = excluded.reason, created_at = now()`,
      [tenant, quota, limit, until, reason ?? null],
    );
    const after = (await readQuotas(client, tenant)).find((state) => state.quota === quota) ?? before;
    const details = { before: auditOf(before.increase), after: auditOf(after.increase), planLimit: before.planLimit, usage: before.usage };
    await appendAudit(client, operation, { tenant, action: 'quota.increase', target: `quota:${quota}`, reason, details });
    return after;
  });
}

/**
 * Ends a temporary increase now.
 *
 * @returns undefined where there is none in force
 * @throws PartywallError tenant_unknown
 */
export async function revokeIncrease(
  operation: Operation,
  input: { readonly tenant: string; readonly quota: string; readonly reason?: string | undefined },
): Promise<QuotaState | undefined> {
  const { tenant, quota, reason } = input;
  return transaction(operation.database.pool, async (client) => {
    const states = await readQuotas(client, tenant);
    if (states.length === 0)
      throw new PartywallError('tenant_unknown', `revoking an increase of tenant ${JSON.stringify(tenant.slice(0, 100))}: there is none`);
    const before = states.find((state) => state.quota === quota)?.increase;
    const { rowCount } = await client.query('delete from partywall_control.quota_increases where tenant_id = $1 and quota = $2', [tenant, quota]);
    if (!before || rowCount === 0) return undefined;
    await appendAudit(client, operation, { tenant, action: 'quota.increase_revoke', target: `quota:${quota}`, reason, details: { before: auditOf(before) } });
    return (await readQuotas(client, tenant)).find((state) => state.quota === quota);
  });
}

function auditOf(increase: QuotaIncrease | null): Record<string, unknown> | null {
  return increase && { limit: increase.limit, until: increase.until.toISOString() };
}
