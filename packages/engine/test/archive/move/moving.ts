import { afterAll } from 'vitest';
import { type ControlFixture, controlDatabase } from '../../../../../test/support/control-database.ts';
import { awaitOperation, inProcess, type LongOperation, moveKind, moveTenant, moveWork, type Placements, placementsOf } from '../../../src/index.ts';

/** Tables beside those of the fixture: a cycle through the root, and a shared table that refers to another. */
export const schema = `
create table continents (code text primary key, name text not null);
create table currencies (code text primary key, continent text references continents (code), name text not null);
alter table tenants add column contact_id uuid references users (id);
create table invoices (
  id bigint generated always as identity primary key,
  tenant_id uuid not null references tenants (id),
  currency text references currencies (code),
  replaces bigint references invoices (id),
  amount numeric not null
);
create index on invoices (tenant_id);`;

export const tables = {
  'public.continents': { scope: 'shared', access: 'read' },
  'public.currencies': { scope: 'shared', access: 'read' },
  'public.invoices': { scope: 'scoped', column: 'tenant_id' },
} as const;

/** Two databases of one schema, and what moves tenants between them. */
export interface TwoHomes {
  readonly first: ControlFixture;
  readonly second: ControlFixture;
  readonly placements: Placements;
  readonly env: Readonly<Record<string, string>>;
  /** Moves to the end, in this process. */
  move(tenant: string, to?: string, graceSeconds?: number): Promise<LongOperation>;
}

export async function twoHomes(): Promise<TwoHomes> {
  const [first, second] = [await controlDatabase({ schema, tables }), await controlDatabase({ schema, tables })];
  const env = { PARTYWALL_PLACEMENT_SECOND: second.urls.service };
  const placements = placementsOf(env);
  const durable = inProcess(first.control, { [moveKind]: moveWork(placements) });
  afterAll(async () => {
    await durable.stop();
    await placements.close();
  });
  return {
    first,
    second,
    placements,
    env,
    move: async (tenant, to, graceSeconds = 0) => {
      const { id } = await moveTenant(first.operation(), durable, { tenant, to, graceSeconds, placements });
      return awaitOperation(first.operation(), id, { timeoutMs: 60_000 });
    },
  };
}

/** A tenant with rows in every table, `size` customers among them. */
export async function furnish({ database, tenant: make }: ControlFixture, name: string, size = 50): Promise<string> {
  const tenant = await make(name);
  await database.query("insert into users (tenant_id, email, name) select $1, 'u' || n || '@x.example', 'u' || n from generate_series(1, 5) n", [tenant]);
  await database.query('update tenants set contact_id = (select id from users where tenant_id = $1 limit 1) where id = $1', [tenant]);
  await database.query(
    `insert into customers (tenant_id, name, owner_id, country_code, revenue) select $1, 'c' || n, (select id from users where tenant_id = $1 limit 1), 'NO', n / 7.0 from generate_series(1, $2::int) n`,
    [tenant, size],
  );
  await database.query(
    "insert into notes (customer_id, body, partywall_tenant_id) select id, E'x\\ty\\n' || name, tenant_id from customers where tenant_id = $1",
    [tenant],
  );
  await database.query("insert into files (tenant_id, name, size_bytes) values ($1, 'a', 10)", [tenant]);
  await database.query("insert into invoices (tenant_id, amount, currency) select $1, n, 'NOK' from generate_series(1, $2::int) n", [tenant, size]);
  await database.query('update invoices i set replaces = (select max(id) from invoices p where p.tenant_id = $1 and p.id < i.id) where tenant_id = $1', [
    tenant,
  ]);
  return tenant;
}

export const columns = { tenants: 'id', users: 'tenant_id', customers: 'tenant_id', notes: 'partywall_tenant_id', files: 'tenant_id', invoices: 'tenant_id' };

/** Count and hash of each table's rows of the tenant. */
export async function contents({ database }: ControlFixture, tenant: string, without: readonly string[] = []): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for (const [table, column] of Object.entries(columns)) {
    if (without.includes(table)) continue;
    const { rows } = await database.query(`select count(*)::int, md5(string_agg(t::text, '|' order by t::text)) from ${table} t where t.${column}::text = $1`, [
      tenant,
    ]);
    found[table] = rows[0];
  }
  return found;
}

/** The same of everybody else. */
export async function others({ database }: ControlFixture, tenants: readonly string[]): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for (const [table, column] of Object.entries(columns)) {
    const { rows } = await database.query(
      `select count(*)::int, md5(string_agg(t::text, '|' order by t::text)) from ${table} t where not t.${column}::text = any ($1)`,
      [tenants],
    );
    found[table] = rows[0];
  }
  return found;
}

export async function registered({ database }: ControlFixture, tenant: string): Promise<unknown> {
  const { rows } = await database.query('select state, placement, reason from partywall.registry where tenant_id::text = $1', [tenant]);
  return rows[0];
}
