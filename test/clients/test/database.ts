import { applyWall, changeSeal, connect, type TenancyModel } from '@partywall/engine';
import { createSystemPool, createWalledPool, type WalledPoolConfig } from '@partywall/wall';
import type pg from 'pg';
import { afterAll } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../support/database.ts';
import type { Client, ClientUnderTest } from '../src/client.ts';
import { clientsModel, schemaSql, seedSql } from '../src/schema.ts';

export const tenantCount = 120;
export const customersPerTenant = 3;

/** The schema of the clients behind a wall that is up, with its tenants. */
export interface ClientsDatabase {
  readonly database: TestDatabase;
  readonly model: ReturnType<typeof clientsModel>;
  readonly urls: { readonly app: string; readonly system: string; readonly migrator: string };
  /** The client over a walled pool of the application's role; both are ended after the test file. */
  walled(client: ClientUnderTest, config?: WalledPoolConfig): Promise<{ readonly client: Client; readonly pool: pg.Pool }>;
  /** The client over the system pool. */
  systemPool(client: ClientUnderTest): Promise<{ readonly client: Client; readonly pool: pg.Pool }>;
}

export async function clientsDatabase({ sealed = false }: { readonly sealed?: boolean } = {}): Promise<ClientsDatabase> {
  const database = await createDatabase();
  await database.query(schemaSql);
  const id = suffix();
  const { rows } = await database.query<{ owner: string }>('select current_user as owner');
  const roles = { owner: rows[0]?.owner ?? '', app: `app_${id}`, system: `system_${id}`, service: `service_${id}` };
  const model = clientsModel(roles);
  await database.query(seedSql({ tenants: tenantCount, customers: customersPerTenant }));
  for (const phase of ['expand', 'contract'] as const) await applyWall({ url: database.url, model, phase, skipGate: true });
  const seal = sealed ? { seal: await sealDatabase(database.url, model) } : {};

  const open: { client: Client; pool: pg.Pool }[] = [];
  afterAll(async () => {
    for (const { client, pool } of open) {
      await client.end();
      if (!pool.ending) await pool.end();
    }
    for (const role of [roles.app, roles.system, roles.service]) await database.query(`drop owned by ${role}; drop role ${role}`);
  });
  const opened = async (client: ClientUnderTest, pool: pg.Pool) => {
    pool.on('error', () => undefined); // the database is dropped with force
    const one = { client: await client.over(pool), pool };
    open.push(one);
    return one;
  };
  return {
    database,
    model,
    urls: { app: database.urlAs(roles.app), system: database.urlAs(roles.system), migrator: database.url },
    walled: (client, config) =>
      opened(client, createWalledPool({ connectionString: database.urlAs(roles.app), max: 4, nameStatements: true, ...seal, ...client.options, ...config })),
    systemPool: (client) => opened(client, createSystemPool({ connectionString: database.urlAs(roles.system), max: 2 })),
  };
}

/** From now on a tenant is entered by the application's key alone, which this returns. */
async function sealDatabase(url: string, model: TenancyModel): Promise<string> {
  const client = await connect(url, { purpose: 'test' });
  let key = '';
  const actor = { kind: 'operator', id: 'test' } as const;
  const onKey = async (text: string): Promise<void> => {
    key = text;
  };
  await changeSeal(client, model, { kind: 'rotate' }, { actor, onKey });
  await changeSeal(client, model, { kind: 'on' }, { actor });
  await client.end();
  return key;
}

/** What a promise rejects with. */
export async function failure(promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('expected a rejection');
}
