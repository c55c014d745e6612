import { applyWall, checkModel, connect, describeDifference, readCatalog, verify } from '@partywall/engine';
import { pushSchema } from 'drizzle-kit/api';
import { drizzle } from 'drizzle-orm/node-postgres';
import knexOf from 'knex';
import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { afterAll, describe, expect, test } from 'vitest';
import * as drizzleSchema from '../src/drizzle-schema.ts';
import { entities } from '../src/typeorm.ts';
import { type ClientsDatabase, clientsDatabase, failure } from './database.ts';

/**
 * drizzle-kit reads the columns of a unique constraint without an order, and where the plan turns them round it asks whether it may empty the
 * table to make the constraint again. This plan keeps the order.
 */
const steadyOrder = '-c enable_nestloop=off';

/**
 * What each client's own way of changing a schema does to a walled database, run as the owner of its tables; and that verify names it, and
 * apply takes it back.
 */
describe('a migration over a walled database', async () => {
  const wall = await clientsDatabase();
  const pool = new pg.Pool({ connectionString: wall.urls.migrator, max: 2, options: steadyOrder });
  pool.on('error', () => undefined); // the database is dropped with force
  afterAll(() => pool.end());

  /**
   * What is written or generated for `invoices.customer_id → customers.id`. Prisma needs a binary of its own to generate; this is its
   * SQL for the relation in `prisma/schema.prisma`.
   */
  const plainKeys: Record<string, () => Promise<unknown>> = {
    Prisma: () =>
      pool.query(
        'alter table "invoices" add constraint "invoices_customer_fkey" foreign key ("customer_id") references "customers"("id") on delete cascade on update cascade',
      ),
    Drizzle: async () => {
      const { statementsToExecute } = await plannedPush(pool);
      for (const statement of statementsToExecute.filter((text) => /"invoices" ADD CONSTRAINT/.test(text))) await pool.query(statement);
    },
    Kysely: () =>
      new Kysely({ dialect: new PostgresDialect({ pool }) }).schema
        .alterTable('invoices')
        .addForeignKeyConstraint('invoices_customer', ['customer_id'], 'customers', ['id'])
        .execute(),
    Knex: () =>
      knexOf({ client: 'pg', connectionPool: pool }).schema.alterTable('invoices', (table) => {
        table.foreign('customer_id', 'invoices_customer_key').references('customers.id');
      }),
    TypeORM: async () => {
      const source = await new DataSource({ type: 'postgres', url: wall.urls.migrator, entities, installExtensions: false }).initialize();
      const { upQueries } = await source.driver.createSchemaBuilder().log();
      for (const { query } of upQueries.filter((one) => /"invoices" ADD CONSTRAINT/.test(one.query))) await source.query(query);
      await source.destroy();
    },
  };

  for (const [name, migrate] of Object.entries(plainKeys)) {
    test(`${name}: a foreign key without the tenant is named by verify and replaced by apply`, async () => {
      expect(await findings(wall)).toEqual([]);
      await migrate();
      const found = await findings(wall);
      expect(found).toEqual([expect.stringMatching(/^key\.plain .+ on public\.invoices$/)]);
      await applyAgain(wall);
      expect(await findings(wall)).toEqual([]);
    });
  }

  test('a table that a migration adds is one that the model does not know', async () => {
    await knexOf({ client: 'pg', connectionPool: pool }).schema.createTable('payments', (table) => {
      table.uuid('id').primary();
      table.uuid('invoice_id').references('invoices.id');
    });
    const client = await connect(wall.urls.migrator, { purpose: 'test' });
    const differences = checkModel(wall.model, await readCatalog(client));
    await client.end();
    expect(differences.map((one) => `${one.severity} ${one.kind} ${one.table}`)).toEqual(['error unknown public.payments']);
    expect(describeDifference(differences[0] ?? expect.fail('no difference'))).toContain('public.payments');
    await wall.database.query('drop table payments');
  });
});

describe('a push that compares with the database', () => {
  test('of drizzle-kit switches row level security off before it fails at a column, and verify names each table', async () => {
    const wall = await clientsDatabase();
    const pool = new pg.Pool({ connectionString: wall.urls.migrator, max: 1, options: steadyOrder });
    pool.on('error', () => undefined);
    const push = await plannedPush(pool);
    expect(push.statementsToExecute.filter((text) => /^DROP POLICY/.test(text))).toHaveLength(4);
    expect(await failure(push.apply())).toMatchObject({ cause: { message: expect.stringContaining('other objects depend on it') } });
    await pool.end();
    expect(await findings(wall)).toEqual(
      expect.arrayContaining([
        ...['customers', 'invoices', 'lines', 'tenants'].map((table) => `rls.off-with-policies public.${table}`),
        'key.plain invoices_customer_id_customers_id_fk on public.invoices',
        'key.plain lines_invoice_id_invoices_id_fk on public.lines',
      ]),
    );
    await applyAgain(wall);
    expect(await findings(wall)).toEqual([]);
  });

  test('of TypeORM fails whole at a column of the wall, and leaves it up', async () => {
    const wall = await clientsDatabase();
    const source = await new DataSource({ type: 'postgres', url: wall.urls.migrator, entities, installExtensions: false }).initialize();
    expect(await failure(source.synchronize())).toMatchObject({ message: expect.stringContaining('other objects depend on it') });
    await source.destroy();
    expect(await findings(wall)).toEqual([]);
  });

  test('of TypeORM, with what failed taken out, leaves plain keys and keys without an index, by name', async () => {
    const wall = await clientsDatabase();
    const source = await new DataSource({ type: 'postgres', url: wall.urls.migrator, entities, installExtensions: false }).initialize();
    const { upQueries } = await source.driver.createSchemaBuilder().log();
    for (const { query } of upQueries.filter((one) => !one.query.includes('DROP COLUMN'))) await source.query(query);
    await source.destroy();
    const rules = (await findings(wall)).map((line) => line.split(' ')[0]);
    expect(new Set(rules)).toEqual(new Set(['key.plain', 'key.no-root', 'tenant.no-index']));
    await applyAgain(wall);
    expect(await findings(wall)).toEqual([]);
  });
});

/** What `drizzle-kit push` would do, and the push itself. */
function plannedPush(pool: pg.Pool): ReturnType<typeof pushSchema> {
  // It types the database as one with any schema, and reads only the connection from it.
  return pushSchema({ ...drizzleSchema }, drizzle({ client: pool }) as Parameters<typeof pushSchema>[1], ['public']);
}

async function findings(wall: ClientsDatabase): Promise<string[]> {
  const report = await verify({ model: wall.model, adminUrl: wall.urls.migrator, staticOnly: true });
  return report.findings.map((one) => `${one.rule} ${one.target}`);
}

async function applyAgain(wall: ClientsDatabase): Promise<void> {
  for (const phase of ['expand', 'contract'] as const) await applyWall({ url: wall.urls.migrator, model: wall.model, phase, skipGate: true });
}
