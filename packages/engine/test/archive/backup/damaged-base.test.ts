import fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { manifestObject, packObject, pagesObject } from '../../../src/archive/archive.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { verifyBackup } from '../../../src/archive/backup/verify-backup.ts';
import { openBackup } from '../../../src/archive/read/open-backup.ts';
import { verifyPending } from '../../../src/archive/schedule/run.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { expectSame } from './stored.ts';

const fixture = await controlDatabase();
const { control, database, operation } = fixture;
const { archive, folder } = await archiveFixture({ keyring: control.keyring });
const tenants = [await fixture.tenant('Amber'), await fixture.tenant('Brass')];
const backUp = () => runBackup(operation(), archive, { reason: 'by hand' });
const fileOf = (key: string): string => path.join(folder, 'store', key);

/** Replaces the end of an object by zeros. */
async function damage(key: string): Promise<void> {
  const bytes = await fs.readFile(fileOf(key));
  await fs.chmod(fileOf(key), 0o600);
  await fs.writeFile(fileOf(key), bytes.fill(0, bytes.length - 20));
}

describe('a damaged backup does not keep the next one from being made, which stores everything anew:', () => {
  test('its manifest', async () => {
    const first = await backUp();
    await damage(manifestObject(first.id));
    const next = await backUp();
    expect(next).toMatchObject({ base: null, unchanged: 0 });
    expect(next.left).toContainEqual(expect.stringContaining(`the manifest of backup ${first.id}`));
    expect(await verifyBackup(archive, next.id, { readData: true })).toMatchObject({ whole: true });
    expect((await openBackup(archive, next.id)).manifest.left).toContainEqual(expect.stringContaining(first.id));
    await expectSame(archive, next.id, { url: database.url, tenants });
  });

  test.each(['damaged', 'missing'])('its pages, %s', async (how) => {
    const first = await backUp();
    const key = pagesObject((await backUp()).id);
    if (how === 'damaged') await damage(key);
    else await fs.rm(fileOf(key));
    const next = await backUp();
    expect(next).toMatchObject({ base: null, unchanged: 0 });
    expect(next.left).toContainEqual(expect.stringContaining(key));
    expect(next.id > first.id).toBe(true);
    expect(await verifyBackup(archive, next.id, { readData: true })).toMatchObject({ whole: true });
    await expectSame(archive, next.id, { url: database.url, tenants });
  });

  test('a manifest that somebody removed, which is said', async () => {
    const removed = await backUp();
    await fs.rm(fileOf(manifestObject(removed.id)));
    const next = await backUp();
    expect(next).toMatchObject({ base: null });
    expect(next.left).toContainEqual(expect.stringContaining(`backup ${removed.id}, the last one of this database, is not in this archive`));
    expect((await backUp()).left.join()).not.toContain('is not in this archive');
  });

  test('a pack, once it was found missing', async () => {
    const first = await backUp();
    await verifyPending(operation(), archive);
    const ref = archive.keys.subjects().find(({ subject }) => subject === tenantSubject(tenants[0] ?? ''))?.ref ?? '';
    const pack = (await openBackup(archive, first.id)).subjects.get(ref)?.packs[0];
    await fs.rm(fileOf(packObject(ref, pack?.backup ?? '', pack?.pack ?? 0)));
    const broken = await backUp();
    expect(broken).toMatchObject({ base: first.id });
    expect(await verifyPending(operation(), archive)).not.toContain(broken.id);
    const next = await backUp();
    expect(next).toMatchObject({ base: null, unchanged: 0 });
    expect(await verifyPending(operation(), archive)).toContain(next.id);
    expect(await verifyBackup(archive, next.id, { readData: true })).toMatchObject({ whole: true });
    expect(await backUp()).toMatchObject({ base: next.id, unchanged: tenants.length });
  });
});
