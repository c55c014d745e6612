import { backUp, backupIds, backupSettings, tenantSubject } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../test/support/archive.ts';
import { serverFixture } from './server.ts';

const base = await archiveFixture();
let keyring = '';
let reachable = true;
const open = () => (reachable ? base.open({ keyring }) : base.open({ keyring, escrow: undefined }));
const { server, person, tenant, control, operation, database } = await serverFixture(undefined, { archive: { open, settings: backupSettings({}) } });
keyring = control.keyring;
const operator = await person({ superAdmin: true });

test('a hard deletion over HTTP destroys the keys of the backups, or changes nothing', async () => {
  const [gone, stays] = [await tenant('Gone AS', 'free'), await tenant('Stays AS', 'free')];
  const archive = await open();
  await backUp(operation(), archive, { reason: 'test' });
  const erase = () =>
    server.inject({ method: 'POST', url: `/api/admin/tenants/${gone}/delete`, headers: operator.headers, payload: { hardDelete: true, force: true } });
  reachable = false;
  const refused = await erase();
  expect([refused.statusCode, refused.json().code, refused.json().detail]).toEqual([409, 'erasure_refused', expect.stringContaining('there is no escrow')]);
  expect((await database.query('select status from partywall_control.directory where tenant_id = $1', [gone])).rows).toEqual([{ status: 'active' }]);
  reachable = true;
  const answer = await erase();
  expect(answer.statusCode).toBe(200);
  const { certificate } = answer.json<{ certificate: { text: string } }>();
  expect(JSON.parse(certificate.text)).toMatchObject({
    backups: { held: { backups: 1 }, others: { of: 2, opened: 2 }, keks: { destroyed: [1], pending: [] } },
  });
  const after = await open();
  expect(after.keys.subjects().map(({ subject }) => subject)).toEqual(['platform', tenantSubject(stays)]);
  expect(await backupIds(after)).toHaveLength(1);
});
