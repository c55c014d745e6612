import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { backupIds, type OpenArchive, PartywallError, runBackup, verifyBackup } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contents, operationWith, withUploads, write } from '../files/uploads.ts';
import { carryOut } from './work.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;
const { archive, folder, open } = await archiveFixture({ keyring: control.keyring });
const uploads = path.join(folder, 'uploads');
const operation = operationWith(control, withUploads(fixture.model, pathToFileURL(uploads).href), fixture.operation());
const tenant = await fixture.tenant('Worked');
await database.query("insert into customers (tenant_id, name) select $1, 'c' || n from generate_series(1, 100) n", [tenant]);
await write(path.join(uploads, tenant), { 'a/file': 'content' });
const { id: first } = await runBackup(operation, archive, { reason: 'by hand' });

async function state(): Promise<unknown> {
  const { rows } = await database.query(
    "select md5(string_agg(c::text, '' order by id)) as hash, (select state from partywall.registry where tenant_id = $1) as state from customers c where tenant_id = $1",
    [tenant],
  );
  return [rows, await contents(path.join(uploads, tenant)), await backupIds(archive)];
}

/** An archive whose store takes so many more objects, and then says this. */
function failing(puts: number, code: 'store_full' | 'store_unavailable' | 'store_refused'): OpenArchive {
  const { store } = archive;
  let left = puts;
  const put: typeof store.put = async (...parts) => {
    left -= 1;
    if (left < 0) throw new PartywallError(code, 'writing: injected');
    return store.put(...parts);
  };
  return { ...archive, store: { ...store, put } };
}

test.each(['store_full', 'store_unavailable', 'store_refused'] as const)(
  'a store that answers %s leaves nothing that counts and nothing changed, at whichever object, and the same again is whole',
  { timeout: 120_000 },
  async (code) => {
    await database.query("update customers set name = name || '.' where tenant_id = $1", [tenant]);
    await write(path.join(uploads, tenant), { 'a/file': `content for ${code}` });
    const before = await state();
    // Packs of two subjects, pages, manifest.
    for (let puts = 0; puts < 4; puts += 1) {
      await expect(carryOut(operation, failing(puts, code), { kind: 'backup' }), `${puts} objects`).rejects.toMatchObject({ code });
      expect(await state()).toEqual(before);
    }
    // The undo backup is what fails: the tenant is let in, with what it had.
    await expect(carryOut(operation, failing(1, code), { kind: 'restore', tenant, backup: first })).rejects.toThrow('injected');
    expect(await state()).toEqual(before);
    await carryOut(operation, archive, { kind: 'backup' });
    const last = (await backupIds(archive)).at(-1) ?? '';
    expect(await verifyBackup(archive, last, { readData: true })).toMatchObject({ whole: true });
  },
);

test('another keyring is told from a missing tenant, and nothing is changed by whoever holds it', async () => {
  const before = await state();
  const stranger = await open({ keyring: path.join(folder, 'other-keyring'), escrow: path.join(folder, 'other-escrow') });
  await expect(carryOut(operation, stranger, { kind: 'restore', tenant, backup: first })).rejects.toThrow(/in the keyring|the keyring has none/);
  await expect(carryOut(operation, stranger, { kind: 'backup' })).rejects.toMatchObject({ code: 'archive_damaged' });
  expect(await state()).toEqual(before);
});
