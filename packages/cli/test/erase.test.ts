import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { systemDatabaseName } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const acme = '11111111-1111-4111-8111-111111111111';
const globex = '22222222-2222-4222-8222-222222222222';
const without = { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari', PARTYWALL_KEYRING: path.join(on.cwd, 'keyring') };
const env = { ...without, PARTYWALL_ARCHIVE: path.join(on.cwd, 'store'), PARTYWALL_ESCROW: path.join(on.cwd, 'escrow') };
const run = (...args: string[]) => partywall(args, { cwd: on.cwd, env });
const migrated = await partywall(['migrate'], { cwd: on.cwd, env: on.env });
if (migrated.status !== 0) throw new Error(migrated.stderr);
afterAll(() => on.database.query(`drop database if exists "${systemDatabaseName(on.database.name)}" with (force)`));
const made = await run('backup', 'run');
if (made.status !== 0) throw new Error(made.stderr);

async function rows(tenant: string): Promise<number> {
  const { rows: found } = await on.database.query<{ count: number }>('select count(*)::int as count from customers where tenant_id = $1', [tenant]);
  return found[0]?.count ?? 0;
}

test('is planned with its backups, and done only with the name', async () => {
  const plan = json(await run('erase', acme, '--force', '--dry-run', '--json'));
  expect(plan).toMatchObject({ dryRun: true, refusal: null, backups: { hasKey: true, keks: [1], others: 2, held: { backups: 1 } } });
  const shown = await run('erase', acme, '--force', '--dry-run');
  expect(shown.stdout).toMatch(
    /these backups in .* become unreadable for it: \d+ segments in \d+ objects[\s\S]*key-encryption keys 1 are destroyed; the keys of 2 others/,
  );
  for (const confirm of [[], ['--confirm', 'globex']]) {
    expect(await run('erase', acme, '--force', ...confirm)).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringMatching(/become unreadable[\s\S]*nothing was changed/),
    });
  }
  expect(await run('erase', acme, '--confirm', acme)).toMatchObject({ status: 1, stderr: expect.stringContaining('that takes force') });
  expect(await rows(acme)).toBeGreaterThan(0);
});

test('is refused without the archive or its escrow, and the tenant stays what it was', async () => {
  const forgotten = await partywall(['erase', acme, '--force', '--confirm', acme], { cwd: on.cwd, env: without });
  expect(forgotten).toMatchObject({ status: 1, stderr: expect.stringMatching(/was made of this database, and no archive is given[\s\S]*PARTYWALL_ARCHIVE/) });
  const { PARTYWALL_ESCROW: _escrow, ...unescrowed } = env;
  expect(await partywall(['tenants', 'delete', acme, '--hard', '--force', '--confirm', acme], { cwd: on.cwd, env: unescrowed })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('there is no escrow'),
  });
  expect(await run('tenants', 'show', acme)).toMatchObject({ stdout: expect.stringMatching(/wall +active/) });
  expect(await rows(acme)).toBeGreaterThan(0);
});

test('leaves a certificate that can be tried again, names every segment, and nothing to restore', async () => {
  const before = await rows(globex);
  const done = await run('erase', acme, '--force', '--confirm', acme, '--reason', 'asked to');
  expect(done).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(
      /^erased: 1111[\s\S]*cannot be read any more[\s\S]*2 of 2 looked at: 2 open[\s\S]*tried now {2}\d+ segments: none has a key[\s\S]*valid: certificate 1/,
    ),
  });
  expect(await rows(acme)).toBe(0);
  expect(await rows(globex)).toBe(before);
  expect(json(await run('erase', acme, '--certificate', '--json'))).toMatchObject({
    valid: true,
    backups: { valid: true, pending: [] },
    body: { reason: 'asked to', backups: { keks: { destroyed: [1], pending: [] }, oldKeybookOpens: false } },
  });
  expect(await run('tenants', 'certificate', acme)).toMatchObject({ status: 0, stdout: expect.stringContaining('none has a key') });
  const listed = await run('erase', acme, '--segments');
  const [folder = ''] = /packs\/[0-9a-f]{32}/.exec(listed.stdout) ?? [];
  for (const name of await readdir(path.join(on.cwd, 'store', folder))) expect(listed.stdout).toContain(`${folder}/${name}`);
  expect(listed.stdout).toMatch(/public\.customers part 0/);

  expect((await run('restore', acme, '--from', 'latest', '--dry-run')).status).not.toBe(0);
  expect(json(await run('restore', globex, '--from', 'latest', '--dry-run', '--json'))).toMatchObject({ conflicts: [] });
  expect(await run('backup', 'run')).toMatchObject({ status: 0 });

  await rm(path.join(on.cwd, 'store', 'erasures'), { recursive: true });
  expect(await run('erase', acme, '--certificate')).toMatchObject({ status: 1, stdout: expect.stringContaining('NOT AS CERTIFIED') });
  expect(await run('erase', 'nobody', '--certificate')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is none') });
});
