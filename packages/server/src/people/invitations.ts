import { randomUUID } from 'node:crypto';
import { appendAudit, type Operation, transaction } from '@partywall/engine';
import type pg from 'pg';
import { problem } from '../problem.ts';
import { addPerson } from './accounts.ts';
import { inTransaction } from './better-auth.ts';
import { lockOrganization } from './organization.ts';
import type { People } from './people.ts';
import type { TenantRole } from './principal.ts';
import { tenantRole } from './principal-sql.ts';
import { openInvitation, signInvitation } from './session-token.ts';

/** An open invitation into a tenant. Its id is no proof: it is accepted with the token that only the invited person is sent. */
export interface Invitation {
  readonly id: string;
  readonly email: string;
  readonly role: TenantRole;
  readonly expiresAt: Date;
  readonly createdAt: Date;
}

const openMax = 100;
const validHours = 72;

const columns = '"id", "email", "role", "expiresAt", "createdAt"';

type InvitationRow = Omit<Invitation, 'role'> & { readonly role: string | null };

/**
 * Invites somebody into a tenant, or sends the open invitation again. Where mail is configured it goes to them alone; else the link is in the
 * answer, for whoever invites to pass on.
 *
 * @throws Problem conflict (a member already), limit_reached, mail_failed, not_found
 */
export async function invite(
  operation: Operation,
  people: People,
  wanted: { tenant: string; email: string; role: TenantRole },
): Promise<Invitation & { readonly link: string | null }> {
  const email = wanted.email.toLowerCase();
  const { tenant, role } = wanted;
  const { invitation, name } = await transaction(operation.database.pool, async (client) => {
    const organization = await lockOrganization(client, tenant);
    await refuseMember(client, tenant, email);
    const { rows: open } = await client.query<{ id: string; email: string }>(
      `select "id", "email" from partywall_people."invitation" where "organizationId" = $1 and "status" = 'pending' and "expiresAt" > now() limit ${openMax + 1}`,
      [tenant],
    );
    const again = open.find((one) => one.email === email)?.id;
    if (again === undefined && open.length >= openMax) throw problem('limit_reached');
    const { rows } = await client.query<InvitationRow>(
      `insert into partywall_people."invitation" ("id", "organizationId", "email", "role", "status", "expiresAt", "inviterId")
values ($1, $2, $3, $4, 'pending', now() + make_interval(hours => ${validHours}), $5)
on conflict ("id") do update set "role" = excluded."role", "expiresAt" = excluded."expiresAt" returning ${columns}`,
      [again ?? randomUUID(), tenant, email, role, operation.actor.id],
    );
    const made = ofRow(rows);
    await appendAudit(client, operation, { tenant, action: 'invitation.create', target: `invitation:${made.id}`, details: { email, role } });
    return { invitation: made, name: organization.name };
  });
  // In the fragment: browsers keep it to themselves, so that it is in no log.
  const link = `${people.baseUrl}/accept-invitation#token=${signInvitation(invitation.id, people.secret)}`;
  if (!people.mail) return { ...invitation, link };
  const text = `You are invited to join ${name} as ${role}.\n\nAccept the invitation within ${validHours} hours:\n${link}\n\nIf you did not expect this, ignore it.\n`;
  await people.mail({ to: email, subject: `Invitation to ${name}`, text }).catch((cause: unknown) => {
    throw problem('mail_failed', { cause });
  });
  return { ...invitation, link: null };
}

/** The open invitations of a tenant by their id, after one. */
export async function listInvitations(pool: pg.Pool, tenant: string, page: { limit: number; after: string | undefined }): Promise<Invitation[]> {
  const { rows } = await pool.query<InvitationRow>(
    `select ${columns} from partywall_people."invitation"
where "organizationId" = $1 and "status" = 'pending' and "expiresAt" > now() and ($2::text is null or "id" > $2) order by "id" limit $3`,
    [tenant, page.after ?? null, page.limit + 1],
  );
  return rows.map((row) => ofRow([row]));
}

