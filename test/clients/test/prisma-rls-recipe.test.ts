import { run } from '@partywall/wall';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { createDatabase, suffix } from '../../support/database.ts';
import { prisma, prismaOver } from '../src/prisma.ts';
import { rlsRecipeOver, rlsRecipeSql } from '../src/prisma-rls-recipe.ts';
import { customerId, customerName, schemaSql, seedSql, tenantId } from '../src/schema.ts';
import { clientsDatabase, failure } from './database.ts';

const recipe = await createDatabase();
const role = `recipe_${suffix()}`;
await recipe.query(`${schemaSql}; ${seedSql({ tenants: 4, customers: 3 })}; ${rlsRecipeSql(role)}`);
const pool = new pg.Pool({ connectionString: recipe.urlAs(role), max: 4 });
pool.on('error', () => undefined); // the database is dropped with force
const byRecipe = rlsRecipeOver(pool);
afterAll(async () => {
  await byRecipe.$disconnect();
  await pool.end();
  await recipe.query(`drop owned by ${role}; drop role ${role}`);
});

test('Prisma’s own recipe gives a tenant its rows one call at a time', async () => {
  const names = await run({ tenant: tenantId(2) }, () => byRecipe.customer.findMany({ orderBy: { name: 'asc' } }));
  expect(names.map((row) => row.name)).toEqual([1, 2, 3].map((n) => customerName(2, n)));
});

test('Prisma’s own recipe does not roll back what an interactive transaction did before it threw; the walled pool does', async () => {
  const thrown = new Error('changed my mind');
  const id = customerId(3, 1);
  const left = run({ tenant: tenantId(3) }, () =>
    byRecipe.$transaction(async (tx) => {
      await tx.customer.update({ where: { id }, data: { name: 'not rolled back' } });
      throw thrown;
    }),
  );
  expect(await failure(left)).toBe(thrown);
  const { rows } = await recipe.query<{ name: string }>('select name from customers where id = $1', [id]);
  expect(rows).toEqual([{ name: 'not rolled back' }]);

  const wall = await clientsDatabase();
  const { pool: walledPool } = await wall.walled(prisma);
  const walled = prismaOver(walledPool);
  const undone = run({ tenant: tenantId(3) }, () =>
    walled.$transaction(async (tx) => {
      await tx.customer.update({ where: { id }, data: { name: 'not rolled back' } });
      throw thrown;
    }),
  );
  expect(await failure(undone)).toBe(thrown);
  const kept = await wall.database.query<{ name: string }>('select name from customers where id = $1', [id]);
  expect(kept.rows).toEqual([{ name: customerName(3, 1) }]);
  await walled.$disconnect();
});
