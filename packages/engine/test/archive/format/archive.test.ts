import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { openBackup, runBackup } from '../../../src/index.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { publicKeys } from '../../../src/keyring/signing.ts';
import { storedRows } from '../backup/stored.ts';
import { readArchive } from './other-reader.ts';

const fixture = await controlDatabase();
const { control, database, operation } = fixture;
const { archive, folder } = await archiveFixture({ keyring: control.keyring });
const tenants = [await fixture.tenant('Amber Holdings'), await fixture.tenant('Brass Foundry')];
for (const tenant of tenants) {
  await database.query(`insert into users (tenant_id, email, name) values ($1, 'someone@example.org', 'Somebody Known')`, [tenant]);
  await database.query(`insert into customers (tenant_id, name) select $1, 'Zephyrine ' || n from generate_series(1, 2000) n`, [tenant]);
}
const first = await runBackup(operation(), archive, { reason: 'by hand' });
await database.query(`update customers set name = 'Quillon' where tenant_id = $1`, [tenants[0]]);
const second = await runBackup(operation(), archive, { reason: 'by hand' });

test('a reader that knows the page of the format and nothing else reads what was backed up, across backups that share packs', async () => {
  const secrets = new Map<string, Buffer>();
  const refs = new Map(archive.keys.subjects().map(({ subject, ref }) => [subject, ref]));
  for (const { subject } of (await openBackup(archive, second.id)).manifest.subjects) {
    for (const { segments } of (await (await openBackup(archive, second.id)).page(subject)).tables) {
      for (const { key } of segments) secrets.set(key, archive.keys.byId(key).secret);
    }
  }
  const found = await readArchive(path.join(folder, 'store'), second.id, { secrets, publicKeys: await publicKeys(control.keyring) });
  for (const tenant of tenants) {
    const tables = found.get(refs.get(tenantSubject(tenant)) ?? '');
    for (const table of ['public.tenants', 'public.users', 'public.customers']) {
      const rows = tables?.get(table)?.toString().split('\n').slice(0, -1).sort();
      expect(rows?.length, table).toBeGreaterThan(0);
      expect(rows).toEqual(await storedRows(archive, second.id, { tenant, table }));
    }
  }
});

test('nothing that the store holds shows a name, an address, a text or the id of a tenant', async () => {
  const store = path.join(folder, 'store');
  const files = (await readdir(store, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  expect(files.length).toBeGreaterThan(5);
  const personal = [...tenants, 'Amber', 'Brass', 'example.org', 'Somebody', 'Zephyrine', 'Quillon'];
  for (const { parentPath, name } of files) {
    const bytes = await readFile(path.join(parentPath, name));
    const shown = personal.filter((text) => bytes.includes(text) || path.join(parentPath, name).includes(text));
    expect(shown, name).toEqual([]);
  }
  expect(first.id).not.toBe(second.id);
});
