import type { WalledPoolConfig } from '@partywall/wall';
import pg from 'pg';
import { DataSource, type EntityManager, EntitySchema } from 'typeorm';
import type { Calls, ClientUnderTest } from './client.ts';

interface CustomerRow {
  id: string;
  tenantId: string;
  email: string;
  name: string;
}
interface InvoiceRow {
  id: string;
  number: number;
  customer: CustomerRow;
  lines: LineRow[];
}
interface LineRow {
  id: number;
  text: string;
  amount: number;
  invoice: InvoiceRow;
}

const Customer = new EntitySchema<CustomerRow>({
  name: 'Customer',
  tableName: 'customers',
  columns: {
    id: { type: 'uuid', primary: true, generated: 'uuid' },
    tenantId: { type: 'uuid', name: 'tenant_id' },
    email: { type: 'text' },
    name: { type: 'text' },
  },
  uniques: [{ name: 'customers_tenant_id_email_key', columns: ['tenantId', 'email'] }],
});
const Invoice = new EntitySchema<InvoiceRow>({
  name: 'Invoice',
  tableName: 'invoices',
  columns: { id: { type: 'uuid', primary: true, generated: 'uuid' }, number: { type: 'int' } },
  relations: {
    customer: { type: 'many-to-one', target: 'Customer', joinColumn: { name: 'customer_id' }, nullable: false, onDelete: 'CASCADE' },
    lines: { type: 'one-to-many', target: 'Line', inverseSide: 'invoice', cascade: ['insert'] },
  },
});
const Line = new EntitySchema<LineRow>({
  name: 'Line',
  tableName: 'lines',
  columns: {
    id: { type: 'int', primary: true, generated: 'increment' },
    text: { type: 'text' },
    amount: { type: 'numeric', precision: 12, scale: 2 },
  },
  relations: { invoice: { type: 'many-to-one', target: 'Invoice', joinColumn: { name: 'invoice_id' }, nullable: false, onDelete: 'CASCADE' } },
});
const Country = new EntitySchema<{ code: string; name: string }>({
  name: 'Country',
  tableName: 'countries',
  columns: { code: { type: 'text', primary: true }, name: { type: 'text' } },
});
export const entities = [Customer, Invoice, Line, Country];

//#region recipe
/** TypeORM asks where it is before anything else. */
export const typeormOptions = {
  allow: ['SELECT version()', 'SELECT * FROM current_database()', 'SELECT * FROM current_schema()'],
} satisfies WalledPoolConfig;

export function typeormOver(pool: pg.Pool): Promise<DataSource> {
  // TypeORM makes its pool by itself, from the driver that it is given.
  const driver = {
    ...pg,
    Pool: function walled() {
      return pool;
    },
  };
  return new DataSource({ type: 'postgres', driver, entities, installExtensions: false }).initialize();
}
//#endregion

export const typeorm: ClientUnderTest = {
  name: 'TypeORM',
  options: typeormOptions,
  over: async (pool) => {
    const source = await typeormOver(pool);
    return {
      ...callsOf(source.manager),
      addCustomers: async (customers) => {
        await source.manager.save(
          Customer,
          customers.map(({ tenant, ...customer }) => ({ tenantId: tenant, ...customer })),
        );
      },
      async *streamCustomers() {
        const runner = source.createQueryRunner();
        try {
          const rows: AsyncIterable<{ name: string }> = await source
            .createQueryBuilder(Customer, 'c', runner)
            .select('c.name', 'name')
            .orderBy('c.name')
            .stream();
          for await (const { name } of rows) yield name;
        } finally {
          await runner.release();
        }
      },
      execute: (text) => source.query(text),
      end: () => source.destroy(),
    };
  },
  cannot: {},
  onConnect: typeormOptions.allow,
};

function callsOf(db: EntityManager): Calls {
  return {
    customers: async () => (await db.find(Customer, { order: { name: 'asc' } })).map((row) => row.name),
    customer: async (id) => (await db.findOneBy(Customer, { id }))?.name ?? null,
    addCustomer: async ({ tenant, ...customer }) => (await db.save(Customer, { tenantId: tenant, ...customer })).id,
    renameCustomer: async (id, name) => (await db.update(Customer, { id }, { name })).affected ?? 0,
    removeCustomer: async (id) => (await db.delete(Customer, { id })).affected ?? 0,
    upsertCustomer: async ({ tenant, email, name }) => {
      await db.upsert(Customer, { tenantId: tenant, email, name }, ['tenantId', 'email']);
    },
    addInvoice: async (customer, number, lines) => {
      await db.save(Invoice, { customer: { id: customer }, number, lines: [...lines] });
    },
    invoices: async () => {
      const found = await db.find(Invoice, { order: { number: 'asc', lines: { id: 'asc' } }, relations: { customer: true, lines: true } });
      return found.map(({ number, customer, lines }) => ({ number, customer: customer.name, lines: lines.map((line) => line.text) }));
    },
    raw: (name) => db.query<{ id: string }[]>('select id from customers where name = $1', [name]),
    countries: async () => (await db.find(Country, { order: { name: 'asc' } })).map((row) => row.name),
    transaction: (work) => db.transaction((tx) => work(callsOf(tx))),
  };
}
