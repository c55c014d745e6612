import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { type Tenant, type TenantRow, tenantColumns, tenantOf, unknownTenant } from './tenant.ts';
import { lockTenant } from './transition.ts';

export interface HoldInput {
  readonly tenant: string;
  readonly reason: string;
}

/**
 * Keeps a tenant from being deleted, softly, for good or by the application, until the hold is lifted. A second hold replaces the reason.
 *
 * @throws PartywallError tenant_unknown, transition_refused (it is being erased), input_invalid (no reason)
 */
export function holdTenant(operation: Operation, input: HoldInput): Promise<Tenant> {
  return setHold(operation, input, 'tenant.hold', input.reason);
}

/**
 * Lifts the hold; where there is none nothing changes.
 *
 * @throws PartywallError tenant_unknown, input_invalid (no reason)
 */
export function unholdTenant(operation: Operation, input: HoldInput): Promise<Tenant> {
  return setHold(operation, input, 'tenant.unhold', null);
}

async function setHold(operation: Operation, { tenant, reason }: HoldInput, action: string, hold: string | null): Promise<Tenant> {
  if (reason.trim() === '') throw new PartywallError('input_invalid', 'reading the reason: a legal hold is set and lifted with one');
  return transaction(operation.database.pool, async (client) => {
    const { before } = await lockTenant(client, tenant);
    if (hold === (before.hold?.reason ?? null)) return before;
    if (before.status === 'erasing') {
      throw new PartywallError('transition_refused', `cannot hold tenant ${JSON.stringify(tenant)}: it is being erased; nothing is possible now`, {
        extra: { tenant, tenantStatus: before.status, asked: 'hold', possible: [] },
      });
    }
    const { rows } = await client.query<TenantRow>(
      `update partywall_control.directory d set hold_reason = $2, held_at = $3 where d.tenant_id = $1 returning ${tenantColumns}`,
      [tenant, hold, hold === null ? null : (before.hold?.since ?? operation.database.clock())],
    );
    await appendAudit(client, operation, { tenant, action, reason, details: before.hold ? { before: before.hold.reason } : {} });
    const after = rows[0];
    if (!after) throw unknownTenant(tenant);
    return tenantOf(after);
  });
}
