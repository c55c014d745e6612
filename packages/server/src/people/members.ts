import { appendAudit, type Operation, transaction } from '@partywall/engine';
import type pg from 'pg';
import { problem } from '../problem.ts';
import { lockOrganization } from './organization.ts';
import type { TenantRole } from './principal.ts';
import { tenantRole } from './principal-sql.ts';

/** A person's membership of a tenant. */
export interface Member {
  readonly userId: string;
  readonly email: string;
  readonly name: string;
  readonly role: TenantRole;
  readonly since: Date;
}

const columns = 'u."id" as "userId", u."email", u."name", m."role", m."createdAt" as since';
const joined = 'partywall_people."member" m join partywall_people."user" u on u."id" = m."userId"';

type MemberRow = Omit<Member, 'role'> & { readonly role: string };

/** The members of a tenant by e-mail address, after one, and one more than asked for where there are. */
export async function listMembers(pool: pg.Pool, tenant: string, page: { limit: number; after: string | undefined }): Promise<Member[]> {
  const { rows } = await pool.query<MemberRow>(
    `select ${columns} from ${joined} where m."organizationId" = $1 and ($2::text is null or u."email" > $2) order by u."email" limit $3`,
    [tenant, page.after ?? null, page.limit + 1],
  );
  return rows.map(ofRow);
}

/**
 * Gives a member another role.
 *
 * @throws Problem not_found, last_admin
 */
export async function setMemberRole(operation: Operation, tenant: string, user: string, role: TenantRole): Promise<Member> {
  return transaction(operation.database.pool, async (client) => {
    await lockOrganization(client, tenant);
    const member = await findMember(client, tenant, user);
    if (role !== 'admin') await refuseLastAdmin(client, tenant, member);
    await client.query('update partywall_people."member" set "role" = $3 where "organizationId" = $1 and "userId" = $2', [tenant, user, role]);
    await appendAudit(client, operation, { tenant, action: 'member.set_role', target: `user:${user}`, details: { before: member.role, after: role } });
    return { ...member, role };
  });
}

/**
 * Ends a membership, by an admin or by the member.
 *
 * @throws Problem not_found, last_admin
 */
export async function removeMember(operation: Operation, tenant: string, user: string): Promise<void> {
  await transaction(operation.database.pool, async (client) => {
    await lockOrganization(client, tenant);
    const member = await findMember(client, tenant, user);
    await refuseLastAdmin(client, tenant, member);
    await client.query('delete from partywall_people."member" where "organizationId" = $1 and "userId" = $2', [tenant, user]);
    await appendAudit(client, operation, { tenant, action: 'member.remove', target: `user:${user}`, details: { role: member.role } });
  });
}

async function findMember(client: pg.ClientBase, tenant: string, user: string): Promise<Member> {
  const { rows } = await client.query<MemberRow>(`select ${columns} from ${joined} where m."organizationId" = $1 and m."userId" = $2`, [tenant, user]);
  const [row] = rows;
  if (!row) throw problem('not_found');
  return ofRow(row);
}

/** Two admins who demote each other at the same time are kept apart by the lock on their organization. */
async function refuseLastAdmin(client: pg.ClientBase, tenant: string, member: Member): Promise<void> {
  if (member.role !== 'admin') return;
  const { rows } = await client.query<{ role: string }>('select "role" from partywall_people."member" where "organizationId" = $1 and "userId" <> $2', [
    tenant,
    member.userId,
  ]);
  if (!rows.some(({ role }) => tenantRole(role) === 'admin')) throw problem('last_admin');
}

function ofRow(row: MemberRow): Member {
  return { ...row, role: tenantRole(row.role) };
}
