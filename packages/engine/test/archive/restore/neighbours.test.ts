import { performance } from 'node:perf_hooks';
import { restoreFrom } from '@partywall/engine';
import { createWalledPool, run } from '@partywall/wall';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { kept } from './kept-source.ts';

const writers = 20;
const fixture = await controlDatabase();
const { database } = fixture;
const operation = fixture.operation();

test(`while ${writers} neighbours write at full speed none sees an error, and the restored tenant is refused instead of kept waiting`, async () => {
  const tenant = await fixture.tenant('Restored', 'enterprise');
  await database.query(`insert into customers (tenant_id, name, country_code, revenue) select '${tenant}', 'c' || n, 'NO', n from generate_series(1, 4000) n`);
  await database.query(
    `insert into notes (customer_id, body, partywall_tenant_id) select id, repeat('x', 200), tenant_id from customers where tenant_id = '${tenant}'`,
  );
  const source = await kept(operation, tenant);
  await database.query(
    `delete from notes where partywall_tenant_id = '${tenant}'; delete from customers where tenant_id = '${tenant}' and revenue > 2000; update customers set name = 'wrong' where tenant_id = '${tenant}'`,
  );
  const neighbours = await Promise.all(Array.from({ length: writers }, (_, at) => fixture.tenant(`Writer ${at}`, 'enterprise')));
  const pool = createWalledPool({ connectionString: fixture.urls.app, max: writers });
  let stop = false;
  let longestMs = 0;
  const written = new Map<string, number>();
  const errors: unknown[] = [];
  const write = async (neighbour: string): Promise<void> => {
    for (let n = 0; !stop; n += 1) {
      const from = performance.now();
      await run({ tenant: neighbour }, async () => {
        await pool.query(`insert into customers (tenant_id, name, country_code) values ($1, 'busy', 'NO')`, [neighbour]);
        await pool.query(`update customers set revenue = $1 where name = 'busy'`, [n]);
        await pool.query(`delete from customers where id = (select id from customers offset 20 limit 1)`);
      }).catch((error: unknown) => errors.push(error));
      longestMs = Math.max(longestMs, performance.now() - from);
      written.set(neighbour, n);
    }
  };
  const writing = neighbours.map(write);
  await expect.poll(() => written.size, { timeout: 20_000 }).toBe(writers);
  const before = [...written.values()].reduce((sum, count) => sum + count, 0);
  const refused: unknown[] = [];
  const report = await restoreFrom(operation, source, {
    prove: 'hash',
    undo: async () => {
      await run({ tenant }, () => pool.query('select 1 from customers')).catch((error: unknown) => refused.push(error));
      return 'none';
    },
  });
  const after = [...written.values()].reduce((sum, count) => sum + count, 0);
  stop = true;
  await Promise.all(writing);
  await pool.end();
  expect(errors).toEqual([]);
  expect(refused).toMatchObject([{ code: 'tenant_suspended' }]);
  expect(after).toBeGreaterThan(before);
  expect(report.tables.find(({ table }) => table === 'public.customers')).toMatchObject({ inserted: 2000, updated: 2000, deleted: 0 });
  expect(report.proof.examined).toEqual(['partywall_control.usage_moves']);
  expect(report.proof.neighbours?.tenants).toBe(writers);
  process.stderr.write(`    longest wait of a neighbour ${Math.round(longestMs)} ms, ${after - before} rounds of three statements meanwhile\n`);
});
