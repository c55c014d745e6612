import type pg from 'pg';
import QueryStream from 'pg-query-stream';
import type { Calls, Client, ClientUnderTest, Invoice } from './client.ts';

export const plainPg: ClientUnderTest = {
  name: 'pg',
  options: {},
  over: async (pool) => clientOver(pool),
  cannot: {},
  onConnect: [],
};

function clientOver(pool: pg.Pool): Client {
  return {
    ...callsOf(pool),
    transaction: (work) => transaction(pool, work),
    addCustomers: (customers) =>
      transaction(pool, async (calls) => {
        for (const customer of customers) await calls.addCustomer(customer);
      }),
    async *streamCustomers() {
      const client = await pool.connect();
      try {
        const rows: AsyncIterable<{ name: string }> = client.query(new QueryStream('select name from customers order by name', [], { batchSize: 2 }));
        for await (const { name } of rows) yield name;
      } finally {
        client.release();
      }
    },
    execute: (text) => pool.query(text),
    end: async () => undefined,
  };
}

//#region recipe
async function transaction<Result>(pool: pg.Pool, work: (calls: Calls) => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const result = await work(callsOf(client));
    await client.query('commit');
    return result;
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}
//#endregion

function callsOf(db: pg.Pool | pg.PoolClient): Calls {
  return {
    customers: async () => (await db.query<{ name: string }>('select name from customers order by name')).rows.map((row) => row.name),
    customer: async (id) => (await db.query<{ name: string }>('select name from customers where id = $1', [id])).rows[0]?.name ?? null,
    addCustomer: async ({ tenant, email, name }) => {
      const { rows } = await db.query<{ id: string }>('insert into customers (tenant_id, email, name) values ($1, $2, $3) returning id', [tenant, email, name]);
      return rows[0]?.id ?? '';
    },
    renameCustomer: async (id, name) => (await db.query('update customers set name = $2 where id = $1', [id, name])).rowCount ?? 0,
    removeCustomer: async (id) => (await db.query('delete from customers where id = $1', [id])).rowCount ?? 0,
    upsertCustomer: async ({ tenant, email, name }) => {
      await db.query('insert into customers (tenant_id, email, name) values ($1, $2, $3) on conflict (tenant_id, email) do update set name = excluded.name', [
        tenant,
        email,
        name,
      ]);
    },
    addInvoice: async (customer, number, lines) => {
      await db.query(
        `with invoice as (insert into invoices (customer_id, number) values ($1, $2) returning id)
         insert into lines (invoice_id, text, amount) select invoice.id, l.text, l.amount
         from invoice, jsonb_to_recordset($3) as l (text text, amount numeric)`,
        [customer, number, JSON.stringify(lines)],
      );
    },
    invoices: async () => {
      const { rows } = await db.query<Invoice>(
        `select i.number, c.name as customer, coalesce((select array_agg(l.text order by l.id) from lines l where l.invoice_id = i.id), '{}') as lines
         from invoices i join customers c on c.id = i.customer_id order by i.number`,
      );
      return rows;
    },
    raw: async (name) => (await db.query<{ id: string }>('select id from customers where name = $1', [name])).rows,
    countries: async () => (await db.query<{ name: string }>('select name from countries order by name')).rows.map((row) => row.name),
    transaction: async (work) => {
      await db.query('savepoint work');
      try {
        const result = await work(callsOf(db));
        await db.query('release work');
        return result;
      } catch (error) {
        await db.query('rollback to work');
        throw error;
      }
    },
  };
}
