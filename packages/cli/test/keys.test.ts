import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { controlPool, type Keyring, openKeyring, type Subject } from '@partywall/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { json, type Outcome, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal();
const admin = controlPool(on.database.url, { purpose: 'test' });
afterAll(() => admin.end());

const acme = '11111111-1111-4111-8111-111111111111';
const subjects: readonly Subject[] = ['platform', `tenant:${acme}`, 'tenant:22222222-2222-4222-8222-222222222222'];
const keyring = path.join(on.cwd, 'keyring');
const places = { PARTYWALL_KEYRING: keyring, PARTYWALL_ESCROW: 'escrow', PARTYWALL_ARCHIVE: 'archive' };
const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
  partywall(['keys', ...args], { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari', ...places, ...env } });

/** As the archive opens it. */
async function withKeys<Result>(work: (keys: Keyring) => Promise<Result>): Promise<Result> {
  const keys = await openKeyring({ keyring, escrow: path.join(on.cwd, 'escrow'), kek: { kind: 'file' }, env: {}, clock: () => new Date() });
  try {
    return await work(keys);
  } finally {
    await keys.close();
  }
}
const secrets = (): Promise<readonly string[]> =>
  withKeys(async (keys) => [...(await keys.ensure(subjects)).values()].map(({ secret }) => secret.toString('hex')));
const records = async (action: string): Promise<unknown[]> =>
  (await admin.query('select tenant_id, actor_id, target, reason, details from partywall_control.audit_records where action = $1 order by seq', [action])).rows;

beforeAll(async () => {
  await secrets();
});

test('list says what there is without a database, and prints no key', async () => {
  const listed = await run(['list'], { PARTYWALL_SERVICE_URL: 'postgresql://nowhere.invalid/none' });
  expect(listed).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('key-encryption key 1 is in use (write 1 of the keybook); there are 1\n3 keys in use'),
  });
  expect(listed.stdout).toContain('escrow is the same');
  const data = await run(['list', '--json']);
  expect(json(data)).toMatchObject({ kek: 1, subjects: 3, keys: { active: 3, retired: 0 }, escrow: { copies: { kind: 'same' } } });
  for (const secret of [...(await secrets()), (await fs.readFile(path.join(keyring, 'kek-1.key'))).toString('hex')])
    expect(data.stdout + listed.stdout).not.toContain(secret);
});

test('verify proves that a backup could run, and refuses an escrow that is lost, missing or in the archive', async () => {
  expect(await run(['verify'])).toMatchObject({ status: 0 });
  expect(json(await run(['verify', '--json'], { PARTYWALL_ESCROW: '' }))).toMatchObject({ error: { code: 'escrow_unverified' } });
  for (const escrow of ['archive', 'archive/escrow', 'elsewhere']) {
    expect(json(await run(['verify', '--json'], { PARTYWALL_ESCROW: escrow })), escrow).toMatchObject({ error: { code: 'escrow_unverified' } });
  }
});

test('a rotation leaves every key as it is, and is in the audit log with its reason', async () => {
  const before = await secrets();
  const rotated = await run(['rotate', '--reason', 'yearly']);
  expect(rotated).toMatchObject({ status: 0, stdout: '3 keys are wrapped with key-encryption key 2 (write 2 of the keybook)\n' });
  expect(await secrets()).toEqual(before);
  expect(await records('keys.rotate')).toEqual([
    {
      tenant_id: '',
      actor_id: 'kari',
      target: 'kek:2',
      reason: 'yearly',
      details: { kek: 2, generation: 2, keys: 3, keks: { destroyed: [], pending: [] }, retire: false },
    },
  ]);
});

test('older key-encryption keys are destroyed only when that is confirmed', async () => {
  expect(await run(['rotate', '--retire'])).toMatchObject({ status: 2, stderr: expect.stringContaining('not confirmed') });
  expect(json(await run(['list', '--json']))).toMatchObject({ kek: 2, keks: [1, 2] });
  expect(json(await run(['rotate', '--retire', '--yes', '--json']))).toMatchObject({ kek: 3, keks: { destroyed: [1, 2] } });
  expect(json(await run(['list', '--json']))).toMatchObject({ kek: 3, keks: [3] });
});

test('a tenant gets a new key, recorded in its own chain; one that was never backed up has none to renew', async () => {
  const made = await run(['rekey', acme, '--json', '--reason', 'a laptop was stolen']);
  const { key } = json(made) as { key: string };
  expect(await withKeys(async (keys) => keys.byId(key).subject)).toBe(`tenant:${acme}`);
  expect(await records('keys.rekey')).toMatchObject([{ tenant_id: acme, target: `key:${key}`, reason: 'a laptop was stolen' }]);
  expect(json(await run(['rekey', '33333333-3333-4333-8333-333333333333', '--json']))).toMatchObject({ error: { code: 'key_missing' } });
  expect(await records('keys.rekey')).toHaveLength(1);
});

test('what the machine lost comes back from escrow, after it was confirmed', async () => {
  const before = await secrets();
  const aside = path.join(on.cwd, 'aside');
  await fs.rename(keyring, aside);
  expect(await run(['escrow', '--restore'])).toMatchObject({ status: 2, stderr: expect.stringContaining('not confirmed') });
  const restored = await run(['escrow', '--restore', '--yes']);
  expect(restored).toMatchObject({ status: 0, stdout: expect.stringContaining('kek-3.key was copied to the keyring') });
  expect(await secrets()).toEqual(before);
  expect(json(await run(['escrow', '--json']))).toEqual({ book: 'as it was', files: [], generation: 4 });
});

test('key-encryption keys come from the environment or a command, and a key in the wrong variable is not repeated', async () => {
  const key = randomBytes(32).toString('hex');
  const elsewhere = { PARTYWALL_KEYRING: path.join(on.cwd, 'second'), PARTYWALL_ESCROW: 'second-escrow' };
  const wrong = await run(['list'], { ...elsewhere, PARTYWALL_KEK: key });
  expect(wrong).toMatchObject({ status: 2, stderr: expect.stringContaining('none of file, env and command') });
  expect(wrong.stderr).not.toContain(key);
  expect(json(await run(['list', '--json'], { ...elsewhere, PARTYWALL_KEK: 'env', PARTYWALL_KEK_1: key }))).toMatchObject({ kek: null, keks: [1] });
  expect(await run(['list'], { ...elsewhere, PARTYWALL_KEK: 'command:exit 7' })).toMatchObject({ status: 2, stderr: expect.stringContaining('status 7') });
});
