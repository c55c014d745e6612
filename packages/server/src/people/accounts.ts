import { randomUUID } from 'node:crypto';
import { type AuditEntry, appendAudit, type Operation, PartywallError, transaction } from '@partywall/engine';
import type pg from 'pg';
import { hashPassword } from './better-auth.ts';

/** A person who can sign in with a password. */
export interface NewPerson {
  readonly email: string;
  readonly name: string;
  readonly password: string;
  /** Whether it is known that they read mail to that address. */
  readonly emailVerified: boolean;
  readonly superAdmin?: boolean;
}

/** Adds a person and their password to the caller's transaction; returns their id. A taken address is 23505. */
export async function addPerson(client: pg.ClientBase, person: NewPerson): Promise<string> {
  const id = randomUUID();
  const hash = await hashPassword(person.password);
  await client.query(
    `with person as (
  insert into partywall_people."user" ("id", "name", "email", "emailVerified", "superAdmin") values ($1, $2, $3, $4, $5) returning "id"
)
insert into partywall_people."account" ("id", "accountId", "providerId", "userId", "password", "updatedAt") select $6, "id", 'credential', "id", $7, now() from person`,
    [id, person.name, person.email.toLowerCase(), person.emailVerified, person.superAdmin ?? false, randomUUID(), hash],
  );
  return id;
}

/** A super-admin as lists show them. */
export interface SuperAdmin {
  readonly id: string;
  readonly email: string;
  readonly name: string;
  readonly createdAt: Date;
}

/**
 * Makes a person super-admin: a new one with that password, or, without a password, one who is there.
 *
 * @throws PartywallError input_invalid: the address is taken and a password was given, or nobody has it and none was
 */
export async function createSuperAdmin(operation: Operation, person: { email: string; name: string; password: string | undefined }): Promise<SuperAdmin> {
  const email = person.email.toLowerCase();
  return transaction(operation.database.pool, async (client) => {
    const { rows: existing } = await client.query<{ id: string }>('select "id" from partywall_people."user" where "email" = $1 for update', [email]);
    const { password } = person;
    if (existing[0] && password !== undefined) throw new PartywallError('input_invalid', `making ${email} super-admin: somebody has that address already`);
    if (!existing[0] && password === undefined) throw new PartywallError('input_invalid', `making ${email} super-admin: nobody has that address`);
    const id = existing[0]?.id ?? (await addPerson(client, { ...person, email, password: password ?? '', emailVerified: true }));
    const { rows } = await client.query<SuperAdmin>(
      'update partywall_people."user" set "superAdmin" = true, "updatedAt" = now() where "id" = $1 returning "id", "email", "name", "createdAt"',
      [id],
    );
    const entry: AuditEntry = { tenant: null, action: 'super_admin.create', target: `user:${id}`, details: { email, promoted: existing[0] !== undefined } };
    await appendAudit(client, operation, entry);
    const [made] = rows;
    if (!made) throw new Error('making a super-admin: the person is gone');
    return made;
  });
}

const superAdminsMax = 1_000;

/** Everybody who is admin of everything, oldest first. */
export async function listSuperAdmins(pool: pg.Pool): Promise<SuperAdmin[]> {
  const { rows } = await pool.query<SuperAdmin>(
    `select "id", "email", "name", "createdAt" from partywall_people."user" where "superAdmin" order by "createdAt", "id" limit ${superAdminsMax}`,
  );
  return rows;
}
