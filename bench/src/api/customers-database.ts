import { randomUUID } from 'node:crypto';
import { applyWall, connect, installControl, parseModel, type TenancyModel } from '@partywall/engine';
import { signSessionToken } from '@partywall/server';
import type pg from 'pg';

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

export interface LoadedCustomers {
  /** Bearer tokens: of an admin of the busy tenant, and of a super-admin. */
  readonly admin: string;
  readonly operator: string;
}

/** Tenants and a thousand customers of one of them, behind the wall and under the control plane. */
export async function loadCustomers(url: string, tenants: number): Promise<LoadedCustomers> {
  const client = await connect(url, { purpose: 'bench' });
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
    const admin = await signedIn(client, false);
    await client.query(
      `insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, 'Bench', 'bench', now()) on conflict do nothing`,
      [busyTenant],
    );
    await client.query(`insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ($2, $1, $2, 'admin', now())`, [
      busyTenant,
      admin.id,
    ]);
    const operator = await signedIn(client, true);
    await client.query(requestsOfAllTenants);
    await client.query('vacuum analyze');
    return { admin: admin.token, operator: operator.token };
  } finally {
    await client.end();
  }
}

/** Five minutes of requests of every tenant; one in a hundred tenants is slow, one in a hundred fails. What alerts are judged by. */
const requestsOfAllTenants = `insert into partywall_control.request_minutes (tenant_id, minute, calls, errors, millis, buckets)
select d.tenant_id, date_trunc('minute', now()) - make_interval(mins => m), 100, case n.of % 100 when 0 then 10 else 0 end, 2500,
  case n.of % 100 when 1 then '{0,0,0,0,0,0,0,0,100,0,0}'::bigint[] else '{0,50,50,0,0,0,0,0,0,0,0}'::bigint[] end
from partywall_control.directory d cross join lateral (select ('x' || right(d.tenant_id, 7))::bit(28)::int as of) n cross join generate_series(0, 4) m`;

async function signedIn(client: pg.Client, superAdmin: boolean): Promise<{ id: string; token: string }> {
  const [id, token] = [randomUUID(), randomUUID()];
  await client.query(
    `insert into partywall_people."user" ("id", "name", "email", "emailVerified", "superAdmin") values ($1, 'Bench', $1 || '@people.example', true, $2)`,
    [id, superAdmin],
  );
  await client.query(
    `insert into partywall_people."session" ("id", "expiresAt", "token", "updatedAt", "userId") values ($1, now() + interval '1 day', $2, now(), $1)`,
    [id, token],
  );
  return { id, token: signSessionToken(token, secret) };
}
