import type { TenantContext } from '../context.ts';
import { RequestRefusedError, type WallErrorCode } from '../errors.ts';
import { type Claimed, claimCharactersMax, decodedClaim, type Proven, prove } from './proof.ts';
import type { Identity } from './request.ts';

/** What is known of a request when it is decided upon. */
export interface Known {
  readonly requestId: string;
  readonly identity: Identity | null;
  /** From header and subdomain. */
  readonly tenants: readonly Claimed<'tenant'>[];
  readonly units: readonly Claimed<'unit'>[];
  /** Whether the unit belongs to the tenant; undefined until it was asked. */
  readonly unitBelongs?: boolean | undefined;
}

export interface Rules {
  /** A request that names no tenant is refused, although its credential does. */
  readonly nameRequired: boolean;
  /** Somebody can be asked whether a unit belongs to a tenant. */
  readonly asksUnits: boolean;
}

/** An attempt on what belongs to another tenant. */
export interface Attempt {
  readonly kind: 'tenant' | 'unit' | 'row';
  readonly actor: string | null;
  /** Whose credential it was, where one tenant is meant. */
  readonly tenant: string | null;
  readonly claimed: string | null;
}

export type Decision =
  | { readonly kind: 'admitted'; readonly context: TenantContext }
  /** Decide again with the answer. */
  | { readonly kind: 'ask_unit'; readonly context: TenantContext; readonly unit: string }
  | { readonly kind: 'refused'; readonly error: RequestRefusedError; readonly attempt?: Attempt };

/**
 * Decides whether a request runs, and for whom: a pure function. The context is made of proven values alone; a unit that the request names
 * is in it once the database has said, in that tenant's own context, that it belongs there.
 */
export function decide(known: Known, rules: Rules): Decision {
  const { identity, tenants, requestId } = known;
  if (!identity) return refused('unauthenticated');
  const actor = identity.user === undefined ? null : String(identity.user);
  const named = tenants.map((claim) => prove(claim, identity.tenants));
  const foreign = tenants.find((_, at) => named[at] === undefined);
  // Two of its own tenants at once is a mistake, and no attempt.
  if (!foreign && new Set(named).size > 1) return refused('tenant_required', { message: 'the request names two tenants; it has to name one' });
  if (foreign)
    return refused(
      'tenant_foreign',
      {},
      { kind: 'tenant', actor, tenant: (identity.active ?? only(identity.tenants))?.proven ?? null, claimed: foreign.claimed },
    );
  if (tenants.length === 0 && rules.nameRequired) return refused('tenant_required', { message: 'the header X-Tenant-ID is required' });
  const tenant = named[0] ?? identity.active ?? (identity.selects ? undefined : only(identity.tenants));
  if (!tenant) return refused(identity.selects ? 'tenant_unselected' : 'tenant_required');
  const context: TenantContext = { tenant: tenant.proven, user: identity.user, requestId };
  return decideUnit(known, { rules, context, actor });
}

function decideUnit(
  { identity, units, unitBelongs }: Known,
  { rules, context, actor }: { readonly rules: Rules; readonly context: TenantContext; readonly actor: string | null },
): Decision {
  const own = identity?.unit;
  const said = units.map(({ claimed }) => claimed).join(', ');
  const foreign: Attempt = { kind: 'unit', actor, tenant: String(context.tenant), claimed: said || (own?.proven ?? null) };
  if (own && units.some((claim) => prove(claim, [own]) === undefined)) return refused('unit_foreign', {}, foreign);
  const unit = own?.proven ?? (said === '' ? undefined : decodedClaim(said));
  if (unit === undefined) return { kind: 'admitted', context };
  // A unit that the credential proves needs no second opinion where nobody can give one; one that is merely claimed does.
  if (!rules.asksUnits) return own ? { kind: 'admitted', context: { ...context, unit } } : { kind: 'admitted', context };
  if (unit.length > claimCharactersMax || unitBelongs === false) return refused('unit_foreign', {}, foreign);
  return unitBelongs ? { kind: 'admitted', context: { ...context, unit } } : { kind: 'ask_unit', context, unit };
}

function refused(code: WallErrorCode, options: { readonly message?: string } = {}, attempt?: Attempt): Decision {
  return { kind: 'refused', error: new RequestRefusedError(code, options), ...(attempt && { attempt }) };
}

function only(tenants: readonly Proven<'tenant'>[]): Proven<'tenant'> | undefined {
  return tenants.length === 1 ? tenants[0] : undefined;
}
