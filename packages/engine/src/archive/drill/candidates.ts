import type { Operation } from '../../db/operation.ts';
import { tenantOfSubject } from '../../keyring/data-keys.ts';
import type { Archive } from '../archive.ts';
import type { Tier } from '../ledger/reconcile-plan.ts';
import type { Backup } from '../read/open-backup.ts';
import type { DrillCandidate } from './plan-drill.ts';

const directorySql = `select d.tenant_id as tenant, p.tier, r.proved_at as "provedAt"
from partywall_control.directory d join partywall_control.plans p on p.name = d.plan left join partywall_control.proved_points r on r.tenant_id = d.tenant_id`;

/**
 * The tenants that a backup holds and somebody has the keys of, with the tier that they have now. Of one that the directory does not know any more nothing
 * is promised.
 */
export async function drillCandidates({ database }: Operation, { keys }: Pick<Archive, 'keys'>, { subjects }: Backup): Promise<DrillCandidate[]> {
  const { rows } = await database.pool.query<{ tenant: string; tier: Tier; provedAt: Date | null }>(directorySql);
  const known = new Map(rows.map((row) => [row.tenant, row]));
  return [...subjects.values()].flatMap(({ subject: ref, rows: count, bytes }) => {
    const key = keys.byRef(ref);
    const tenant = key && tenantOfSubject(key.subject);
    if (tenant === undefined) return [];
    const { tier = 'free', provedAt = null } = known.get(tenant) ?? {};
    return [{ tenant, ref, tier, rows: count, bytes, provedAt }];
  });
}
