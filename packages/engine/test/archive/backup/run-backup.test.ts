import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { expectSame } from './stored.ts';

const fixture = await controlDatabase();
const { control, database, operation } = fixture;
const { archive } = await archiveFixture({ keyring: control.keyring });
const [amber, brass] = [await fixture.tenant('Amber'), await fixture.tenant('Brass')];
for (const tenant of [amber, brass]) {
  await database.query(`insert into customers (tenant_id, name, revenue) select $1, 'Customer ' || n, n / 3.0 from generate_series(1, 50) n`, [tenant]);
  await database.query(
    `insert into notes (partywall_tenant_id, customer_id, body) select tenant_id, id, E'a\\tb\\nc\\\\' from customers where tenant_id = $1`,
    [tenant],
  );
}

test('holds the rows of every tenant as they are', async () => {
  const report = await runBackup(operation(), archive, { reason: 'by hand' });
  await expectSame(archive, report.id, { url: database.url, tenants: [amber, brass] });
  const again = await runBackup(operation(), archive, { reason: 'by hand' });
  expect(again.base).toBe(report.id);
});
