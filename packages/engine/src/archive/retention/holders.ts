import type { Operation } from '../../db/operation.ts';
import { type DataKeys, tenantOfSubject } from '../../keyring/data-keys.ts';
import type { PlanTier } from '../../metering/plans.ts';
import type { SubjectHolder } from './plan.ts';

/**
 * Whose each subject is, by ref: the platform, and every tenant of the directory that has a key. Who is not in the directory any more (erased, or deleted
 * by the application itself) is left out: the longest period holds for it, and no floor.
 */
export async function readHolders({ database }: Operation, keys: Pick<DataKeys, 'subjects'>): Promise<ReadonlyMap<string, SubjectHolder>> {
  const { rows } = await database.pool.query<{ tenant_id: string; tier: PlanTier; held: boolean }>(
    'select d.tenant_id, p.tier, d.hold_reason is not null as held from partywall_control.directory d join partywall_control.plans p on p.name = d.plan',
  );
  const tenants = new Map(rows.map((row) => [row.tenant_id, row]));
  return new Map(
    keys.subjects().flatMap(({ subject, ref }): [string, SubjectHolder][] => {
      const tenant = tenantOfSubject(subject);
      if (tenant === undefined) return [[ref, { holder: null, legalHold: false }]];
      const known = tenants.get(tenant);
      return known ? [[ref, { holder: known.tier, legalHold: known.held }]] : [];
    }),
  );
}
