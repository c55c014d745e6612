import fs from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari' } };
const run = (...args: string[]) => partywall(['tenants', ...args], operator);
const tenant = '11111111-1111-4111-8111-111111111111';
const file = path.join(on.cwd, 'acme.json');

test('a tenant is exported into a file of its operator alone, which is not written over', async () => {
  const done = await run('export', tenant, '-o', 'acme.json', '--json');
  expect(json(done)).toMatchObject({ file, tenant, rows: 81, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
  expect(JSON.parse(await fs.readFile(file, 'utf8'))).toMatchObject({ header: { tenant: { id: tenant } }, trailer: { rows: 81 } });
  expect(await run('export', tenant, '-o', 'acme.json')).toMatchObject({ status: 2, stderr: expect.stringContaining('--force') });
  expect((await run('export', tenant, '-o', 'acme.json', '--force')).status).toBe(0);
  expect(await run('export', 'nobody', '-o', 'nobody.json')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is none') });
  expect(await run('export', tenant, '-o', 'no/such/folder.json')).toMatchObject({ status: 2, stderr: expect.stringContaining('no such file or directory') });
  expect((await fs.readdir(on.cwd)).filter((name) => name.includes('partial') || name.startsWith('nobody'))).toEqual([]);
});

test('an export is planned, asked for and restored', async () => {
  await on.database.query(
    `delete from notes where customer_id in (select id from customers where tenant_id = '${tenant}' limit 5); update customers set email = 'x' || email where tenant_id = '${tenant}'`,
  );
  const lost = json(await run('import', 'acme.json', '--dry-run', '--json'));
  expect(lost).toMatchObject({
    applied: false,
    tables: expect.arrayContaining([{ table: 'public.notes', inserted: 15, updated: 0, deleted: 0, unchanged: 45 }]),
  });
  expect(await run('import', 'acme.json')).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/public\.customers: 0 inserted, 20 updated, 0 deleted[\s\S]*not confirmed, nothing was changed/),
  });
  const done = await run('import', 'acme.json', '--yes');
  expect(done).toMatchObject({ status: 0, stdout: expect.stringContaining('public.notes: 15 inserted') });
  expect(json(await run('import', 'acme.json', '--yes', '--json'))).toMatchObject({ applied: true, hashEqual: true });
  const { rows } = await on.database.query("select distinct actor_id from partywall_control.audit_records where action = 'tenant.import'");
  expect(rows).toEqual([{ actor_id: 'kari' }]);
});

test('a file that is no export, or none, is refused', async () => {
  await fs.writeFile(path.join(on.cwd, 'other.json'), '{"header":');
  expect(await run('import', 'other.json', '--yes')).toMatchObject({ status: 2, stderr: expect.stringContaining('reading the export') });
  expect(await run('import', 'missing.json', '--yes')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is no such file') });
});
