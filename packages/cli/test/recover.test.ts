import path from 'node:path';
import { controlPool, type Operation, openArchive, runBackup } from '@partywall/engine';
import { beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import { partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const [acme, globex] = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222'];
const on = await controlledPortal('contract');
const target = await createDatabase();
const env = {
  ...on.env,
  PARTYWALL_SERVICE_URL: on.service,
  PARTYWALL_ARCHIVE: path.join(on.cwd, 'store'),
  PARTYWALL_KEYRING: path.join(on.cwd, 'keyring'),
  PARTYWALL_ESCROW: path.join(on.cwd, 'escrow'),
  PARTYWALL_WORK: path.join(on.cwd, 'work'),
};
const run = (...args: string[]) => partywall(args, { cwd: on.cwd, env });

beforeAll(async () => {
  const { PARTYWALL_ARCHIVE: store, PARTYWALL_ESCROW: escrow, PARTYWALL_KEYRING: keyring, PARTYWALL_WORK: workFolder } = env;
  const archive = await openArchive({ store, escrow, keyring, workFolder, env: {}, clock: () => new Date() });
  const pool = controlPool(on.service, { purpose: 'test' });
  const operation: Operation = { database: { pool, model: on.model, clock: () => new Date(), keyring }, actor: { kind: 'operator', id: 'test' } };
  try {
    await runBackup(operation, archive, { reason: 'test' });
  } finally {
    await pool.end();
    await archive.close();
  }
});

test('a database that is lost comes back from the command line, and the ledger decides who is let in', async () => {
  // The backup brought the ledger up.
  expect((await run('ledger', 'sync')).stdout).toContain('compared 2 tenants, wrote 0 records');
  expect((await run('tenants', 'suspend', globex, '--reason', 'unpaid')).status).toBe(0);
  expect((await run('ledger', 'sync')).stdout).toContain('wrote 1 record');
  expect((await run('ledger', 'list')).stdout).toMatch(new RegExp(`${globex} {2}suspended`));

  const dry = await run('recover', '--into', target.url, '--dry-run');
  expect(dry).toMatchObject({ status: 0, stdout: expect.stringContaining('free: 2 tenants') });
  expect((await target.query("select from pg_namespace where nspname = 'partywall'")).rowCount).toBe(0);

  const fenced = await run('recover', '--into', target.url, '--fenced');
  expect(fenced).toMatchObject({ status: 0, stdout: expect.stringContaining('restored backup') });
  await expect(target.query('select partywall.enter($1)', [acme])).rejects.toThrow('fenced');
  expect(fenced.stdout).not.toContain(target.url);

  const refused = await run('ledger', 'sync', '--url', target.url);
  expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('2 tenants came from a backup') });
  expect((await run('ledger', 'reconcile', '--url', target.url)).stderr).toContain('nothing was changed');

  const done = await run('ledger', 'reconcile', '--url', target.url, '--yes');
  expect(done).toMatchObject({ status: 0, stdout: expect.stringContaining(`${globex}: status: it became suspended`) });
  await target.query('select partywall.enter($1)', [acme]);
  await expect(target.query('select partywall.enter($1)', [globex])).rejects.toThrow('suspended');
  expect((await target.query('select from notes')).rowCount).toBe(120);
});

test('a database that holds something is refused, and stays as it is', async () => {
  const occupied = await createDatabase();
  await occupied.query('create table kept (a int); insert into kept values (1)');
  expect(await run('recover', '--into', occupied.url)).toMatchObject({ status: 1, stderr: expect.stringContaining('not empty, it holds public.kept') });
  expect((await occupied.query('select from kept')).rowCount).toBe(1);
  expect(await run('recover', '--into', 'mysql://x', '--dry-run')).toMatchObject({ status: 2 });
});
