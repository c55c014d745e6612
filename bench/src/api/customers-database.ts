import { randomUUID } from 'node:crypto';
import { applyWall, connect, installControl, parseModel, type TenancyModel } from '@partywall/engine';
import { signSessionToken } from '@partywall/server';

export const busyTenant = '00000000-0000-0000-0000-000000000001';
const customersOfBusyTenant = 1_000;

export const customersModel: TenancyModel = parseModel({
  tenant: {
    table: 'public.tenants',
    status: { column: 'status', values: { suspended: 'suspended', cancelled: 'cancelled' } },
    profile: { name: 'name', slug: 'slug', plan: 'plan' },
  },
  roles: { owner: 'postgres', app: 'bench_app', system: 'bench_system', service: 'bench_service' },
  tables: {
    'public.users': { scope: 'scoped', column: 'tenant_id' },
    'public.customers': { scope: 'scoped', column: 'tenant_id' },
  },
  people: { table: 'public.users', email: 'email', name: 'name', role: { column: 'role', admin: 'admin', member: 'member' } },
  quotas: { customers: { rows: 'public.customers' }, users: { rows: 'public.users' } },
});

const schema = `create table public.tenants (id uuid primary key default gen_random_uuid(), name text not null, slug text not null unique,
  status text not null default 'active', plan text not null default 'enterprise');
create table public.users (id uuid primary key default gen_random_uuid(), tenant_id uuid not null references public.tenants (id), email text not null,
  name text not null, role text not null default 'member', unique (tenant_id, email));
create table public.customers (id uuid primary key default gen_random_uuid(), tenant_id uuid not null references public.tenants (id), name text not null,
  industry text, phone text, employees integer, archived boolean not null default false, created_at timestamptz not null default now());
create index on public.customers (tenant_id, name, id)`;

/** What the server under measurement signs sessions with. */
export const secret = 'a secret of the benchmark, thirty-two bytes and more';

/** Tenants and a thousand customers of one of them, behind the wall and under the control plane. Returns a bearer token of its admin. */
export async function loadCustomers(url: string, tenants: number): Promise<string> {
  const client = await connect(url, { purpose: 'bench' });
  const token = randomUUID();
  try {
    await client.query(schema);
    await client.query(
      `insert into public.tenants (id, name, slug, plan)
       select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'Tenant ' || md5(n::text), 'tenant-' || n, case n when 1 then 'enterprise' else 'pro' end
       from generate_series(1, $1::int) n`,
      [tenants],
    );
    await client.query(
      `insert into public.customers (tenant_id, name, industry, phone, employees)
       select $1, 'Customer ' || md5(n::text), 'industry ' || n % 17, '+47 ' || n, n from generate_series(1, $2::int) n`,
      [busyTenant, customersOfBusyTenant],
    );
    for (const phase of ['expand', 'contract'] as const) await applyWall({ url, model: customersModel, phase, skipGate: true });
    await installControl(client, customersModel);
    await client.query(
      `insert into partywall_people."user" ("id", "name", "email", "emailVerified") values ('bench', 'Bench', 'bench@people.example', true);
       insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ('${busyTenant}', 'Bench', 'bench', now()) on conflict do nothing;
       insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ('bench', '${busyTenant}', 'bench', 'admin', now())`,
    );
    await client.query(
      `insert into partywall_people."session" ("id", "expiresAt", "token", "updatedAt", "userId") values ('bench', now() + interval '1 day', $1, now(), 'bench')`,
      [token],
    );
    await client.query('vacuum analyze');
  } finally {
    await client.end();
  }
  return signSessionToken(token, secret);
}

/** The same database as another role. */
export function urlAs(url: string, role: string): string {
  const parsed = new URL(url);
  parsed.username = role;
  return parsed.toString();
}
