import type pg from 'pg';
import { problem } from '../problem.ts';

/**
 * Locks the tenant's organization until the transaction ends, so that what is decided about its people is decided one at a time. A tenant that
 * registered itself gets its organization here, on first use.
 *
 * @throws Problem not_found where the directory has no such tenant
 */
export async function lockOrganization(client: pg.ClientBase, tenant: string): Promise<{ readonly name: string }> {
  await client.query(
    `insert into partywall_people."organization" ("id", "name", "slug", "createdAt")
select d.tenant_id, d.name, d.tenant_id, now() from partywall_control.directory d where d.tenant_id = $1 and d.status not in ('deleted', 'erasing')
on conflict do nothing`,
    [tenant],
  );
  // The directory's name is the one that counts.
  const { rows } = await client.query<{ name: string }>(
    `select d.name from partywall_people."organization" o join partywall_control.directory d on d.tenant_id = o."id" where o."id" = $1 for no key update of o`,
    [tenant],
  );
  const [found] = rows;
  if (!found) throw problem('not_found');
  return found;
}
