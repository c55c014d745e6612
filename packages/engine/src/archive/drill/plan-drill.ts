import { createHash } from 'node:crypto';
import { PartywallError } from '../../errors.ts';
import { tierPromises } from '../../metering/tiers.ts';
import { type Tier, tierOrder } from '../ledger/reconcile-plan.ts';

/** A tenant that the backup holds. */
export interface DrillCandidate {
  readonly tenant: string;
  readonly ref: string;
  readonly tier: Tier;
  readonly rows: number;
  /** Plain bytes. */
  readonly bytes: number;
  /** When a restore of it was last proved; null: never. */
  readonly provedAt: Date | null;
}

/** Which tenants: those that are named, so many of them, everybody, or those whose tier says that it is time. */
export type DrillSelection =
  | { readonly kind: 'tenants'; readonly tenants: readonly string[] }
  | { readonly kind: 'sample'; readonly count: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'due'; readonly now: Date };

export interface DrilledTenant extends DrillCandidate {
  readonly why: string;
  /** Null: its tier promises none. */
  readonly rtoSeconds: number | null;
}

/** What a drill restores, in this order. */
export interface DrillPlan {
  /** Chooses among tenants of which none has waited longer: the same seed chooses the same ones. */
  readonly seed: string;
  readonly tenants: readonly DrilledTenant[];
  /** Tenants of the backup that it does not restore. */
  readonly leftOut: number;
}

/** How often each tier is drilled, and how many of its tenants; null: every one. */
export const drillPeriods: Readonly<Record<Tier, { readonly days: number; readonly sample: number | null }>> = {
  enterprise: { days: 7, sample: null },
  pro: { days: 30, sample: null },
  starter: { days: 90, sample: 20 },
  free: { days: 90, sample: 20 },
};

/** Tenants of one scheduled drill: who is left waits for the drill of the next day. */
export const dueTenantsMax = 100;
/** Attacks need somebody to attack from. */
const tenantsMin = 2;
const dayMs = 24 * 3_600_000;

/** @throws PartywallError backup_unknown: the backup does not hold a tenant that was named */
export function planDrill(candidates: readonly DrillCandidate[], selection: DrillSelection, seed: string): DrillPlan {
  const inTurn = waiting(candidates, seed);
  const chosen = choose(inTurn, selection);
  if (chosen.length > 0 && chosen.length < tenantsMin) {
    const other = inTurn.find(({ tenant }) => tenant !== chosen[0]?.tenant);
    if (other) chosen.push(drilled(other, 'its wall is attacked from a second tenant'));
  }
  return { seed, tenants: chosen, leftOut: candidates.length - chosen.length };
}

function choose(inTurn: readonly DrillCandidate[], selection: DrillSelection): DrilledTenant[] {
  switch (selection.kind) {
    case 'tenants':
      return [...new Set(selection.tenants)].map((tenant) => {
        const found = inTurn.find((each) => each.tenant === tenant);
        if (found) return drilled(found, 'named');
        throw new PartywallError('backup_unknown', `looking for tenant ${tenant.slice(0, 100)} in the backup: it holds nothing of it`);
      });
    case 'all':
      return inTurn.map((each) => drilled(each, 'everybody'));
    case 'sample':
      return sample(inTurn, selection.count);
    case 'due':
      return due(inTurn, selection.now);
  }
}

/** One of each tier before a second of any, so that no tier is forgotten. */
function sample(inTurn: readonly DrillCandidate[], count: number): DrilledTenant[] {
  const byTier = tierOrder.map((tier) => inTurn.filter((each) => each.tier === tier));
  const rounds = Math.max(0, ...byTier.map((tenants) => tenants.length));
  const chosen: DrilledTenant[] = [];
  for (let round = 0; round < rounds && chosen.length < count; round += 1) {
    for (const tenants of byTier) {
      const next = tenants[round];
      if (next && chosen.length < count) chosen.push(drilled(next, `${next.tier}: ${last(next)}`));
    }
  }
  return chosen;
}

function due(inTurn: readonly DrillCandidate[], now: Date): DrilledTenant[] {
  return tierOrder
    .flatMap((tier) => {
      const { days, sample: count } = drillPeriods[tier];
      const since = now.getTime() - days * dayMs;
      const ofTier = inTurn.filter((each) => each.tier === tier);
      const fresh = ofTier.filter(({ provedAt }) => provedAt !== null && provedAt.getTime() > since).length;
      const wanted = Math.max(0, (count ?? ofTier.length) - fresh);
      const late = ofTier.filter(({ provedAt }) => provedAt === null || provedAt.getTime() <= since);
      return late.slice(0, wanted).map((each) => drilled(each, `${tier}, every ${days} days: ${last(each)}`));
    })
    .slice(0, dueTenantsMax);
}

/** Who waited longest comes first. */
function waiting(candidates: readonly DrillCandidate[], seed: string): DrillCandidate[] {
  const lot = new Map(candidates.map(({ tenant }) => [tenant, createHash('sha256').update(`${seed}\0${tenant}`).digest('hex')]));
  const since = ({ provedAt }: DrillCandidate): number => provedAt?.getTime() ?? Number.NEGATIVE_INFINITY;
  return candidates.toSorted((left, right) => {
    const [one, other] = [since(left), since(right)];
    if (one !== other) return one < other ? -1 : 1;
    return (lot.get(left.tenant) ?? '') < (lot.get(right.tenant) ?? '') ? -1 : 1;
  });
}

function last({ provedAt }: DrillCandidate): string {
  return provedAt === null ? 'never drilled' : `last drilled ${provedAt.toISOString()}`;
}

function drilled(candidate: DrillCandidate, why: string): DrilledTenant {
  return { ...candidate, why, rtoSeconds: tierPromises[candidate.tier].rtoSeconds };
}
