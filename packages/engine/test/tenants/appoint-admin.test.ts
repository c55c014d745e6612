import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { appointAdmin } from '../../src/tenants/appoint-admin.ts';

const fixture = await controlDatabase();
const admin = { adminName: 'Ada', adminEmail: 'Ada@alder.example', hashPassword: async () => 'hash' };
const members = (tenant: string) =>
  fixture.database.query(
    `select u."email", m."role" from partywall_people."member" m join partywall_people."user" u on u."id" = m."userId" where m."organizationId" = $1`,
    [tenant],
  );

test('a tenant that the application made gets an admin, once, and it is recorded', async () => {
  const tenant = await fixture.tenant('Alder');
  const made = await appointAdmin(fixture.operation(), { tenant, ...admin });
  expect(made.isNew).toBe(true);
  expect(await appointAdmin(fixture.operation(), { tenant, ...admin })).toEqual({ user: made.user, isNew: false });
  expect((await members(tenant)).rows).toEqual([{ email: 'ada@alder.example', role: 'admin' }]);
  const { rows } = await fixture.database.query(
    "select count(*)::int as n from partywall_control.audit_records where tenant_id = $1 and action = 'tenant.appoint_admin'",
    [tenant],
  );
  expect(rows).toEqual([{ n: 2 }]);
});

test('somebody who can sign in becomes admin of another tenant and keeps the password', async () => {
  const tenant = await fixture.tenant('Birch');
  const hashPassword = async () => {
    throw new Error('no new password');
  };
  expect((await appointAdmin(fixture.operation(), { tenant, ...admin, hashPassword })).isNew).toBe(false);
  expect((await members(tenant)).rows).toEqual([{ email: 'ada@alder.example', role: 'admin' }]);
});

test('a tenant that is not there is refused, and nobody is made', async () => {
  const nobody = { ...admin, adminEmail: 'nobody@alder.example' };
  await expect(appointAdmin(fixture.operation(), { tenant: '00000000-0000-0000-0000-000000000009', ...nobody })).rejects.toMatchObject({
    code: 'tenant_unknown',
  });
  const { rowCount } = await fixture.database.query(`select from partywall_people."user" where "email" = $1`, [nobody.adminEmail]);
  expect(rowCount).toBe(0);
});