/** @throws Problem not_found */
export async function cancelInvitation(operation: Operation, tenant: string, id: string): Promise<void> {
  await transaction(operation.database.pool, async (client) => {
    const { rows } = await client.query<{ email: string }>(
      `update partywall_people."invitation" set "status" = 'canceled' where "id" = $1 and "organizationId" = $2 and "status" = 'pending' returning "email"`,
      [id, tenant],
    );
    const [cancelled] = rows;
    if (!cancelled) throw problem('not_found');
    await appendAudit(client, operation, { tenant, action: 'invitation.cancel', target: `invitation:${id}`, details: { email: cancelled.email } });
  });
}

/** What an invitation is about, for whoever holds its token. */
export interface HeldInvitation {
  readonly id: string;
  readonly tenant: string;
  readonly tenantName: string;
  readonly email: string;
  readonly role: TenantRole;
  /** Id of the person who has that address already. */
  readonly user: string | undefined;
}

const heldSql = `select i."id", i."organizationId" as tenant, d.name as "tenantName", i."email", i."role", u."id" as "user"
from partywall_people."invitation" i join partywall_control.directory d on d.tenant_id = i."organizationId" and d.status = 'active'
left join partywall_people."user" u on u."email" = i."email"
where i."id" = $1 and i."status" = 'pending' and i."expiresAt" > now()`;

/**
 * The open invitation that a token is for, of a tenant that is active.
 *
 * @throws Problem not_found, whatever is wrong with it
 */
export async function findInvitation(client: pg.ClientBase | pg.Pool, token: string, secret: string): Promise<HeldInvitation> {
  const id = openInvitation(token, secret);
  const { rows } = id === undefined ? { rows: [] } : await client.query<Omit<HeldInvitation, 'role'> & { role: string | null }>(heldSql, [id]);
  const [row] = rows;
  if (!row) throw problem('not_found');
  return { ...row, user: row.user ?? undefined, role: tenantRole(row.role ?? '') };
}

/**
 * Makes whoever holds the token a member: a new person with the given name and password, or one who has proved to be the person of that
 * address.
 *
 * @throws Problem not_found, conflict
 */
export async function acceptInvitation(
  people: People,
  token: string,
  as: { readonly user: string } | { readonly name: string; readonly password: string },
  actorOf: (user: string) => Pick<Operation, 'actor' | 'requestId'>,
): Promise<{ readonly user: string; readonly invitation: HeldInvitation }> {
  const { database, secret, mail } = people;
  return inTransaction(database.pool, async (client) => {
    const seen = await findInvitation(client, token, secret);
    // Once: whoever comes second waits here, and then finds it accepted.
    await lockOrganization(client, seen.tenant);
    const invitation = await findInvitation(client, token, secret);
    const user = 'user' in as ? as.user : await addPerson(client, { ...as, email: invitation.email, emailVerified: mail !== undefined });
    await refuseMember(client, invitation.tenant, invitation.email);
    await client.query(`update partywall_people."invitation" set "status" = 'accepted' where "id" = $1`, [invitation.id]);
    await client.query('insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ($1, $2, $3, $4, now())', [
      randomUUID(),
      invitation.tenant,
      user,
      invitation.role,
    ]);
    const details = { invitation: invitation.id, role: invitation.role, newPerson: !('user' in as) };
    const entry = { tenant: invitation.tenant, action: 'invitation.accept', target: `user:${user}`, details };
    await appendAudit(client, { database, ...actorOf(user) }, entry);
    return { user, invitation };
  });
}

async function refuseMember(client: pg.ClientBase, tenant: string, email: string): Promise<void> {
  const { rowCount } = await client.query(
    `select from partywall_people."member" m join partywall_people."user" u on u."id" = m."userId" where m."organizationId" = $1 and u."email" = $2`,
    [tenant, email],
  );
  if (rowCount !== 0) throw problem('conflict');
}

function ofRow([row]: readonly InvitationRow[]): Invitation {
  if (!row) throw new Error('writing an invitation: the statement returned no row');
  return { ...row, role: tenantRole(row.role ?? '') };
}
