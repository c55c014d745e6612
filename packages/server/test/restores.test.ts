import { awaitOperation, readRestore, runBackup } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../test/support/archive.ts';
import { serverFixture } from './server.ts';

const base = await archiveFixture();
// The control plane's keyring is known once it is there; the archive is opened for each piece of work.
let keyring = '';
const { server, person, tenant, control, operation, database } = await serverFixture(undefined, { archive: { open: () => base.open({ keyring }) } });
keyring = control.keyring;
const bare = await serverFixture();
const [own, other] = [await tenant('Own AS', 'enterprise'), await tenant('Other AS', 'free')];
await database.query(`insert into customers (tenant_id, name) select t.id, 'kept' from tenants t, generate_series(1, 10)`);
const archive = await base.open({ keyring });
const { id: backup } = await runBackup(operation(), archive, { reason: 'by hand' });
await database.query(`update customers set name = 'wrong'`);
const operator = await person({ superAdmin: true });
const admin = await person({ memberships: { [own]: 'admin' } });

async function ask(payload: object, { as = operator, at = server, id = own } = {}) {
  const answer = await at.inject({ method: 'POST', url: `/api/admin/tenants/${id}/restore-from-backup`, headers: as.headers, payload });
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
}

test('a dry run says what would change, and a restore is an operation that changes that tenant alone', async () => {
  const planned = await ask({ backup: 'latest', dryRun: true });
  expect(planned).toMatchObject({ status: 200, body: { dryRun: true, source: `backup ${backup}`, conflicts: [] } });
  expect(planned.body['tables']).toContainEqual({ table: 'public.customers', inserted: 0, updated: 10, deleted: 0, unchanged: 0 });
  const { status, body } = await ask({ backup, reason: 'a bad import' });
  expect(status).toBe(202);
  expect(body).toMatchObject({ backup, operation: { kind: 'tenant.restore', tenantId: own, reason: 'a bad import' } });
  const { id } = body['operation'] as { id: string }; // as the schema has it
  expect(await awaitOperation(operation(), id, { timeoutMs: 60_000 })).toMatchObject({ state: 'done', error: null });
  expect(await readRestore(operation(), id)).toMatchObject({ tenant: own, backup, rtoSeconds: 1_800 });
  const { rows } = await database.query('select tenant_id, name, count(*)::int as count from customers group by 1, 2 order by name');
  expect(rows).toEqual([
    { tenant_id: own, name: 'kept', count: 10 },
    { tenant_id: other, name: 'wrong', count: 10 },
  ]);
});

test('what cannot be restored is a problem with a name', async () => {
  expect(await ask({ backup: '20200101t000000z-00000000' })).toMatchObject({ status: 404, body: { code: 'backup_unknown' } });
  expect(await ask({ backup }, { id: '11111111-1111-4111-8111-111111111111' })).toMatchObject({
    body: { code: expect.stringMatching(/tenant_unknown|backup_unknown/) },
  });
  expect(await ask({ backup, tables: ['public.nothing'], dryRun: true })).toMatchObject({ status: 409, body: { code: 'restore_refused' } });
  expect((await ask({})).status).toBe(400);
  const stranger = await bare.person({ superAdmin: true });
  expect(await ask({ backup: 'latest' }, { as: stranger, at: bare.server, id: await bare.tenant('Bare') })).toMatchObject({
    status: 409,
    body: { code: 'backup_refused' },
  });
});

test("is nothing for a tenant's own admin", async () => {
  expect((await ask({ backup, dryRun: true }, { as: admin })).status).toBe(403);
});
