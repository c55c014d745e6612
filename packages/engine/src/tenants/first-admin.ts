import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted } from '../model/table-name.ts';

export interface FirstAdmin {
  readonly adminName: string;
  readonly adminEmail: string;
  /** Hashes the password that the admin signs in with. Called at most once, and not for a person who can sign in already. */
  readonly hashPassword: () => Promise<string>;
}

/** Sign-in stores e-mail addresses in lower case. */
const credential = 'credential';

/**
 * Makes the first admin of a tenant: person and password, the tenant's organization and the membership in it, and the row among the
 * application's own people. A person who exists already keeps name and password. Returns the id of the person's sign-in.
 */
export async function insertFirstAdmin(
  client: pg.ClientBase,
  model: TenancyModel,
  tenant: { readonly id: string; readonly name: string; readonly slug: string },
  admin: FirstAdmin,
): Promise<{ user: string; isNew: boolean }> {
  const made = await insertSignIn(client, tenant, admin);
  await insertAppPerson(client, model, tenant.id, { name: admin.adminName, email: admin.adminEmail });
  return made;
}

/** The part of it that is Partywall's own: who is admin already stays so. */
export async function insertSignIn(
  client: pg.ClientBase,
  tenant: { readonly id: string; readonly name: string; readonly slug: string },
  admin: FirstAdmin,
): Promise<{ user: string; isNew: boolean }> {
  const email = admin.adminEmail.toLowerCase();
  const inserted = await client.query<{ id: string }>(
    `insert into partywall_people."user" ("id", "name", "email", "emailVerified") values ($1, $2, $3, false) on conflict ("email") do nothing returning "id"`,
    [randomUUID(), admin.adminName, email],
  );
  const made = inserted.rows[0]?.id;
  if (made !== undefined) {
    await client.query(
      `insert into partywall_people."account" ("id", "accountId", "providerId", "userId", "password", "updatedAt") values ($1, $2, $3, $2, $4, now())`,
      [randomUUID(), made, credential, await admin.hashPassword()],
    );
  }
  await client.query(
    `insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, $2, $3, now()) on conflict ("id") do nothing`,
    [tenant.id, tenant.name, tenant.slug],
  );
  const { rows } = await client.query<{ user: string }>(
    `insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt")
select $1, $2, u."id", 'admin', now() from partywall_people."user" u where u."email" = $3
on conflict ("organizationId", "userId") do update set "role" = 'admin' returning "userId" as user`,
    [randomUUID(), tenant.id, email],
  );
  return { user: rows[0]?.user ?? '', isNew: made !== undefined };
}

/** The row among the application's own people. */
export async function insertAppPerson(client: pg.ClientBase, model: TenancyModel, tenant: string, person: { name: string; email: string }): Promise<void> {
  const { people } = model;
  const rule = people && model.tables.get(people.table);
  if (!people || rule?.scope !== 'scoped') return;
  const values = new Map([
    [rule.column, tenant],
    [people.email, person.email],
    ...(people.name === undefined ? [] : [[people.name, person.name] as const]),
    ...(people.role ? [[people.role.column, people.role.admin] as const] : []),
  ]);
  const columns = [...values.keys()].map(ident).join(', ');
  const parameters = [...values.keys()].map((_, at) => `$${at + 1}`).join(', ');
  await client.query(`insert into ${quoted(people.table)} (${columns}) values (${parameters})`, [...values.values()]);
}
