import type { TenantStatus } from '../../tenants/states.ts';
import type { Ledger } from './ledger.ts';
import type { Recovered } from './recovered.ts';

/** Recovery promise of a tenant's plan; the order in which tenants come back. */
export const tierOrder = ['enterprise', 'pro', 'starter', 'free'] as const;
export type Tier = (typeof tierOrder)[number];

/** A tenant of a database that came from a backup. */
export interface WaitingTenant {
  readonly tenant: string;
  readonly tier: Tier;
  readonly status: TenantStatus;
  readonly placement: string | null;
  readonly recovered: Recovered;
}

/**
 * - `admit`: it is what it was, and is let in as far as its status allows.
 * - `status`: the same after its status has become the ledger's.
 * - `place`: another database holds it since; nobody enters it here.
 * - `erase`: it was erased after the backup, and is erased again.
 * - `keep`: somebody has to decide; it stays fenced.
 * - `lost`: it came after the backup, and is not in it.
 */
export interface ReconcileAction {
  readonly tenant: string;
  readonly tier: Tier | null;
  readonly kind: 'admit' | 'status' | 'place' | 'erase' | 'keep' | 'lost';
  readonly status?: TenantStatus;
  readonly retainedUntil?: string | null;
  readonly placement?: string;
  readonly why: string;
}

/** What has to be done so that the restored database agrees with what happened since, tier by tier. Changes nothing. */
export function planReconciliation(ledger: Pick<Ledger, 'tenants'>, waiting: readonly WaitingTenant[], present: ReadonlySet<string>): ReconcileAction[] {
  const restored = waiting.map((tenant) => actionFor(ledger, tenant));
  const lost = [...ledger.tenants.values()]
    .filter(({ tenant, status }) => !present.has(tenant) && status !== 'erased' && status !== 'erasing' && status !== 'gone')
    .map(({ tenant, placement }): ReconcileAction => {
      const where = placement === null ? '' : `; database ${placement} holds it`;
      return { tenant, tier: null, kind: 'lost', why: `it came after the backup${where}` };
    });
  return [...restored, ...lost].sort((a, b) => rank(a) - rank(b) || (a.tenant < b.tenant ? -1 : 1));
}

function actionFor(ledger: Pick<Ledger, 'tenants'>, { tenant, tier, status, placement, recovered }: WaitingTenant): ReconcileAction {
  const known = ledger.tenants.get(tenant);
  const base = { tenant, tier };
  if (!known) return { ...base, kind: 'admit', why: 'the ledger does not name it' };
  switch (known.status) {
    case 'erased':
    case 'erasing':
      return { ...base, kind: 'erase', why: `it was erased (${known.at})` };
    case 'gone':
      return { ...base, kind: 'keep', why: `the application deleted it (${known.at}); erase it, or reactivate it` };
    default:
  }
  if (known.placement !== null && known.placement !== placement) {
    return { ...base, kind: 'place', placement: known.placement, why: `it moved to database ${known.placement} (${known.at})` };
  }
  if (known.placement === null && placement !== null) {
    return { ...base, kind: 'keep', why: `it moved back here (${known.at}) after the backup; restore it from a later one` };
  }
  if (known.status !== status) {
    return {
      ...base,
      kind: 'status',
      status: known.status,
      retainedUntil: known.retainedUntil,
      why: `it became ${known.status} (${known.at}), the backup has it ${status}`,
    };
  }
  return { ...base, kind: 'admit', why: recovered.was === 'active' ? 'nothing happened to it since' : `it was ${recovered.was}` };
}

function rank({ tier }: ReconcileAction): number {
  return tier === null ? tierOrder.length : tierOrder.indexOf(tier);
}
