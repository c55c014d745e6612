import type pg from 'pg';
import { problem } from '../problem.ts';
import type { TenantRole } from './principal.ts';
import { tenantRole } from './principal-sql.ts';

/** Who somebody is and where they belong. */
export interface Me {
  readonly id: string;
  readonly name: string;
  readonly email: string;
  readonly superAdmin: boolean;
  readonly memberships: readonly { readonly tenantId: string; readonly name: string; readonly role: TenantRole; readonly status: string }[];
}

/** A person who belongs to more sees the first of them; the tenant of a request can be any. */
const membershipsMax = 500;

/** @throws Problem unauthorized where the person is gone */
export async function findMe(pool: pg.Pool, id: string): Promise<Me> {
  const { rows: people } = await pool.query<Omit<Me, 'memberships'>>(
    'select "id", "name", "email", "superAdmin" from partywall_people."user" where "id" = $1',
    [id],
  );
  const [person] = people;
  if (!person) throw problem('unauthorized');
  const { rows } = await pool.query<{ tenantId: string; name: string; role: string; status: string }>(
    `select m."organizationId" as "tenantId", d.name, m."role", d.status
from partywall_people."member" m join partywall_control.directory d on d.tenant_id = m."organizationId"
where m."userId" = $1 and d.status not in ('deleted', 'erasing') order by d.name, d.tenant_id limit ${membershipsMax}`,
    [id],
  );
  return { ...person, memberships: rows.map((row) => ({ ...row, role: tenantRole(row.role) })) };
}
