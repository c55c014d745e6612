import { runBackup, verifyBackup } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { readCatalog } from '../../../src/catalog/read-catalog.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;
const operation = fixture.operation();
const { archive } = await archiveFixture({ keyring: control.keyring });
let threads = 0;
const count = () => {
  threads += 1;
};
process.on('worker', count);
afterAll(() => process.off('worker', count));

const [small, large] = [await fixture.tenant('Small'), await fixture.tenant('Large', 'enterprise')];
const rows = { small: 20, large: 90_000 };
await database.query(`insert into customers (tenant_id, name) select '${small}', 'c' || n from generate_series(1, ${rows.small}) n;
  insert into customers (tenant_id, name) select '${large}', repeat('x', 200) || n from generate_series(1, ${rows.large}) n; analyze customers`);

async function customersIn(tenant: string): Promise<{ rows: number | undefined; threads: number; whole: boolean }> {
  threads = 0;
  const report = await runBackup(operation, archive, { reason: 'before restore', tenants: [tenant] });
  const { whole } = await verifyBackup(archive, report.id, { readData: true });
  return { rows: report.tables.find(({ table }) => table === 'public.customers')?.rows, threads, whole };
}

test('a tenant of few rows is read without a thread, and one of many by threads', async () => {
  expect(await customersIn(small)).toEqual({ rows: rows.small, threads: 0, whole: true });
  expect(await customersIn(large)).toEqual({ rows: rows.large, threads: 1, whole: true });
});

test('a table that is newer than the catalog that a backup was given is named as left out', async () => {
  const client = await control.pool.connect();
  const catalog = await readCatalog(client).finally(() => client.release());
  await database.query('create table newer (id integer primary key)');
  try {
    const { left } = await runBackup(operation, archive, { reason: 'before restore', tenants: [small] }, { catalog });
    expect(left).toContain('public.newer: made while the backup began');
  } finally {
    await database.query('drop table newer');
  }
});
