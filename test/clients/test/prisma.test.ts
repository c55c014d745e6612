import { run, system, WallError, wallErrorOf } from '@partywall/wall';
import { wallPrisma } from '@partywall/wall/prisma';
import { PrismaPg } from '@prisma/adapter-pg';
import { afterAll, describe, expect, test } from 'vitest';
import { PrismaClient } from '../generated/client.ts';
import { prisma, prismaOver } from '../src/prisma.ts';
import { customerId, customerName, tenantId } from '../src/schema.ts';
import { conformance } from './conformance.ts';
import { clientsDatabase, failure } from './database.ts';
import { tapWire } from './wire.ts';

conformance(prisma);

describe('the helper', async () => {
  const wall = await clientsDatabase();
  const wire = await tapWire(wall.urls.app);
  const { pool } = await wall.walled(prisma, { connectionString: wire.through(wall.urls.app) });
  const bare = new PrismaClient({ adapter: new PrismaPg(pool) });
  const client = prismaOver(pool);
  afterAll(() => Promise.all([bare.$disconnect(), client.$disconnect()]));
  const tenants = Array.from({ length: 50 }, (_, at) => at + 1);
  const own = tenants.map((tenant) => customerName(tenant, 1));
  const eachReads = (read: (id: string) => PromiseLike<{ name: string } | null>) =>
    Promise.all(tenants.map((tenant) => run({ tenant: tenantId(tenant) }, async () => (await read(customerId(tenant, 1)))?.name ?? null)));

  test('is what gives fifty tenants of one tick their own rows: without it forty-nine get none', async () => {
    expect((await eachReads((id) => bare.customer.findUnique({ where: { id } }))).filter((name) => name !== null)).toEqual([customerName(1, 1)]);
    expect(await eachReads((id) => client.customer.findUnique({ where: { id } }))).toEqual(own);
  });

  test('keeps a transaction of many writes for who asked, which without it writes for the first of the tick', async () => {
    const invoicesOf = async (number: number): Promise<string[]> => {
      const { rows } = await wall.database.query<{ tenant: string }>('select partywall_tenant_id::text as tenant from invoices where number = $1', [number]);
      return rows.map((row) => row.tenant);
    };
    /** A's read and B's transaction in one tick. Lines say nothing of their tenant, so the default of the column decides. */
    const inOneTick = (one: PrismaClient, number: number) =>
      Promise.allSettled([
        run({ tenant: tenantId(1) }, () => one.customer.findUnique({ where: { id: customerId(1, 1) } })),
        run({ tenant: tenantId(2) }, () => one.$transaction([one.customer.count(), one.invoice.create({ data: { customerId: customerId(1, 1), number } })])),
      ]);
    await inOneTick(bare, 901);
    expect(await invoicesOf(901)).toEqual([tenantId(1)]);
    const [, refused] = await inOneTick(client, 902);
    expect(refused.status).toBe('rejected');
    expect(await invoicesOf(902)).toEqual([]);
  });

  test('covers extended clients and models, and is given twice without harm', async () => {
    expect(wallPrisma(client)).toBe(client);
    const extended = client.$extends({ query: { $allModels: { findUnique: ({ args, query }) => query(args) } } });
    expect(await eachReads((id) => extended.customer.findUnique({ where: { id } }))).toEqual(own);
    const covered = wallPrisma(new PrismaClient({ adapter: new PrismaPg(pool) }).$extends({ name: 'late' }));
    expect(await eachReads((id) => covered.customer.findUnique({ where: { id } }))).toEqual(own);
    await covered.$disconnect();
  });

  test('still merges what one context asks for in one tick', async () => {
    await run({ tenant: tenantId(3) }, () => client.customer.findUnique({ where: { id: customerId(3, 1) } }));
    const before = wire.statements.length;
    const names = await run({ tenant: tenantId(3) }, () =>
      Promise.all([1, 2, 3].map(async (n) => (await client.customer.findUnique({ where: { id: customerId(3, n) } }))?.name)),
    );
    expect(names).toEqual([1, 2, 3].map((n) => customerName(3, n)));
    expect(wire.statements.slice(before).filter((text) => text.includes('customers'))).toHaveLength(1);
  });

  test('merges what each of fifty contexts asks for in one tick, each for itself', async () => {
    const pairs = await Promise.all(
      tenants.map((tenant) =>
        run({ tenant: tenantId(tenant) }, () =>
          Promise.all([1, 2].map(async (n) => (await client.customer.findUnique({ where: { id: customerId(tenant, n) } }))?.name)),
        ),
      ),
    );
    expect(pairs).toEqual(tenants.map((tenant) => [customerName(tenant, 1), customerName(tenant, 2)]));
  });

  test('starts a promise in the context that made it, wherever it is awaited', async () => {
    const { count, raw } = await run({ tenant: tenantId(4) }, () => ({
      count: client.customer.count(),
      raw: client.$queryRaw<{ name: string }[]>`select name from customers order by name limit 1`,
    }));
    expect(await count).toBe(3);
    expect(await run({ tenant: tenantId(5) }, () => raw)).toEqual([{ name: customerName(4, 1) }]);
    expect(wallErrorOf(await failure(run({ tenant: tenantId(4) }, () => ({ lost: bare.customer.count() })).then(({ lost }) => lost)))).toMatchObject({
      code: 'tenant_context',
    });
  });

  test('hands the wall’s own error through Prisma’s', async () => {
    const refused = await failure(run({ tenant: tenantId(9_999) }, () => client.customer.findMany()));
    expect(refused).not.toBeInstanceOf(WallError);
    expect(wallErrorOf(refused)).toMatchObject({ name: 'UnknownTenantError', sqlstate: 'PW002', cause: { code: 'PW002' } });
    const told = await failure(run({ tenant: tenantId(9_999) }, () => bare.customer.findMany()));
    expect(wallErrorOf(told)).toMatchObject({ name: 'UnknownTenantError', status: 404 });
  });

  test('refuses a client that is not as it knows it', () => {
    for (const other of [{}, { _originalClient: {} }, { _originalClient: { _requestHandler: { dataloader: { options: {} } } } }]) {
      expect(() => wallPrisma(other)).toThrow(/wallPrisma: the client has no/);
    }
  });

  test('lets prismaBase report on all tenants by the system pool, which must name its purpose', async () => {
    const { client: base, pool: systemPool } = await wall.systemPool(prisma);
    const prismaBase = prismaOver(systemPool);
    const counted = await system('customers by tenant', () => prismaBase.customer.groupBy({ by: ['tenantId'], _count: true }));
    expect(counted.length).toBeGreaterThan(100);
    expect(wallErrorOf(await failure(prismaBase.customer.count()))).toMatchObject({ code: 'statement_refused' });
    await Promise.all([prismaBase.$disconnect(), base.end()]);
  });
});
