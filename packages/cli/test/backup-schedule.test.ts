import path from 'node:path';
import { controlPool } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { json, type Outcome, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal();
const admin = controlPool(on.database.url, { purpose: 'test' });
afterAll(() => admin.end());

const places = { PARTYWALL_KEYRING: path.join(on.cwd, 'keyring'), PARTYWALL_ESCROW: 'escrow', PARTYWALL_ARCHIVE: 'archive' };
const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> =>
  partywall(['backup', ...args], { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service, ...places, ...env } });

test('from the first look to retention, at the command line', async () => {
  expect(await run(['schedule'])).toMatchObject({ status: 0, stdout: expect.stringContaining('due now: everything (schedule: daily)') });
  // Whoever only looks leaves no trace that a schedule runs.
  expect((await admin.query('select from partywall_control.backup_schedule')).rowCount).toBe(0);
  const made = await run(['schedule', '--run']);
  expect(made).toMatchObject({ status: 0, stdout: expect.stringMatching(/backup \S+ is verified: a recovery point of \d+ tenants/) });
  expect(await run(['schedule', '--run'])).toMatchObject({ status: 0, stdout: expect.stringContaining('nothing is due before') });
  expect(await run(['status'])).toMatchObject({ status: 0, stdout: expect.stringMatching(/(\d+) of \1 tenants: \1 ok, 0 due, 0 late, 0 never/) });
  const planned = await run(['retention', '--dry-run']);
  expect(planned).toMatchObject({ status: 0, stdout: expect.stringContaining('1 backups: 0 would be removed') });
  expect(json(await run(['retention', '--yes', '--json']))).toMatchObject({ dryRun: false, removed: 0, problems: [] });
});

test('the status ends with 1 as soon as somebody is late, so that any monitor sees it', async () => {
  await admin.query("update partywall_control.recovery_points set at = at - interval '40 days', verified_at = verified_at - interval '40 days'");
  const late = await run(['status', '--state', 'late', 'never']);
  expect(late).toMatchObject({ status: 1, stdout: expect.stringMatching(/^late .*: database of \S+ in \S+, promised every /) });
  expect(json(await run(['status', '--json']))).toMatchObject({ late: true, counts: { ok: 0 } });
});

test('the recovery points are read anew from the archive', async () => {
  await admin.query('truncate partywall_control.recovery_points');
  expect(await run(['status', '--rebuild'])).toMatchObject({ status: 0, stderr: expect.stringMatching(/read 1 of 1 verified backups: \d+ recovery points/) });
});

test.each([
  [['schedule'], { BACKUP_FREQUENCY: 'sometimes' }, 'input_invalid'],
  [['retention', '--dry-run'], { BACKUP_RETENTION_FREE: 'forever' }, 'input_invalid'],
  [['retention', '--dry-run'], { PARTYWALL_ARCHIVE: '' }, 'usage'],
  [['status', '--state', 'wrong'], {}, 'usage'],
] as const)('%o with %o is refused', async (args, env, code) => {
  expect(json(await run([...args, '--json'], env))).toMatchObject({ error: { code } });
});
