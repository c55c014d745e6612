import type pg from 'pg';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted } from '../model/table-name.ts';
import type { RegistryState } from './states.ts';

/**
 * Locks the tenant's row of the root, before the directory's: the application's own updates of its status lock in that order, because their
 * triggers reach the directory last. The tenant is known to exist, so its key is one that the column's type reads.
 */
export async function lockRoot(client: pg.ClientBase, model: TenancyModel, tenant: string): Promise<void> {
  await client.query(`select from ${quoted(model.tenant.table)} r where r.${ident(model.tenant.key)} = $1 for no key update`, [tenant]);
}

/**
 * Puts a tenant into a state of the registry, by the root's own status column where the model says which of its values means that state,
 * so that the application sees it too. The registry is set directly where no value does, or where a trigger of the application
 * objected: what it says is what keeps the tenant out.
 *
 * @param remembered what the column said while the tenant was active
 */
export async function writeState(client: pg.ClientBase, model: TenancyModel, tenant: string, state: RegistryState, remembered: string | null): Promise<void> {
  const { table, key, status } = model.tenant;
  if (status) {
    const column = ident(status.column);
    const value = valueFor(status.values, state, remembered);
    const where = `where ${ident(key)} = $1`;
    if (value !== undefined) await client.query(`update ${quoted(table)} set ${column} = $2 ${where}`, [tenant, value]);
    else if (state === 'active')
      await client.query(`update ${quoted(table)} set ${column} = default ${where} and ${column}::text = any ($2)`, [tenant, Object.keys(status.values)]);
  }
  await client.query('select partywall.set_state(g.tenant_id::text, $2) from partywall.registry g where g.tenant_id = $1 and g.state <> $2', [tenant, state]);
}

/** What the root's own status column says, as text; null where there is none. */
export async function readRootStatus(client: pg.ClientBase, model: TenancyModel, tenant: string): Promise<string | null> {
  const { table, key, status } = model.tenant;
  if (!status) return null;
  const { rows } = await client.query<{ value: string | null }>(
    `select r.${ident(status.column)}::text as value from ${quoted(table)} r where r.${ident(key)} = $1`,
    [tenant],
  );
  return rows[0]?.value ?? null;
}

/** The value of the status column that means a state; values that the model does not list mean active. */
function valueFor(values: Readonly<Record<string, string>>, state: RegistryState, remembered: string | null): string | undefined {
  if (state === 'active' && remembered !== null && (values[remembered] ?? 'active') === 'active') return remembered;
  return Object.entries(values).find(([, means]) => means === state)?.[0];
}
