import { type Generated, Kysely, PostgresDialect, sql } from 'kysely';
import { jsonArrayFrom } from 'kysely/helpers/postgres';
import type pg from 'pg';
import Cursor from 'pg-cursor';
import type { Calls, ClientUnderTest } from './client.ts';

interface Tables {
  customers: { id: Generated<string>; tenant_id: string; email: string; name: string };
  invoices: { id: Generated<string>; customer_id: string; number: number };
  lines: { id: Generated<number>; invoice_id: string; text: string; amount: number };
  countries: { code: string; name: string };
}

//#region recipe
export function kyselyOver(pool: pg.Pool): Kysely<Tables> {
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool, cursor: Cursor }) });
}
//#endregion

export const kysely: ClientUnderTest = {
  name: 'Kysely',
  options: {},
  over: async (pool) => {
    const db = kyselyOver(pool);
    return {
      ...callsOf(db),
      transaction: (work) => db.transaction().execute((tx) => work({ ...callsOf(tx), transaction: (inner) => savepoint(tx, inner) })),
      addCustomers: async (customers) => {
        await db
          .insertInto('customers')
          .values(customers.map(({ tenant, ...customer }) => ({ tenant_id: tenant, ...customer })))
          .execute();
      },
      async *streamCustomers() {
        for await (const { name } of db.selectFrom('customers').select('name').orderBy('name').stream(2)) yield name;
      },
      execute: (text) => sql.raw(text).execute(db),
      end: async () => undefined,
    };
  },
  cannot: {},
  onConnect: [],
};

async function savepoint<Result>(tx: Kysely<Tables>, work: (calls: Calls) => Promise<Result>): Promise<Result> {
  await sql`savepoint work`.execute(tx);
  try {
    const result = await work({ ...callsOf(tx), transaction: (inner) => savepoint(tx, inner) });
    await sql`release savepoint work`.execute(tx);
    return result;
  } catch (error) {
    await sql`rollback to savepoint work`.execute(tx);
    throw error;
  }
}

function callsOf(db: Kysely<Tables>): Omit<Calls, 'transaction'> {
  return {
    customers: async () => (await db.selectFrom('customers').select('name').orderBy('name').execute()).map((row) => row.name),
    customer: async (id) => (await db.selectFrom('customers').selectAll().where('id', '=', id).executeTakeFirst())?.name ?? null,
    addCustomer: async ({ tenant, ...customer }) => {
      const row = await db
        .insertInto('customers')
        .values({ tenant_id: tenant, ...customer })
        .returning('id')
        .executeTakeFirstOrThrow();
      return row.id;
    },
    renameCustomer: async (id, name) => Number((await db.updateTable('customers').set({ name }).where('id', '=', id).executeTakeFirst()).numUpdatedRows),
    removeCustomer: async (id) => Number((await db.deleteFrom('customers').where('id', '=', id).executeTakeFirst()).numDeletedRows),
    upsertCustomer: async ({ tenant, email, name }) => {
      await db
        .insertInto('customers')
        .values({ tenant_id: tenant, email, name })
        .onConflict((conflict) => conflict.columns(['tenant_id', 'email']).doUpdateSet({ name }))
        .execute();
    },
    addInvoice: async (customer, number, lines) => {
      await db
        .with('invoice', (cte) => cte.insertInto('invoices').values({ customer_id: customer, number }).returning('id'))
        .insertInto('lines')
        .values(lines.map((line) => ({ invoice_id: sql<string>`(select id from invoice)`, ...line })))
        .execute();
    },
    invoices: async () => {
      const found = await db
        .selectFrom('invoices')
        .innerJoin('customers', 'customers.id', 'invoices.customer_id')
        .select((row) => [
          'invoices.number',
          'customers.name as customer',
          jsonArrayFrom(row.selectFrom('lines').select('lines.text').whereRef('lines.invoice_id', '=', 'invoices.id').orderBy('lines.id')).as('lines'),
        ])
        .orderBy('invoices.number')
        .execute();
      return found.map(({ lines, ...invoice }) => ({ ...invoice, lines: lines.map((line) => line.text) }));
    },
    raw: async (name) => (await sql<{ id: string }>`select id from customers where name = ${name}`.execute(db)).rows,
    countries: async () => (await db.selectFrom('countries').select('name').orderBy('name').execute()).map((row) => row.name),
  };
}
