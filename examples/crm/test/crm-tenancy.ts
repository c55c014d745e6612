import type { TenancyConfig } from '@partywall/engine';

/** The answers that a person gives for this schema; the roles are each test's own. */
export const crmTenancy = {
  tenant: { table: 'public.tenants', status: { column: 'status', values: { suspended: 'suspended', cancelled: 'cancelled' } } },
  // Not `tenant_id`: that name is the application's own on some tables, and a second one would make its joins ambiguous.
  column: 'partywall_tenant_id',
  tables: {
    'public.schema_migrations': { scope: 'platform' },
    'public.countries': { scope: 'shared' },
    'public.users': { scope: 'scoped', column: 'tenant_id' },
    'public.sessions': { scope: 'scoped', through: { table: 'public.users', columns: 'user_id' } },
    'public.customers': { scope: 'scoped', column: 'tenant_id', uniques: { customers_reference_key: 'per tenant' } },
    'public.contacts': { scope: 'scoped', through: { table: 'public.customers', columns: 'customer_id' } },
    'public.pipelines': { scope: 'scoped', column: 'tenant_id' },
    'public.deal_stages': { scope: 'scoped', through: { table: 'public.pipelines', columns: 'pipeline_id' } },
    'public.deals': { scope: 'scoped', through: { table: 'public.customers', columns: 'customer_id' } },
    'public.activities': {
      scope: 'scoped',
      through: [
        { table: 'public.deals', columns: 'deal_id' },
        { table: 'public.contacts', columns: 'contact_id' },
      ],
    },
    'public.notes': { scope: 'scoped', through: { table: 'public.customers', columns: 'customer_id' } },
    'public.tags': { scope: 'scoped', column: 'tenant_id' },
    'public.customer_tags': { scope: 'scoped', through: { table: 'public.customers', columns: 'customer_id' } },
    'public.files': { scope: 'scoped', through: { table: 'public.deals', columns: 'dealId' }, uniques: { files_storageKey_key: 'global' } },
  },
} as const satisfies Omit<TenancyConfig, 'roles'>;
