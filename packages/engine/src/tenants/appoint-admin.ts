import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { type FirstAdmin, insertSignIn } from './first-admin.ts';
import { slugOf } from './provision-names.ts';
import { readTenant } from './tenant.ts';

export interface AppointInput extends FirstAdmin {
  readonly tenant: string;
}

/**
 * Makes somebody admin of a tenant that is there already: one that the application made by itself, or whose admins are all gone. Somebody who
 * can sign in keeps name and password. The application's own people are left to the application. Returns the id of the person's sign-in.
 *
 * @throws PartywallError tenant_unknown
 */
export async function appointAdmin(operation: Operation, input: AppointInput): Promise<{ readonly user: string; readonly isNew: boolean }> {
  return transaction(operation.database.pool, async (client) => {
    const tenant = await readTenant(client, input.tenant);
    // The tenant's own key in the slug: another organization may have the plain one.
    const slug = slugOf(`${tenant.name} ${tenant.id}`, true);
    const made = await insertSignIn(client, { id: tenant.id, name: tenant.name, slug }, input);
    await appendAudit(client, operation, {
      tenant: tenant.id,
      action: 'tenant.appoint_admin',
      target: `user:${made.user}`,
      details: { adminIsNew: made.isNew },
    });
    return made;
  });
}
