import type pg from 'pg';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { fence } from '../../tenants/fence.ts';
import { registryStates, type TenantStatus } from '../../tenants/states.ts';

/** State of the registry that lets nobody in, and that no status of a tenant but `erasing` means. */
const heldOut = 'fenced';
const readOnly = 'read_only';
/**
 * Tells this from others who hold a tenant out: an erasure, a move, a database that waits to be reconciled. What the tenant was before is in it, so that
 * whoever goes on after a crash lets it in as that.
 */
const reason = 'being restored';
const reasonReadOnly = 'being restored, and read-only before';

/**
 * Lets nobody into the tenant and waits until nobody is inside. Its status stays what it is: the directory is what `letIn` goes by. Can be run again.
 *
 * @throws PartywallError tenant_unknown, restore_refused (somebody else holds it out), fence_incomplete (nobody enters, but somebody is still inside: call
 * `letIn`)
 */
export async function holdOut({ database: { pool } }: Operation, tenant: string): Promise<void> {
  await transaction(pool, async (client) => {
    const { rows } = await client.query<{ state: string; reason: string | null }>(
      'select g.state, g.reason from partywall.registry g where g.tenant_id = $1 for no key update',
      [tenant],
    );
    const found = rows[0];
    if (!found) throw new PartywallError('tenant_unknown', `looking for tenant ${tenant.slice(0, 100)}: it is not registered`);
    if (found.state !== heldOut) {
      await client.query('select partywall.set_state($1, $2, $3)', [tenant, heldOut, found.state === readOnly ? reasonReadOnly : reason]);
    } else if (!isOurs(found.reason)) {
      throw new PartywallError('restore_refused', `restoring tenant ${tenant}: it is held out: ${found.reason ?? 'no reason is given'}`);
    }
  });
  await fence(pool, tenant);
}

function isOurs(held: string | null): boolean {
  return held === reason || held === reasonReadOnly;
}

/**
 * Lets the tenant be what its status says: it may have been suspended meanwhile, and then it stays out. Can be run again; where somebody has let it in
 * already, that holds.
 */
export async function letIn({ database: { pool } }: Operation, tenant: string): Promise<void> {
  await transaction(pool, async (client) => {
    const { rows } = await client.query<{ status: TenantStatus; state: string; reason: string | null }>(
      `select d.status, g.state, g.reason from partywall_control.directory d join partywall.registry g on g.tenant_id::text = d.tenant_id
where d.tenant_id = $1 for no key update of d`,
      [tenant],
    );
    const found = rows[0];
    if (found?.state !== heldOut || !isOurs(found.reason)) return;
    const state = registryStates[found.status];
    await client.query('select partywall.set_state($1, $2)', [tenant, state === 'active' && found.reason === reasonReadOnly ? readOnly : state]);
  });
}

/** @throws PartywallError restore_refused where somebody let the tenant in, so that what it writes would be in no undo backup */
export async function assertHeldOut(client: pg.ClientBase, tenant: string): Promise<void> {
  const { rows } = await client.query<{ state: string }>('select g.state from partywall.registry g where g.tenant_id = $1', [tenant]);
  const state = rows[0]?.state;
  if (state === undefined || state === 'active' || state === readOnly)
    throw new PartywallError('restore_refused', `restoring tenant ${tenant}: somebody let it in meanwhile, so its undo backup may not hold what it wrote`);
}
