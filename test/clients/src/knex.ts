import { knexPool } from '@partywall/wall/knex';
import knexOf, { type Knex } from 'knex';
import type pg from 'pg';
import type { Calls, ClientUnderTest } from './client.ts';

//#region recipe
export function knexOver(pool: pg.Pool): Knex {
  return knexOf({ client: 'pg', connectionPool: knexPool(pool) });
}
//#endregion

export const knex: ClientUnderTest = {
  name: 'Knex',
  options: {},
  over: async (pool) => {
    const db = knexOver(pool);
    return {
      ...callsOf(db),
      addCustomers: async (customers) => {
        await db.batchInsert(
          'customers',
          customers.map(({ tenant, ...customer }) => ({ tenant_id: tenant, ...customer })),
          2,
        );
      },
      async *streamCustomers() {
        const rows: AsyncIterable<{ name: string }> = db('customers').select('name').orderBy('name').stream({ batchSize: 2 });
        for await (const { name } of rows) yield name;
      },
      execute: (text) => db.raw(text),
      end: () => db.destroy(),
    };
  },
  cannot: {},
  onConnect: [],
};

function callsOf(db: Knex): Calls {
  return {
    customers: () => db('customers').orderBy('name').pluck('name'),
    customer: async (id) => (await db<{ id: string; name: string }>('customers').where({ id }).first())?.name ?? null,
    addCustomer: async ({ tenant, ...customer }) => {
      const [row] = await db('customers')
        .insert({ tenant_id: tenant, ...customer })
        .returning<{ id: string }[]>('id');
      return row?.id ?? '';
    },
    renameCustomer: (id, name) => db('customers').where({ id }).update({ name }),
    removeCustomer: (id) => db('customers').where({ id }).delete(),
    upsertCustomer: async ({ tenant, email, name }) => {
      await db('customers').insert({ tenant_id: tenant, email, name }).onConflict(['tenant_id', 'email']).merge(['name']);
    },
    addInvoice: (customer, number, lines) =>
      db.transaction(async (tx) => {
        const [invoice] = await tx('invoices').insert({ customer_id: customer, number }).returning<{ id: string }[]>('id');
        await tx('lines').insert(lines.map((line) => ({ invoice_id: invoice?.id, ...line })));
      }),
    invoices: async () => {
      const found: { id: string; number: number; customer: string }[] = await db('invoices as i')
        .join('customers as c', 'c.id', 'i.customer_id')
        .select('i.id', 'i.number', 'c.name as customer')
        .orderBy('i.number');
      const lines: { invoice_id: string; text: string }[] = await db('lines')
        .whereIn(
          'invoice_id',
          found.map((invoice) => invoice.id),
        )
        .orderBy('id');
      return found.map(({ id, ...invoice }) => ({ ...invoice, lines: lines.filter((line) => line.invoice_id === id).map((line) => line.text) }));
    },
    raw: async (name) => {
      const { rows }: pg.QueryResult<{ id: string }> = await db.raw('select id from customers where name = ?', [name]);
      return rows;
    },
    countries: () => db('countries').orderBy('name').pluck('name'),
    transaction: (work) => db.transaction((tx) => work(callsOf(tx))),
  };
}
