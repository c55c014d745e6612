import fs from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import { json, partywall } from './support/command.ts';
import { configText, controlledPortal } from './support/portal.ts';

const smoke = { archive: { smoke: [{ sql: 'select count(*) from customers', expect: 20 }] } };
const on = await controlledPortal('contract', smoke);
await fs.writeFile(path.join(on.cwd, 'partywall.config.ts'), configText(on.roles, undefined, smoke));
const staging = await createDatabase();
const tenant = '11111111-1111-4111-8111-111111111111';
const env = {
  PARTYWALL_SERVICE_URL: on.service,
  PARTYWALL_OPERATOR: 'kari',
  PARTYWALL_ARCHIVE: path.join(on.cwd, 'store'),
  PARTYWALL_ESCROW: path.join(on.cwd, 'escrow'),
  PARTYWALL_KEYRING: path.join(on.cwd, 'keyring'),
};
const backup = (args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
  partywall(['backup', ...args], { cwd: on.cwd, env: { ...env, ...more } });
const drill = (...args: string[]) => backup(['drill', ...args], { STAGING_DATABASE_URL: staging.url });

test('a backup is planned, drilled by the document’s variable, reported and remembered', async () => {
  expect(await drill('--due')).toMatchObject({ status: 0, stdout: 'nobody is due\n' });
  expect(await backup(['run'])).toMatchObject({ status: 0 });
  const plan = json(await drill('--dry-run', '--seed', 's', '--json'));
  expect(plan).toMatchObject({ dryRun: true, seed: 's', leftOut: 0, smokeQueries: 1, target: expect.stringContaining('a new database beside') });
  expect(await drill('--dry-run', '--tenant', 'nobody')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('looking for tenant nobody in the backup'),
  });

  const done = await drill('--all', '--report', 'drill.md');
  expect(done).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/passed {3}ask the smoke queries, [\d.]+ s: 2 answers\n[\s\S]*passed: backup \S+ of \S+, 2 of 2 tenants/),
  });
  expect(await fs.readFile(path.join(on.cwd, 'drill.md'), 'utf8')).toMatch(/^# Restore drill of \d{4}-\d\d-\d\d: passed\n/);
  const { rows } = await on.database.query(
    "select actor_id, details ->> 'outcome' as outcome from partywall_control.audit_records where action = 'backup.drill'",
  );
  expect(rows).toEqual([{ actor_id: 'kari', outcome: 'passed' }]);
  expect(await drill('--due')).toMatchObject({ status: 0, stdout: 'nobody is due\n' });
}, 60_000);

test('what is wrong ends with status 1, and is said in both forms', async () => {
  await on.database.query(`delete from notes where customer_id in (select id from customers where tenant_id = '${tenant}');
delete from customers where id = (select min(id) from customers where tenant_id = '${tenant}')`);
  expect(await backup(['run'])).toMatchObject({ status: 0 });
  const wrong = `tenant ${tenant}: smoke query 1: it does not give 20`;
  expect(await drill('--tenant', tenant)).toMatchObject({ status: 1, stdout: expect.stringContaining(wrong) });
  const answer = await drill('--tenant', tenant, '--json');
  expect(answer.status).toBe(1);
  expect(JSON.parse(answer.stdout)).toMatchObject({
    outcome: 'failed',
    tenants: expect.arrayContaining([expect.objectContaining({ tenant, outcome: 'failed' })]),
  });
});

test('the keyring may be gone: the answer names --escrow, which is enough', async () => {
  await fs.rename(env.PARTYWALL_KEYRING, `${env.PARTYWALL_KEYRING}-gone`);
  expect(await drill()).toMatchObject({ status: 2, stderr: expect.stringContaining('--escrow') });
  await fs.rm(env.PARTYWALL_KEYRING, { recursive: true, force: true });
  const done = await drill('--escrow', '--tenant', '22222222-2222-4222-8222-222222222222', '--json');
  expect(JSON.parse(done.stdout)).toMatchObject({
    keys: { from: 'escrow' },
    tenants: expect.arrayContaining([expect.objectContaining({ tenant: '22222222-2222-4222-8222-222222222222', outcome: 'passed' })]),
  });
});

test('the database that is backed up, and nonsense, are refused', async () => {
  await fs.rename(`${env.PARTYWALL_KEYRING}-gone`, env.PARTYWALL_KEYRING).catch(() => undefined);
  expect(await backup(['drill', '--into', on.database.url])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('that is the database that is backed up'),
  });
  expect(await drill('--sample', '0')).toMatchObject({ status: 2 });
  expect(await drill('--all', '--sample', '3')).toMatchObject({ status: 2 });
  expect(await backup(['drill', '--into', 'not a url with a secret'])).toMatchObject({ status: 2, stderr: expect.not.stringContaining('secret') });
});
