import { defineTenancy } from 'partywall';

const own = { scope: 'scoped', column: 'tenantId', why: 'tenantId refers to public.tenants' } as const;
const ofUnit = { ...own, unit: 'businessUnitId' } as const;

export default defineTenancy({
  tenant: {
    table: 'public.tenants',
    key: 'id',
    status: { column: 'status', values: { SUSPENDED: 'suspended', CANCELLED: 'cancelled' } },
    profile: { name: 'name', slug: 'slug' },
    why: 'every other table names it',
  },
  unit: { table: 'public.business_units' },
  column: 'partywall_tenant_id',
  schemas: ['public'],
  roles: { owner: 'postgres', app: 'rental_app', system: 'rental_system', service: 'rental_service' },
  people: { table: 'public.users', email: 'email', name: 'name' },
  tables: {
    'public.users': own,
    'public.business_units': own,
    'public.clients': own,
    'public.client_business_units': ofUnit,
    'public.assets': ofUnit,
    'public.quotations': own,
    'public.contracts': own,
    'public.invoices': own,
    'public.supplies': own,
    'public.supply_usages': ofUnit,
    'public.monthly_reports': own,
  },
});
