import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { suspendTenant } from '../../src/index.ts';
import { rollbackWall } from '../../src/wall/rollback.ts';

const fixture = await controlDatabase();
const { database, model } = fixture;

async function writes(tenant: string): Promise<void> {
  const { rows } = await database.query<{ id: string }>("insert into customers (tenant_id, name) values ($1, 'c') returning id", [tenant]);
  await database.query("insert into notes (customer_id, body) values ($1, 'n')", [rows[0]?.id]);
  await database.query('update customers set name = name where tenant_id = $1', [tenant]);
  await database.query('delete from customers where tenant_id = $1', [tenant]);
}

test('an application goes on when the wall is rolled back under the control plane, which goes on too', async () => {
  const tenant = await fixture.tenant('Rolled back');
  await rollbackWall({ url: database.url, model, to: 'expanded' });
  await writes(tenant);
  const other = await fixture.tenant('New after rollback');
  await suspendTenant(fixture.operation(), { tenant: other });
  await database.query('delete from tenants where id = $1', [other]);
  expect((await database.query('select from partywall_control.directory where tenant_id = $1', [other])).rowCount).toBe(0);
});

test('nothing of the wall goes while the control plane stands on it, and everything once that was dropped by hand', async () => {
  await expect(rollbackWall({ url: database.url, model, to: 'nothing' })).rejects.toMatchObject({
    code: 'phase_refused',
    hint: expect.stringContaining('drop schema partywall_control, partywall_people cascade'),
  });
  const tenant = await fixture.tenant('Still here');
  await writes(tenant);
  await database.query('drop schema partywall_control, partywall_people cascade');
  await writes(tenant);
  await rollbackWall({ url: database.url, model, to: 'nothing' });
  await writes(tenant);
  const { rows } = await database.query(
    "select count(*)::int as triggers from pg_trigger t join pg_proc p on p.oid = t.tgfoid where not tgisinternal and p.pronamespace::regnamespace::text like 'partywall%'",
  );
  expect(rows).toEqual([{ triggers: 0 }]);
});
