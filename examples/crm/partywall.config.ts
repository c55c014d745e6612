import { defineTenancy } from 'partywall';

export default defineTenancy({
  tenant: {
    table: 'public.tenants',
    key: 'id',
    status: { column: 'status', values: { suspended: 'suspended', cancelled: 'cancelled' } },
    profile: { name: 'name', slug: 'slug', plan: 'plan' },
    why: '4 tables refer to it and 4 more hold its key or that of what belongs to it; it is the tenant root by name and by references',
  },
  column: 'partywall_tenant_id', // public.customers has a tenant_id of its own; the same name on what it is joined with would make the application's queries ambiguous
  schemas: ['public'], // every table that holds rows in these must be classified
  // owner owns the tables today; app, system and service are made by apply, operator (reads the views of the control plane) by migrate
  roles: { owner: 'postgres', app: 'crm_app', system: 'crm_system', service: 'crm_service', operator: 'crm_operator' },
  // the application’s people: provisioning a tenant adds its first admin here
  people: {
    table: 'public.users',
    email: 'email',
    name: 'name',
    role: { column: 'role', admin: 'admin', member: 'member' },
  },
  // what is counted for each tenant, exactly; plans set the limits
  quotas: {
    customers: { rows: 'public.customers' },
    users: { rows: 'public.users' },
    storage: { bytes: { 'public.files': 'sizeBytes' } },
  },
  tables: {
    // Scoped: each row belongs to one tenant.
    'public.activities': {
      scope: 'scoped',
      through: [
        { table: 'public.deals', columns: 'deal_id' },
        { table: 'public.contacts', columns: 'contact_id' },
        { table: 'public.users', columns: 'user_id' },
      ],
      why: 'the first of deal_id (public.deals), contact_id (public.contacts), user_id (public.users) that gives one leads to the tenant; each may be missing, and rows without a tenant are listed before contract',
    },
    'public.contacts': {
      scope: 'scoped',
      through: { table: 'public.customers', columns: 'customer_id' },
      why: 'customer_id (public.customers) leads to the tenant',
    },
    'public.customer_tags': {
      scope: 'scoped',
      through: { table: 'public.customers', columns: 'customer_id' },
      why: 'customer_id (public.customers) leads to the tenant; rows on which tag_id (public.tags) disagree are listed before contract',
    },
    'public.customers': {
      scope: 'scoped',
      column: 'tenant_id',
      uniques: {
        customers_reference_key: 'per tenant', // reference: each tenant may have the same
      },
      why: 'tenant_id refers to public.tenants',
    },
    'public.deal_stages': {
      scope: 'scoped',
      through: { table: 'public.pipelines', columns: 'pipeline_id' },
      uniques: {
        deal_stages_pipeline_id_position_key: 'per tenant', // pipeline_id, position: each tenant may have the same
      },
      why: 'pipeline_id (public.pipelines) leads to the tenant',
    },
    'public.deals': {
      scope: 'scoped',
      through: { table: 'public.customers', columns: 'customer_id' },
      why: 'customer_id (public.customers) leads to the tenant; rows on which stage_id (public.deal_stages), owner_id (public.users) disagree are listed before contract',
    },
    'public.files': {
      scope: 'scoped',
      through: { table: 'public.deals', columns: 'dealId' },
      uniques: {
        files_storageKey_key: 'global', // storageKey is random or given by another system
      },
      why: 'dealId (public.deals) leads to the tenant; rows on which uploadedBy (public.users) disagree are listed before contract',
    },
    'public.notes': {
      scope: 'scoped',
      through: { table: 'public.customers', columns: 'customer_id' },
      why: 'customer_id (public.customers) leads to the tenant; rows on which author_id (public.users) disagree are listed before contract',
    },
    'public.pipelines': {
      scope: 'scoped',
      column: 'tenant_id',
      why: 'tenant_id refers to public.tenants',
    },
    'public.sessions': {
      scope: 'scoped',
      through: { table: 'public.users', columns: 'user_id' },
      why: 'user_id (public.users) leads to the tenant',
    },
    'public.tags': {
      scope: 'scoped',
      column: 'tenant_id',
      why: 'tenant_id refers to public.tenants',
    },
    'public.users': {
      scope: 'scoped',
      column: 'tenant_id',
      why: 'tenant_id refers to public.tenants',
    },
    // Shared: the same rows for every tenant.
    'public.countries': { scope: 'shared', access: 'read', why: 'reference data: keyed by name, the same rows for every tenant' },
    // Platform: the platform's own; the application gets what `access` says.
    'public.schema_migrations': {
      scope: 'platform',
      access: 'none',
      why: 'journal of migrations; holds no tenant data, and the application does not touch it',
    },
  },
});
