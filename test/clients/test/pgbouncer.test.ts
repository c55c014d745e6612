import { run, TenantContextError, wallErrorOf } from '@partywall/wall';
import { afterAll, describe, expect, test } from 'vitest';
import { hasBouncer, serverConnections, startBouncer } from '../../support/pgbouncer.ts';
import { drizzleOrm } from '../src/drizzle.ts';
import { knex } from '../src/knex.ts';
import { kysely } from '../src/kysely.ts';
import { plainPg } from '../src/pg.ts';
import { prisma } from '../src/prisma.ts';
import { customerId, customerName, tenantId } from '../src/schema.ts';
import { typeorm } from '../src/typeorm.ts';
import { clientsDatabase, customersPerTenant, failure } from './database.ts';

const tenants = Array.from({ length: 50 }, (_, at) => at + 1);

describe.skipIf(!hasBouncer && process.env['PARTYWALL_NO_SKIPS'] !== '1')('behind PgBouncer in transaction mode', async () => {
  const wall = await clientsDatabase({ sealed: true });
  const app = decodeURIComponent(new URL(wall.urls.app).username);
  const bouncer = await startBouncer(wall.database.url, app);
  afterAll(() => bouncer.stop());

  for (const under of [plainPg, prisma, drizzleOrm, kysely, knex, typeorm]) {
    test(`${under.name}: fifty tenants over two server connections see and change their own rows alone`, async () => {
      const { client } = await wall.walled(under, { connectionString: bouncer.urlAs(app), max: 10, preparedStatements: false });
      await Promise.all(
        tenants.map((tenant) =>
          run({ tenant: tenantId(tenant) }, async () => {
            const names = Array.from({ length: customersPerTenant }, (_, at) => customerName(tenant, at + 1));
            expect(await client.customers()).toEqual(names);
            expect(await client.customer(customerId(tenant, 1))).toBe(names[0]);
            const inside = await client.transaction(async (tx) => {
              await tx.renameCustomer(customerId(tenant, 1), 'a');
              await failure(
                tx.transaction(async (nested) => {
                  await nested.removeCustomer(customerId(tenant, 2));
                  throw new Error('undo');
                }),
              );
              await tx.renameCustomer(customerId(tenant, 1), names[0] ?? '');
              return tx.customers();
            });
            expect(inside).toEqual(names);
          }),
        ),
      );
      expect(wallErrorOf(await failure(client.customers()))).toBeInstanceOf(TenantContextError);
      const { rows } = await wall.database.query<{ n: number }>('select count(*)::int as n from pg_stat_activity where usename = $1', [app]);
      expect(rows[0]?.n).toBeLessThanOrEqual(serverConnections);
    });
  }
});
