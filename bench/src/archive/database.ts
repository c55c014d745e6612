import { applyWall, connect, controlPool, installControl, type Operation, parseModel, type TenancyModel } from '@partywall/engine';
import { urlAs } from '../api/customers-database.ts';

/** The generated database: rows of all tenants lie mixed, as they do where tenants work side by side. */
export interface ArchiveDatabase {
  /** Connection string of the superuser. */
  readonly url: string;
  readonly bytes: number;
  readonly rows: number;
  readonly tenants: readonly string[];
}

/** Roles belong to the whole server, so databases of one run share them. */
export const archiveModel: TenancyModel = parseModel({
  tenant: {
    table: 'public.tenants',
    status: { column: 'status', values: { suspended: 'suspended', cancelled: 'cancelled' } },
    profile: { name: 'name', slug: 'slug', plan: 'plan' },
  },
  roles: { owner: 'postgres', app: 'bench_app', system: 'bench_system', service: 'bench_service' },
  tables: {
    'public.customers': { scope: 'scoped', column: 'tenant_id' },
    'public.orders': { scope: 'scoped', column: 'tenant_id' },
    'public.messages': { scope: 'scoped', column: 'tenant_id' },
  },
});

const schema = `create table public.tenants (id uuid primary key, name text not null, slug text not null unique, status text not null default 'active',
  plan text not null default 'pro', created_at timestamptz not null default now());
create table public.customers (id bigint primary key, tenant_id uuid not null references public.tenants, name text not null, email text not null, phone text,
  note text, created_at timestamptz not null, unique (tenant_id, id));
create table public.orders (id bigint primary key, tenant_id uuid not null references public.tenants, customer_id bigint not null, status text not null,
  total numeric(12, 2) not null, placed_at timestamptz not null);
create table public.messages (id bigint primary key, tenant_id uuid not null references public.tenants, customer_id bigint not null, body text not null,
  meta jsonb not null, sent_at timestamptz not null)`;

/** Half sentences; what is said is drawn from them by number, so that texts repeat themselves about as much as people do. */
const phrases = `array[${[
  'thank you for your message',
  'the invoice was sent last week',
  'could you please have a look at it',
  'we have not heard from the supplier yet',
  'the delivery is planned for Monday morning',
  'please find the signed contract attached',
  'I will call you back this afternoon',
  'the customer asked for another appointment',
  'payment has been received in full',
  'there seems to be a mistake in the address',
  'our technician will come by between nine and eleven',
  'that is all I know at the moment',
  'let me ask my colleague and come back to you',
  'the order was changed after it had been confirmed',
  'is there any chance to have it earlier',
  'kind regards from all of us here',
]
  .map((phrase) => `'${phrase}'`)
  .join(', ')}]`;

function pick(salt: number): string {
  return `(p.phrases)[1 + (hashint4(n + ${salt}) & 15)]`;
}

/** @param scale 1: a thousand tenants, five million rows, 1.3 GB */
export async function generate(url: string, { tenants, scale }: { readonly tenants: number; readonly scale: number }): Promise<ArchiveDatabase> {
  const client = await connect(url, { purpose: 'bench' });
  const rows = { customers: Math.round(400_000 * scale), orders: Math.round(1_100_000 * scale), messages: Math.round(3_500_000 * scale) };
  const tenant = `('00000000-0000-4000-8000-' || lpad(to_hex((1 + n::bigint * 7919 % ${tenants})::integer), 12, '0'))::uuid`;
  // A customer of the same tenant: their numbers are the same modulo the number of tenants.
  const customer = `1 + (n - 1) % ${Math.floor(rows.customers / tenants) * tenants}`;
  try {
    await client.query(schema);
    await client.query(`insert into public.tenants (id, name, slug)
      select ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Tenant ' || n, 'tenant-' || n from generate_series(1, ${tenants}) n`);
    await client.query(`insert into public.customers select n, ${tenant}, 'Customer ' || n || ' ' || left(md5(n::text), 6), 'c' || n || '@mail.example',
      '+47 ' || abs(hashint4(n)), case when n % 3 = 0 then ${pick(1)} end, timestamptz '2025-01-01' + n * interval '70 seconds'
      from generate_series(1, ${rows.customers}) n, (select ${phrases} as phrases) p`);
    await client.query(`insert into public.orders select n, ${tenant}, ${customer}, (array['open', 'paid', 'sent', 'done'])[1 + n % 4],
      abs(hashint4(n)) % 100000 / 100.0, timestamptz '2025-01-01' + n * interval '25 seconds' from generate_series(1, ${rows.orders}) n`);
    await client.query(`insert into public.messages select n, ${tenant}, ${customer}, 'Re ' || n || ': ' || ${pick(2)} || ', ' || ${pick(3)} || '. ' || ${pick(5)},
      jsonb_build_object('channel', (array['mail', 'chat', 'phone'])[1 + n % 3], 'by', abs(hashint4(n)) % 5000), timestamptz '2025-01-01' + n * interval '8 seconds'
      from generate_series(1, ${rows.messages}) n, (select ${phrases} as phrases) p`);
    await client.query('create index on public.customers (tenant_id); create index on public.orders (tenant_id); create index on public.messages (tenant_id)');
    await client.query(`alter table public.orders add foreign key (tenant_id, customer_id) references public.customers (tenant_id, id);
      alter table public.messages add foreign key (tenant_id, customer_id) references public.customers (tenant_id, id)`);
    for (const phase of ['expand', 'contract'] as const) await applyWall({ url, model: archiveModel, phase, skipGate: true });
    await installControl(client, archiveModel);
    await client.query('vacuum analyze');
    const size = await client.query<{ bytes: number }>('select pg_database_size(current_database())::float8 as bytes');
    const ids = await client.query<{ id: string }>('select id::text from public.tenants order by 1');
    return { url, bytes: size.rows[0]?.bytes ?? 0, rows: rows.customers + rows.orders + rows.messages + tenants, tenants: ids.rows.map(({ id }) => id) };
  } finally {
    await client.end();
  }
}

/** The control plane of the database, as an operator at work. Close its pool. */
export function operationOn(url: string, keyring: string): Operation {
  const pool = controlPool(urlAs(url, archiveModel.roles.service), { purpose: 'bench' });
  return { database: { pool, model: archiveModel, clock: () => new Date(), keyring }, actor: { kind: 'operator', id: 'bench' } };
}
