import { expect, test } from 'vitest';
import { demoTenants } from '../src/demo-tenants.ts';
import { walledCrm } from './walled-crm.ts';

const [alder, brightwater, cobalt] = demoTenants;
const crm = await walledCrm();
const { app, database } = crm;
const operator = { authorization: `Bearer ${await superAdmin()}` };

test('everything of a tenant is exported, lost and brought back, and its neighbour is not touched', async () => {
  const exported = await exportOf(alder.id);
  const neighbour = await exportOf(brightwater.id);
  expect(exported.document.header.tables.map(({ name }) => name)).toEqual(
    expect.arrayContaining([
      'public.tenants',
      'public.customers',
      'public.customer_tags',
      'public.deals',
      'public.activities',
      'public.files',
      'public.sessions',
    ]),
  );
  await damage(alder.id);
  expect((await exportOf(alder.id)).document.trailer.sha256).not.toBe(exported.document.trailer.sha256);

  const restored = await app.inject({
    method: 'POST',
    url: '/api/admin/tenants/restore',
    headers: { ...operator, 'content-type': 'application/json' },
    payload: exported.text,
  });

  // A trigger sets customers.updated_at; the exported times stay.
  expect(restored.json()).toMatchObject({ applied: true, hashEqual: true, triggers: ['public.customers: customers_set_updated_at (public.set_updated_at)'] });
  expect((await exportOf(alder.id)).document).toMatchObject({ tables: exported.document.tables, trailer: exported.document.trailer });
  expect((await exportOf(brightwater.id)).document.trailer).toEqual(neighbour.document.trailer);
});

test('a tenant admin exports the own tenant, and nobody else’s', async () => {
  const asAdmin = { authorization: `Bearer ${await crm.token(alder)}` };
  expect((await app.inject({ url: '/api/tenants/export', headers: asAdmin })).json()).toMatchObject({ header: { tenant: { id: alder.id } } });
  expect((await app.inject({ url: `/api/tenants/export?tenantId=${brightwater.id}`, headers: asAdmin })).statusCode).toBe(404);
});

async function superAdmin(): Promise<string> {
  const token = await crm.token(cobalt, 'member');
  await database.query(
    `update partywall_people."user" set "superAdmin" = true where "id" in (select "userId" from partywall_people."member" where "organizationId" = $1)`,
    [cobalt.id],
  );
  return token;
}

interface Exported {
  readonly header: { readonly tables: readonly { readonly name: string }[] };
  readonly tables: Readonly<Record<string, readonly object[]>>;
  readonly trailer: { readonly sha256: string };
}

async function exportOf(tenant: string): Promise<{ text: string; document: Exported }> {
  const { body } = await app.inject({ url: `/api/tenants/export?tenantId=${tenant}`, headers: operator });
  return { text: body, document: JSON.parse(body) };
}

/** What a bad afternoon does: rows changed, moved, deleted with what hangs on them, and made anew. */
async function damage(tenant: string): Promise<void> {
  for (const statement of [
    `update customers set name = upper(name), annual_revenue = null, parent_id = null where tenant_id = $1 and reference like '%7'`,
    'delete from customers where id in (select id from customers where tenant_id = $1 order by id limit 100)',
    'delete from tags where tenant_id = $1',
    `delete from users where tenant_id = $1 and role <> 'admin'`,
    `update deals set stage_id = (select s.id from deal_stages s where s.partywall_tenant_id = $1 order by s.id limit 1) where partywall_tenant_id = $1`,
    `update deal_stages set position = position + 100 where partywall_tenant_id = $1`,
    `insert into customers (tenant_id, reference, name, country_code) select $1, 'new-' || n, 'New', (select min(code) from countries) from generate_series(1, 20) n`,
  ]) {
    await database.query(statement, [tenant]);
  }
}
