import pg from 'pg';
import { afterAll } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../test/support/database.ts';
import { runtimeGrants, runtimeLock, runtimeSql } from '../../engine/src/wall/runtime.ts';
import { createWalledPool, type WalledPoolConfig } from '../src/index.ts';

/** A database with one walled table, and the role that the wall binds. */
export interface WalledDatabase {
  readonly database: TestDatabase;
  /** Name of the application's role. */
  readonly app: string;
  /** A pool of the application's role, ended after the test file. */
  pool(config?: WalledPoolConfig): pg.Pool;
  /** A plain client of the application's role, ended after the test file. */
  client(): Promise<pg.Client>;
  /** Changes a tenant's state as an operator does. */
  setState(tenant: string, state: string): Promise<void>;
}

export const tenantCount = 60;
export const itemsPerTenant = 30;

/** Ids of the registered tenants are 1 to `tenantCount`. */
export function tenant(n: number): string {
  return `00000000-0000-0000-0000-${String(n).padStart(12, '0')}`;
}

/** Tenant `n` owns the items whose number ends in its own: `n`, `n + tenantCount`, ... */
export function itemOf(n: number, index = 0): number {
  return n + index * tenantCount;
}

/**
 * The wall as `apply` leaves it, written down by hand: this package knows nothing of the planner, and a test of it should not fail
 * because of the planner.
 */
export async function walledDatabase(): Promise<WalledDatabase> {
  const database = await createDatabase();
  const app = `wall_app_${suffix()}`;
  await database.query(`create role ${app} login`);
  await database.query('begin');
  await database.query(runtimeLock);
  for (const statement of [...runtimeSql({ keyType: 'uuid', isProtected: true }), ...runtimeGrants(app)]) await database.query(statement);
  await database.query('commit');
  await database.query(`insert into partywall.registry (tenant_id)
    select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid from generate_series(1, ${tenantCount}) n`);
  await database.query(`create table items (
    id int not null, tenant_id uuid not null default partywall.tenant_id(), body text not null, payload jsonb, raw bytea,
    primary key (tenant_id, id));
    create unique index items_body on items (tenant_id, body);
    alter table items enable row level security; alter table items force row level security;
    create policy pw_tenant on items using (tenant_id = partywall.tenant_id()) with check (tenant_id = partywall.tenant_id());
    create table countries (code text primary key); insert into countries values ('de'), ('fr');
    grant select, insert, update, delete on items to ${app}; grant select on countries to ${app}`);
  await database.query(`insert into items (id, tenant_id, body)
    select n, ('00000000-0000-0000-0000-' || lpad(((n - 1) % ${tenantCount} + 1)::text, 12, '0'))::uuid, 'item ' || n
    from generate_series(1, ${tenantCount * itemsPerTenant}) n`);
  await database.query('analyze items');
  await database.query(`insert into partywall.facts (name, value) values
    ('phase', '"contract"'), ('walled_tables', '[{"schema": "public", "name": "items"}]')`);

  const open: { end(): Promise<void> }[] = [];
  afterAll(async () => {
    await Promise.all(open.map((one) => one.end()));
    await database.query(`drop owned by ${app}; drop role ${app}`);
  });
  return {
    database,
    app,
    pool: (config) => {
      const pool = createWalledPool({ connectionString: database.urlAs(app), max: 2, ...config });
      pool.on('error', () => undefined); // a test that ends a session from the server's side leaves an idle connection broken
      open.push(pool);
      return pool;
    },
    client: async () => {
      const client = new pg.Client(database.urlAs(app));
      client.on('error', () => undefined); // see above
      await client.connect();
      open.push(client);
      return client;
    },
    setState: async (id, state) => {
      await database.query('select partywall.set_state($1, $2)', [id, state]);
    },
  };
}

/** The error that a promise rejects with. */
export async function failure(promise: PromiseLike<unknown>): Promise<Error & { code?: string; sqlstate?: string | null; hint?: string }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
    throw new Error(`rejected with ${String(error)}`);
  }
  throw new Error('expected a rejection');
}

/** Ids of a result, to compare whole sets: a test must show that only these rows came, not that these came too. */
export function ids(result: { rows: { id: number }[] }): number[] {
  return result.rows.map((row) => row.id).sort((a, b) => a - b);
}

export function allItemsOf(n: number): number[] {
  return Array.from({ length: itemsPerTenant }, (_, index) => itemOf(n, index));
}
