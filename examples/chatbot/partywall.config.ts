import { defineTenancy } from 'partywall';

const own = { scope: 'scoped', column: 'tenant_id', why: 'tenant_id refers to public.tenants' } as const;

export default defineTenancy({
  tenant: {
    table: 'public.tenants',
    key: 'id',
    status: { column: 'status', values: { suspended: 'suspended', cancelled: 'cancelled' } },
    profile: { name: 'name', slug: 'slug', plan: 'plan' },
    why: 'every other table names it',
  },
  column: 'partywall_tenant_id',
  schemas: ['public'],
  roles: { owner: 'postgres', app: 'chatbot_app', system: 'chatbot_system', service: 'chatbot_service', operator: 'chatbot_operator' },
  people: { table: 'public.admin_users', email: 'email', name: 'name', role: { column: 'role', admin: 'admin', member: 'member' } },
  quotas: {
    agents: { rows: 'public.agents' },
    storage: { bytes: { 'public.uploads': 'size_bytes' } },
  },
  archive: {
    files: { uploads: { store: 'env:CHATBOT_UPLOADS', prefix: '{tenant}/' } },
    smoke: [
      { sql: 'select from agents where is_default', expect: 'rows' },
      { sql: 'select count(*) from channel_messages m left join channel_sessions s on s.id = m.session_id where s.id is null', expect: 0 },
    ],
  },
  tables: {
    'public.agents': own,
    'public.prompts': own,
    'public.vector_stores': own,
    'public.admin_users': own,
    'public.audit_conversations': own,
    'public.audit_messages': {
      scope: 'scoped',
      through: { table: 'public.audit_conversations', columns: 'conversation_id' },
      why: 'conversation_id leads to the tenant; a DELETE by tenant_id would miss it',
    },
    'public.channel_sessions': own,
    'public.channel_messages': own,
    'public.leads': own,
    'public.jobs': own,
    'public.uploads': own,
  },
});
