/**
 * The life of a tenant, written once. Provisioning is one transaction, so there is no state before `active`.
 *
 *     active ⇄ suspended
 *     active, suspended → cancelled → active                          until its retention ends
 *     active, suspended, cancelled → deleted → active                 until its retention ends
 *     cancelled, deleted (after retention), any (forced) → erasing → gone
 *
 * A legal hold refuses `delete` and `erase`, forced or not. Asking for what already holds is granted and changes nothing.
 */
export const tenantStatuses = ['active', 'suspended', 'cancelled', 'deleted', 'erasing'] as const;
export type TenantStatus = (typeof tenantStatuses)[number];

export const tenantActions = ['suspend', 'reactivate', 'cancel', 'delete', 'restore', 'erase'] as const;
export type TenantAction = (typeof tenantActions)[number];

interface Transition {
  readonly to: TenantStatus;
  /** States it is possible from, each with when: always, until the retention ends, after it has ended or by force. */
  readonly from: Readonly<Partial<Record<TenantStatus, 'always' | 'retained' | 'expired' | 'forced'>>>;
  /** Starts a retention: how long the tenant can be brought back. */
  readonly retains: boolean;
  /** Refused under a legal hold. */
  readonly deletes: boolean;
}

export const transitions: Readonly<Record<TenantAction, Transition>> = {
  suspend: { to: 'suspended', from: { active: 'always' }, retains: false, deletes: false },
  reactivate: { to: 'active', from: { suspended: 'always', cancelled: 'retained' }, retains: false, deletes: false },
  cancel: { to: 'cancelled', from: { active: 'always', suspended: 'always' }, retains: true, deletes: false },
  delete: { to: 'deleted', from: { active: 'always', suspended: 'always', cancelled: 'always' }, retains: true, deletes: true },
  restore: { to: 'active', from: { deleted: 'retained' }, retains: false, deletes: false },
  erase: { to: 'erasing', from: { active: 'forced', suspended: 'forced', cancelled: 'expired', deleted: 'expired' }, retains: false, deletes: true },
};

/** State of the wall's registry that keeps a tenant of this status in or out. */
export const registryStates = {
  active: 'active',
  suspended: 'suspended',
  cancelled: 'cancelled',
  deleted: 'cancelled',
  erasing: 'fenced',
} as const satisfies Record<TenantStatus, string>;
export type RegistryState = (typeof registryStates)[TenantStatus];

/** What a decision depends on. */
export interface TenantStanding {
  readonly status: TenantStatus;
  readonly retainedUntil: Date | null;
  readonly held: boolean;
}

export type Decision =
  | { readonly kind: 'change'; readonly to: TenantStatus }
  /** It is so already. */
  | { readonly kind: 'same' }
  | { readonly kind: 'refused'; readonly why: string; readonly possible: readonly TenantAction[] };

/** Whether an action is possible at `now`. `force` skips the retention, never a hold. */
export function decide(tenant: TenantStanding, action: TenantAction, now: Date, force = false): Decision {
  const why = refusal(tenant, action, now, force);
  if (why !== undefined) return { kind: 'refused', why, possible: possibleActions(tenant, now) };
  const { to } = transitions[action];
  return tenant.status === to ? { kind: 'same' } : { kind: 'change', to };
}

/** What can be done with a tenant now, without force. */
export function possibleActions(tenant: TenantStanding, now: Date): readonly TenantAction[] {
  return tenantActions.filter((action) => transitions[action].to !== tenant.status && refusal(tenant, action, now, false) === undefined);
}

function refusal(tenant: TenantStanding, action: TenantAction, now: Date, force: boolean): string | undefined {
  const { to, from, deletes } = transitions[action];
  if (tenant.status === to) return undefined;
  const when = from[tenant.status];
  if (when === undefined) return `it is ${tenant.status}`;
  if (deletes && tenant.held) return 'it is under a legal hold';
  const retained = tenant.retainedUntil !== null && tenant.retainedUntil > now;
  if (when === 'retained' && !retained) return `it is ${tenant.status} and its retention has ended`;
  if (when === 'expired' && retained && !force) return `it is ${tenant.status} and retained until ${tenant.retainedUntil?.toISOString()}; that takes force`;
  if (when === 'forced' && !force) return `it is ${tenant.status}; that takes force`;
  return undefined;
}
