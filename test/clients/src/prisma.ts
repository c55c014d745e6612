import { wallPrisma } from '@partywall/wall/prisma';
import { PrismaPg } from '@prisma/adapter-pg';
import type pg from 'pg';
import { type Prisma, PrismaClient } from '../generated/client.ts';
import type { Calls, ClientUnderTest } from './client.ts';

//#region recipe
export function prismaOver(pool: pg.Pool): PrismaClient {
  return wallPrisma(new PrismaClient({ adapter: new PrismaPg(pool) }));
}
//#endregion

export const prisma: ClientUnderTest = {
  name: 'Prisma',
  options: {},
  over: async (pool) => {
    const client = prismaOver(pool);
    return {
      ...callsOf(client),
      addCustomers: async (customers) => {
        await client.$transaction(customers.map(({ tenant, ...customer }) => client.customer.create({ data: { tenantId: tenant, ...customer } })));
      },
      execute: (text) => client.$executeRawUnsafe(text),
      end: () => client.$disconnect(),
    };
  },
  cannot: {
    stream: { reason: 'Prisma has no streaming: read in pages by cursor', proof: async (client) => client.streamCustomers },
  },
  onConnect: [],
};

function callsOf(db: Prisma.TransactionClient): Calls {
  return {
    customers: async () => (await db.customer.findMany({ orderBy: { name: 'asc' } })).map((row) => row.name),
    customer: async (id) => (await db.customer.findUnique({ where: { id } }))?.name ?? null,
    addCustomer: async ({ tenant, ...customer }) => (await db.customer.create({ data: { tenantId: tenant, ...customer } })).id,
    renameCustomer: async (id, name) => (await db.customer.updateMany({ where: { id }, data: { name } })).count,
    removeCustomer: async (id) => (await db.customer.deleteMany({ where: { id } })).count,
    upsertCustomer: async ({ tenant, email, name }) => {
      await db.customer.upsert({ where: { tenantId_email: { tenantId: tenant, email } }, create: { tenantId: tenant, email, name }, update: { name } });
    },
    addInvoice: async (customer, number, lines) => {
      await db.invoice.create({ data: { customer: { connect: { id: customer } }, number, lines: { create: [...lines] } } });
    },
    invoices: async () => {
      const found = await db.invoice.findMany({ orderBy: { number: 'asc' }, include: { customer: true, lines: { orderBy: { id: 'asc' } } } });
      return found.map(({ number, customer, lines }) => ({ number, customer: customer.name, lines: lines.map((line) => line.text) }));
    },
    raw: (name) => db.$queryRaw<{ id: string }[]>`select id from customers where name = ${name}`,
    transaction: (work) => db.$transaction((tx) => work(callsOf(tx))),
    countries: async () => (await db.country.findMany({ orderBy: { name: 'asc' } })).map((row) => row.name),
  };
}
