import type { WalledPoolConfig } from '@partywall/wall';
import { asc, eq, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import type pg from 'pg';
import type { Calls, ClientUnderTest } from './client.ts';
import * as schema from './drizzle-schema.ts';

//#region recipe
/** Drizzle sends BEGIN outside the `try` that hands the connection back: one that is refused must be refused before it is taken. */
export const drizzleOptions = { connectInContext: true } satisfies WalledPoolConfig;

export function drizzleOver(pool: pg.Pool) {
  return drizzle({ client: pool, schema });
}
//#endregion

type Database = ReturnType<typeof drizzleOver>;
type Transaction = Parameters<Parameters<Database['transaction']>[0]>[0];

export const drizzleOrm: ClientUnderTest = {
  name: 'Drizzle',
  options: drizzleOptions,
  over: async (pool) => {
    const db = drizzleOver(pool);
    return {
      ...callsOf(db),
      addCustomers: async (customers) => {
        await db.insert(schema.customers).values(customers.map(({ tenant, ...customer }) => ({ tenantId: tenant, ...customer })));
      },
      execute: (text) => db.execute(text),
      end: async () => undefined,
    };
  },
  cannot: {
    stream: { reason: 'Drizzle streams under MySQL only: use pg-query-stream on the pool beside it', proof: async (client) => client.streamCustomers },
  },
  onConnect: [],
};

function callsOf(db: Database | Transaction): Calls {
  const { customers, invoices, lines, countries } = schema;
  return {
    customers: async () => (await db.select({ name: customers.name }).from(customers).orderBy(asc(customers.name))).map((row) => row.name),
    customer: async (id) => (await db.select().from(customers).where(eq(customers.id, id)))[0]?.name ?? null,
    addCustomer: async ({ tenant, ...customer }) => {
      const [row] = await db
        .insert(customers)
        .values({ tenantId: tenant, ...customer })
        .returning({ id: customers.id });
      return row?.id ?? '';
    },
    renameCustomer: async (id, name) => (await db.update(customers).set({ name }).where(eq(customers.id, id))).rowCount ?? 0,
    removeCustomer: async (id) => (await db.delete(customers).where(eq(customers.id, id))).rowCount ?? 0,
    upsertCustomer: async ({ tenant, email, name }) => {
      await db
        .insert(customers)
        .values({ tenantId: tenant, email, name })
        .onConflictDoUpdate({ target: [customers.tenantId, customers.email], set: { name } });
    },
    addInvoice: (customer, number, newLines) =>
      db.transaction(async (tx) => {
        const [invoice] = await tx.insert(invoices).values({ customerId: customer, number }).returning({ id: invoices.id });
        const invoiceId = invoice?.id ?? '';
        await tx.insert(lines).values(newLines.map(({ text, amount }) => ({ invoiceId, text, amount: String(amount) })));
      }),
    invoices: async () => {
      const found = await db.query.invoices.findMany({ orderBy: asc(invoices.number), with: { customer: true, lines: { orderBy: asc(lines.id) } } });
      return found.map((invoice) => ({ number: invoice.number, customer: invoice.customer.name, lines: invoice.lines.map((line) => line.text) }));
    },
    raw: async (name) => (await db.execute<{ id: string }>(sql`select id from customers where name = ${name}`)).rows,
    countries: async () => (await db.select().from(countries).orderBy(asc(countries.name))).map((row) => row.name),
    transaction: (work) => db.transaction((tx) => work(callsOf(tx))),
  };
}
