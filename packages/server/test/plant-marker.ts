import { appendAudit } from '@partywall/engine';
import type { ServerFixture } from './server.ts';

/** Puts `marker` into every text column that belongs to a tenant: the application's rows, its people, what the control plane knows of it. */
export async function plantMarker(
  fixture: ServerFixture,
  tenant: string,
  marker: string,
): Promise<{ readonly columns: number; readonly ids: readonly string[] }> {
  const { query } = fixture.database;
  const { rows: users } = await query<{ id: string }>(`insert into users (tenant_id, email, name) values ($1, $2 || '@example.com', $2) returning id`, [
    tenant,
    marker,
  ]);
  const { rows: customers } = await query<{ id: string }>('insert into customers (tenant_id, owner_id, name) values ($1, $2, $3) returning id', [
    tenant,
    users[0]?.id,
    marker,
  ]);
  await query('insert into notes (customer_id, body, partywall_tenant_id) values ($1, $2, $3)', [customers[0]?.id, marker, tenant]);
  const { rows: files } = await query<{ id: string }>('insert into files (tenant_id, name, size_bytes) values ($1, $2, 1) returning id', [tenant, marker]);
  const admin = await fixture.person({ memberships: { [tenant]: 'admin' } });
  await query(`update partywall_people."user" set "name" = $2, "email" = $2 || '@example.org' where "id" = $1`, [admin.id, marker]);
  await query(`update partywall_people."organization" set "name" = $2, "slug" = $2 where "id" = $1`, [tenant, marker]);
  await query(`update partywall_control.directory set contact_email = $2 || '@example.net', reason = $2 where tenant_id = $1`, [tenant, marker]);
  await appendAudit(fixture.control.pool, fixture.operation({ actor: { kind: 'user', id: marker, name: marker } }), {
    tenant,
    action: `${marker}.done`,
    target: marker,
    reason: marker,
    details: { [marker]: marker },
  });
  // users 2, customers and its generated column 2, notes, files, tenants 2.
  return { columns: 8, ids: [users[0], customers[0], files[0], admin].flatMap((row) => row?.id ?? []) };
}
