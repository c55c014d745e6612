import fs from 'node:fs/promises';
import path from 'node:path';
import { systemDatabaseName } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { configText, controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const tenant = '11111111-1111-4111-8111-111111111111';
const store = path.join(on.cwd, 'store');
const env = {
  PARTYWALL_SERVICE_URL: on.service,
  PARTYWALL_OPERATOR: 'kari',
  PARTYWALL_ARCHIVE: store,
  PARTYWALL_ESCROW: path.join(on.cwd, 'escrow'),
  PARTYWALL_KEYRING: path.join(on.cwd, 'keyring'),
};
const backup = (args: readonly string[], changes: Readonly<Record<string, string>> = {}) =>
  partywall(['backup', ...args], { cwd: on.cwd, env: { ...env, ...changes } });
const migrated = await partywall(['migrate'], { cwd: on.cwd, env: on.env });
if (migrated.status !== 0) throw new Error(migrated.stderr);
afterAll(() => on.database.query(`drop database if exists "${systemDatabaseName(on.database.name)}" with (force)`));

const idOf = (answer: unknown): string => (typeof answer === 'object' && answer !== null && 'id' in answer ? String(answer.id) : '');

async function packs(): Promise<string[]> {
  const files = await fs.readdir(path.join(store, 'packs'), { recursive: true, withFileTypes: true });
  return files.filter((entry) => entry.isFile()).map(({ parentPath, name }) => path.join(parentPath, name));
}

test('a backup is planned without a trace, made by hand with its reason, listed, shown and verified', async () => {
  const planned = json(await backup(['run', '--dry-run', '--json']));
  expect(planned).toMatchObject({ dryRun: true, scope: 'all', base: null, stored: null });
  expect(await fs.readdir(store).catch(() => [])).not.toContain('packs');

  const made = await backup(['run', '--reason', 'before the release', '--json']);
  expect(made.status).toBe(0);
  const id = idOf(json(made));
  expect(json(await backup(['list', '--json']))).toMatchObject({ total: 1, items: [{ id, scope: 'all', reason: 'before the release' }] });
  expect(json(await backup(['show', 'latest', '--json']))).toMatchObject({ id, reason: 'before the release', previous: null });
  expect((await backup(['show', id])).stdout).toContain('public.customers');
  expect(await backup(['verify', '--read-data'])).toMatchObject({ status: 0 });
  const { rows } = await on.database.query("select actor_id, reason from partywall_control.audit_records where action = 'backup.run'");
  expect(rows).toContainEqual({ actor_id: 'kari', reason: 'before the release' });

  const before = (await packs()).length;
  await on.database.query(`update customers set email = 'changed.' || email where tenant_id = '${tenant}'`);
  const second = json(await backup(['run', '--json']));
  expect(second).toMatchObject({ base: id, scope: 'all' });
  // The tenant that changed, and the platform.
  expect((await packs()).length - before).toBeLessThanOrEqual(2);
  const alone = json(await backup(['run', '--tenant', tenant, '--json']));
  expect(alone).toMatchObject({ scope: 'tenants', tenants: 1 });
});

test('a class is backed up alone, and files only where the model says where they are', async () => {
  expect(json(await backup(['run', '--class', 'configuration', '--json']))).toMatchObject({ classes: ['configuration'] });
  expect(await backup(['run', '--class', 'files', '--json'])).toMatchObject({ status: 2, stdout: expect.stringContaining('the model names no files') });
  const config = path.join(on.cwd, 'partywall.config.ts');
  const written = await fs.readFile(config, 'utf8');
  await fs.mkdir(path.join(on.cwd, 'uploads', tenant), { recursive: true });
  await fs.writeFile(path.join(on.cwd, 'uploads', tenant, 'lease.pdf'), 'a lease');
  const files = { uploads: { store: `file://${path.join(on.cwd, 'uploads')}`, prefix: '{tenant}/' } };
  await fs.writeFile(config, configText(on.roles, {}, { archive: { files } }));
  expect(json(await backup(['run', '--class', 'files', '--json']))).toMatchObject({ classes: ['files'], files: { files: 1 } });
  await fs.writeFile(config, written);
});

test('what is damaged is named, every piece of it, and the exit status says so', async () => {
  const [first = '', second = ''] = await packs();
  const bytes = await fs.readFile(first);
  bytes[100] = (bytes[100] ?? 0) ^ 1;
  await fs.writeFile(first, bytes);
  const kept = await fs.readFile(second);
  await fs.rm(second);
  const listed = itemsOf(json(await backup(['list', '--json'])));
  const checked = [];
  for (const { id } of listed) checked.push(await backup(['verify', id, '--read-data']));
  const said = checked.map(({ stdout }) => stdout).join('\n');
  // Packs of two subjects, or of two backups: each backup that reaches one is damaged, and says which.
  for (const file of [first, second]) expect(said).toContain(path.basename(path.dirname(file)));
  for (const { status, stdout } of checked) expect(status).toBe([first, second].some((file) => stdout.includes(path.basename(path.dirname(file)))) ? 1 : 0);
  await fs.writeFile(second, kept);
});

test('what cannot be asked says what to do, and nothing is stored', async () => {
  const before = await packs();
  expect(await backup(['run'], { PARTYWALL_ESCROW: '' })).toMatchObject({ status: 2, stderr: expect.stringContaining('PARTYWALL_ESCROW') });
  expect(await backup(['run'], { PARTYWALL_ARCHIVE: '' })).toMatchObject({ status: 2, stderr: expect.stringContaining('PARTYWALL_ARCHIVE') });
  expect(await backup(['run'], { PARTYWALL_ARCHIVE: 's3://key:secret@bucket/x' })).toMatchObject({ status: 2, stderr: expect.not.stringContaining('secret') });
  expect(await backup(['run', '--tenant', '99999999-9999-4999-8999-999999999999'])).toMatchObject({ status: 2 });
  expect(await backup(['show', '../../etc/passwd', '--json'])).toMatchObject({ status: 2, stdout: expect.stringContaining('backup_unknown') });
  expect(await backup(['show', '20200101t000000z-00000000'])).toMatchObject({ status: 2 });
  expect(await backup(['list', '--limit', '0'])).toMatchObject({ status: 2 });
  expect(await packs()).toEqual(before);
});

function itemsOf(answer: unknown): { readonly id: string }[] {
  const items: unknown = typeof answer === 'object' && answer !== null ? Reflect.get(answer, 'items') : undefined;
  return Array.isArray(items) ? items.map((item) => ({ id: idOf(item) })) : [];
}
