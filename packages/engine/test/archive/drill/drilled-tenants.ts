import type { ControlFixture } from '../../../../../test/support/control-database.ts';
import { scratchPlace } from '../../../src/archive/drill/scratch.ts';

/** A tenant on each of the plans, with customers and a note of each. */
export async function drilledTenants({ tenant, database }: ControlFixture, plans: readonly string[]): Promise<string[]> {
  const tenants: string[] = [];
  for (const plan of plans) {
    const made = await tenant(`On ${plan} ${tenants.length}`, plan);
    tenants.push(made);
    await database.query(
      `with made as (insert into customers (tenant_id, name, country_code) select $1, 'customer ' || n || E'\\t\\\\', 'NO' from generate_series(1, 20) n returning id, tenant_id)
insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', tenant_id from made`,
      [made],
    );
  }
  return tenants;
}

export interface Leftovers {
  readonly databases: readonly string[];
  readonly roles: readonly string[];
}

/** What drills of this database have left on the server: their databases, and the roles that they made. */
export async function leftovers({ database, operation }: ControlFixture): Promise<Leftovers> {
  const { source } = await scratchPlace(operation(), undefined, '');
  const databases = await database.query<{ name: string }>('select datname as name from pg_database where starts_with(datname, $1) order by 1', [
    `partywall_drill_${source}_`,
  ]);
  const roles = await database.query<{ name: string }>("select rolname as name from pg_roles where shobj_description(oid, 'pg_authid') = $1 order by 1", [
    `made by a drill of ${source}`,
  ]);
  return { databases: databases.rows.map(({ name }) => name), roles: roles.rows.map(({ name }) => name) };
}
