import fs from 'node:fs/promises';
import path from 'node:path';
import { controlPool, type Operation, openArchive, runBackup, systemDatabaseName } from '@partywall/engine';
import { Decrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const tenant = '11111111-1111-4111-8111-111111111111';
const env = {
  PARTYWALL_SERVICE_URL: on.service,
  PARTYWALL_OPERATOR: 'kari',
  PARTYWALL_ARCHIVE: path.join(on.cwd, 'store'),
  PARTYWALL_ESCROW: path.join(on.cwd, 'escrow'),
  PARTYWALL_KEYRING: path.join(on.cwd, 'keyring'),
};
const restore = (...args: string[]) => partywall(['restore', ...args], { cwd: on.cwd, env });
const migrated = await partywall(['migrate'], { cwd: on.cwd, env: on.env });
if (migrated.status !== 0) throw new Error(migrated.stderr);
afterAll(() => on.database.query(`drop database if exists "${systemDatabaseName(on.database.name)}" with (force)`));
await on.database.query("update partywall_control.directory set plan = 'starter'");
const first = await backUp();

async function backUp(): Promise<string> {
  const pool = controlPool(on.service, { purpose: 'test' });
  const { PARTYWALL_ARCHIVE: store, PARTYWALL_ESCROW: escrow, PARTYWALL_KEYRING: keyring } = env;
  const operation: Operation = { database: { pool, model: on.model, clock: () => new Date(), keyring }, actor: { kind: 'operator', id: 'test' } };
  const archive = await openArchive({ store, escrow, keyring, workFolder: path.join(on.cwd, 'work'), env: {}, clock: () => new Date() });
  try {
    return (await runBackup(operation, archive, { reason: 'by hand' })).id;
  } finally {
    await archive.close();
    await pool.end();
  }
}

async function rows(): Promise<unknown> {
  return (await on.database.query(`select c.tenant_id, c.email, n.body from customers c left join notes n on n.customer_id = c.id order by c.id, n.id`)).rows;
}

test('a tenant is planned, asked for, restored and taken back', async () => {
  const before = await rows();
  await on.database.query(
    `delete from notes where customer_id in (select id from customers where tenant_id = '${tenant}'); update customers set email = 'x' || email where tenant_id = '${tenant}'`,
  );
  const damaged = await rows();
  const plan = await restore(tenant, '--from', 'latest', '--dry-run', '--json');
  expect(json(plan)).toMatchObject({
    dryRun: true,
    source: `backup ${first}`,
    conflicts: [],
    tables: expect.arrayContaining([{ table: 'public.notes', inserted: 60, updated: 0, deleted: 0, unchanged: 0 }]),
  });
  expect(await restore(tenant, '--from', 'latest')).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/public\.notes: 60 inserted[\s\S]*not confirmed, nothing was changed/),
  });
  expect(await rows()).toEqual(damaged);

  const done = json(await restore(tenant, '--from', first, '--yes', '--prove', 'hash', '--reason', 'a bad import', '--json'));
  expect(done).toMatchObject({ tenant, backup: first, rtoSeconds: 14_400, report: { applied: true, proof: { neighbours: { tenants: 1 } } } });
  expect(await rows()).toEqual(before);
  const { rows: records } = await on.database.query(`select actor_id, action from partywall_control.audit_records where tenant_id = '${tenant}' order by seq`);
  expect(records).toContainEqual({ actor_id: 'kari', action: 'tenant.restore_from_backup' });

  const id = typeof done === 'object' && done !== null && 'id' in done ? String(done.id) : '';
  // The latest backup is not the one that the restore itself made.
  expect(json(await restore(tenant, '--from', 'latest', '--dry-run', '--json'))).toMatchObject({ source: `backup ${first}` });
  const back = await restore('--undo', id, '--yes');
  expect(back).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/60 deleted\n[\s\S]*took \d+\.\d s; its tier promises 240 min\n.*partywall restore --undo/),
  });
  expect(await rows()).toEqual(damaged);
});

test('conflicts are listed and stop it', async () => {
  await on.database.query(
    `insert into customers (id, tenant_id, email) overriding system value select 1000, '22222222-2222-4222-8222-222222222222', 'moved@example.org'; delete from notes where customer_id = 1; update customers set tenant_id = '22222222-2222-4222-8222-222222222222' where id = 1`,
  );
  const planned = await restore(tenant, '--from', first, '--dry-run');
  expect(planned).toMatchObject({ status: 1, stdout: expect.stringContaining('public.customers: ("id") = (1) belongs to another tenant now') });
  expect(await restore(tenant, '--from', first, '--yes')).toMatchObject({ status: 1, stderr: expect.stringContaining('belongs to another tenant now') });
});

test('a customer gets their tenant as a file that their key opens', async () => {
  const identity = await generateX25519Identity();
  const recipient = await identityToRecipient(identity);
  const file = path.join(on.cwd, 'out.age');
  expect(json(await restore(tenant, '--from', first, '--to-file', 'out.age', '--recipient', recipient, '--json'))).toMatchObject({
    file,
    encrypted: true,
    rows: 81,
  });
  const decrypter = new Decrypter();
  decrypter.addIdentity(identity);
  expect((await decrypter.decrypt(await fs.readFile(file))).subarray(0, 2)).toEqual(new Uint8Array([0x1f, 0x8b]));
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
  expect(await restore(tenant, '--from', first, '--to-file', 'out.age', '--recipient', recipient)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--force'),
  });
  expect(await restore(tenant, '--from', first, '--to-file', 'plain.tar.gz')).toMatchObject({ status: 2, stderr: expect.stringContaining('--plain') });
  expect((await restore(tenant, '--from', first, '--to-file', 'plain.tar.gz', '--plain')).status).toBe(0);
  expect(await restore(tenant, '--from', first, '--to-file', 'bad.age', '--recipient', 'age1x')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('no public key of age'),
  });
  expect((await fs.readdir(on.cwd)).filter((name) => name.includes('partial') || name.startsWith('bad'))).toEqual([]);
});

test('what is not said, or is not there, is refused', async () => {
  for (const args of [
    [tenant],
    ['--from', 'latest'],
    [tenant, '--from', 'latest', '--undo', 'x'],
    [tenant, '--from', 'latest', '--forget', 'x'],
    [tenant, '--from', 'latest', '--rename', 'x'],
  ])
    expect(await restore(...args), args.join(' ')).toMatchObject({ status: 2 });
  expect(await restore('33333333-3333-4333-8333-333333333333', '--from', first, '--yes')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('the keyring has none'),
  });
  expect(await restore(tenant, '--from', '20200101t000000z-00000000', '--yes')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('looking for backup'),
  });
});
