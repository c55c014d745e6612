import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { connect } from '../../src/db/connect.ts';
import { assertModelComplete } from '../../src/model/check.ts';
import { assertControl, installControl } from '../../src/schema/install-control.ts';
import { verify } from '../../src/verify/verify.ts';

const fixture = await controlDatabase();

test('installing again, and twenty times at once, changes nothing', async () => {
  const install = async () => {
    const client = await connect(fixture.database.url, { purpose: 'test' });
    return installControl(client, fixture.model).finally(() => client.end());
  };
  const reports = await Promise.all(Array.from({ length: 20 }, install));
  expect(reports.flatMap(({ applied }) => applied)).toEqual([]);
  await expect(assertControl(fixture.control.pool)).resolves.toBeUndefined();
});

test('a tenant that the application creates is in the directory with its name and plan, and gone with it', async () => {
  const tenant = await fixture.tenant('Nordlys AS', 'enterprise');
  const listed = () => fixture.control.pool.query('select name, plan, status from partywall_control.directory where tenant_id = $1', [tenant]);
  expect((await listed()).rows).toEqual([{ name: 'Nordlys AS', plan: 'enterprise', status: 'active' }]);
  await fixture.database.query("update tenants set status = 'suspended' where id = $1", [tenant]);
  expect((await listed()).rows).toEqual([{ name: 'Nordlys AS', plan: 'enterprise', status: 'suspended' }]);
  await fixture.database.query('delete from tenants where id = $1', [tenant]);
  expect((await listed()).rows).toEqual([]);
});

test('the application cannot see the schemas of the control plane', async () => {
  const client = await connect(fixture.urls.app, { purpose: 'test' });
  try {
    for (const table of ['partywall_control.directory', 'partywall_control.audit_records', 'partywall_people."user"']) {
      await expect(client.query(`select from ${table}`), table).rejects.toMatchObject({ code: '42501' });
    }
  } finally {
    await client.end();
  }
});

test('the model stays complete beside it, and the wall sound', async () => {
  const client = await connect(fixture.database.url, { purpose: 'test' });
  try {
    const catalog = await readCatalog(client);
    expect(() => assertModelComplete(fixture.model, catalog)).not.toThrow();
  } finally {
    await client.end();
  }
  const report = await verify({ model: fixture.model, adminUrl: fixture.database.url, appUrl: fixture.urls.app });
  expect(report.findings).toEqual([]);
});

test('a migration that is not the one this version knows is refused', async () => {
  await fixture.database.query("update partywall_control.migrations set hash = 'other' where number = 1");
  await expect(assertControl(fixture.control.pool)).rejects.toMatchObject({ code: 'control_foreign', details: ['0001_tenants'] });
});
