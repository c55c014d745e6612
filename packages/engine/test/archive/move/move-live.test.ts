import { createWalledPool, run, TenantPlacedElsewhereError, TenantSuspendedError, UnknownTenantError } from '@partywall/wall';
import { afterAll, expect, test } from 'vitest';
import { finishMove } from '../../../src/index.ts';
import { furnish, twoHomes } from './moving.ts';

const writers = 20;
const { first, second, placements, move } = await twoHomes();
for (const { database } of [first, second]) {
  await database.query("insert into continents values ('EU', 'Europe')");
  await database.query("insert into currencies values ('NOK', 'EU', 'Krone')");
}
const pool = createWalledPool({ connectionString: first.urls.app, max: 10, placements: { second: second.urls.app } });
pool.on('error', () => undefined); // sessions that do not leave are ended, and the databases are dropped with force
afterAll(() => pool.end());

/** What a writer may be told while its tenant moves: it was refused before anything ran, so it can ask again. */
function isRefusal(error: unknown): boolean {
  return error instanceof TenantSuspendedError || error instanceof TenantPlacedElsewhereError || error instanceof UnknownTenantError;
}

test('20 writers lose and double no row while their tenant moves there and back, and a neighbour sees no error', async () => {
  const tenant = await furnish(first, 'Busy', 300);
  const neighbour = await furnish(first, 'Quiet', 10);
  const done = new AbortController();
  const written: string[] = [];
  const quiet: string[] = [];
  let refused = 0;
  const write = (id: string, name: string, transactional: boolean): Promise<void> =>
    run({ tenant: id }, async () => {
      if (!transactional) {
        await pool.query('insert into customers (tenant_id, name) values ($1, $2)', [id, name]);
        return;
      }
      const client = await pool.connect();
      try {
        await client.query('begin');
        await client.query('insert into customers (tenant_id, name) values ($1, $2)', [id, name]);
        await client.query('commit');
      } catch (error) {
        await client.query('rollback');
        throw error;
      } finally {
        client.release();
      }
    });
  const writing = Array.from({ length: writers }, async (_, writer) => {
    for (let n = 0; !done.signal.aborted; n += 1) {
      const name = `w${writer}.${n}`;
      try {
        await write(tenant, name, n % 2 === 0);
        written.push(name);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        refused += 1;
      }
    }
  });
  const neighbouring = (async () => {
    for (let n = 0; !done.signal.aborted; n += 1) {
      await write(neighbour, `n${n}`, false);
      quiet.push(`n${n}`);
    }
  })();
  const all = Promise.all([...writing, neighbouring]);
  const grows = async (): Promise<void> => {
    const at = written.length;
    await expect.poll(() => written.length, { timeout: 20_000 }).toBeGreaterThan(at + writers);
  };
  try {
    for (const to of ['second', undefined, 'second']) {
      await Promise.race([grows(), all]);
      expect(await move(tenant, to)).toMatchObject({ state: 'done', error: null });
      await Promise.race([grows(), all]);
      await finishMove(first.operation(), placements, { tenant });
    }
  } finally {
    done.abort();
  }
  await all;
  expect(refused).toBeGreaterThan(0);
  const names = async (home: typeof first, id: string): Promise<string[]> =>
    (await home.database.query<{ name: string }>("select name from customers where tenant_id = $1 and name !~ '^c'", [id])).rows.map(({ name }) => name).sort();
  expect(await names(second, tenant)).toEqual(written.toSorted());
  expect(await names(first, tenant)).toEqual([]);
  expect(await names(first, neighbour)).toEqual(quiet.toSorted());
});
