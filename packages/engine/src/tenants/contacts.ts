import type { Operation } from '../db/operation.ts';
import { readTenant } from './tenant.ts';

const contactsMax = 100;

/**
 * Where a tenant is told something: its contact address and its admins', each once, in lower case.
 *
 * @throws PartywallError tenant_unknown
 */
export async function tenantContacts(operation: Operation, tenant: string): Promise<string[]> {
  const { pool } = operation.database;
  const { contactEmail } = await readTenant(pool, tenant);
  const { rows } = await pool.query<{ email: string }>(
    `select u."email" as email from partywall_people."member" m join partywall_people."user" u on u."id" = m."userId"
where m."organizationId" = $1 and m."role" ~ '(^|,)(owner|admin)(,|$)' order by 1 limit $2`,
    [tenant, contactsMax],
  );
  return [...new Set([...(contactEmail === null ? [] : [contactEmail.toLowerCase()]), ...rows.map(({ email }) => email)])];
}
