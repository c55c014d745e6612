import fs from 'node:fs/promises';
import path from 'node:path';
import {
  type Archive,
  backupIds,
  backupSource,
  backupSqlite,
  findBackup,
  holdsTenant,
  openArchive,
  openBackup,
  openSqlite,
  sqliteSource,
  verifyBackup,
} from '@partywall/engine';
import { expect, onTestFinished, test } from 'vitest';
import { fileModel, linesOf, sqliteFixture } from './chatbot-file.ts';

const clock = (): Date => new Date('2026-11-21T02:00:00Z');

/** An archive and a file, both gone with the test; `again` writes to the file and opens it as it is then. */
async function backed(more = '') {
  const fixture = await sqliteFixture();
  if (more !== '') fixture.writer.exec(more);
  const at = (name: string): string => path.join(fixture.folder, name);
  await fs.mkdir(at('work'), { recursive: true });
  const archive = await openArchive({ store: at('store'), escrow: at('escrow'), keyring: at('keyring'), workFolder: at('pages'), env: {}, clock });
  const opened = async () => {
    const file = await openSqlite(fixture.file, { model: fileModel, workFolder: fixture.workFolder, clock });
    onTestFinished(file.close);
    return { file };
  };
  onTestFinished(archive.close);
  const again = (change = ''): ReturnType<typeof opened> => {
    if (change !== '') fixture.writer.exec(change);
    return opened();
  };
  return { archive, ...(await opened()), again };
}

test('every tenant of a SQLite file is in the archive under its own key, with the rows that it has, and reads back', async () => {
  const { archive, file } = await backed("insert into agents values (7, 'gone', 'lost', 0, 0, null)");
  const report = await backupSqlite(archive, file, { reason: 'by hand', clock });
  expect(report).toMatchObject({ tenants: 2, rows: 7, left: [expect.stringContaining('public.agents: 1 rows of no tenant')] });
  const backup = await openBackup(archive, report.id);
  expect(backup.manifest).toMatchObject({ scope: 'tenants', source: { engine: 'sqlite' }, left: report.left });
  expect(JSON.stringify(backup.manifest)).not.toMatch(/acme/i);
  for (const tenant of ['acme', 'ACME']) {
    const [stored, live] = [await backupSource(archive, backup, tenant), sqliteSource(file, tenant)];
    for (const { name } of live.tables) expect(await linesOf(stored, name), name).toEqual(await linesOf(live, name));
  }
});

test('a value that has no form leaves no backup, and the next run, chained to the one before, goes through', async () => {
  const { archive, file } = await backed();
  const first = await backupSqlite(archive, file, { reason: 'by hand', clock });
  const spoiled = await backed("update agents set name = x'00' where id = 1");
  await expect(backupSqlite(archive, spoiled.file, { reason: 'by hand', clock })).rejects.toMatchObject({ code: 'backup_refused' });
  expect(await backupIds(archive)).toEqual([first.id]);
  const again = await backed();
  const second = await backupSqlite(archive, again.file, { reason: 'by hand', clock });
  expect((await openBackup(archive, second.id)).manifest.previous?.id).toBe(first.id);
});

async function objects({ store }: Pick<Archive, 'store'>): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list('')) keys.push(key);
  return keys.sort();
}

test('what did not change in a file is not stored again, and reads back from the backup that has it', async () => {
  const { archive, file, again } = await backed();
  const first = await backupSqlite(archive, file, { reason: 'by hand', clock });
  expect(first).toMatchObject({ base: null, unchanged: 0, stored: { objects: 4 } });
  const before = await objects(archive);

  const same = await backupSqlite(archive, (await again()).file, { reason: 'by hand', clock });
  expect(same).toMatchObject({ base: first.id, tenants: 2, unchanged: 2, rows: 7, stored: { objects: 1 } });
  expect((await objects(archive)).filter((key) => !before.includes(key))).toEqual([`backups/${same.id}/manifest.json`]);

  const changed = await again("update messages set body = 'other' where id = 3");
  const third = await backupSqlite(archive, changed.file, { reason: 'by hand', clock });
  expect(third).toMatchObject({ base: same.id, unchanged: 1, stored: { objects: 3 } });
  expect(third.tables).toContainEqual({ table: 'public.messages', rows: 3, changed: 1 });
  expect(third.tables.filter((table) => table.changed > 0)).toHaveLength(1);
  const backup = await openBackup(archive, third.id);
  for (const tenant of ['acme', 'ACME']) {
    const [stored, live] = [await backupSource(archive, backup, tenant), sqliteSource(changed.file, tenant)];
    for (const { name } of live.tables) expect(await linesOf(stored, name), name).toEqual(await linesOf(live, name));
  }
  expect(await verifyBackup(archive, third.id, { readData: true })).toMatchObject({ whole: true, subjects: 2, rows: 7, damage: [] });
});

test('rows that are gone, a table that is empty now and a new tenant are seen, and nobody else is stored', async () => {
  const { archive, file, again } = await backed();
  await backupSqlite(archive, file, { reason: 'by hand', clock });
  const changed = await again("delete from messages where id in (1, 2); insert into tenants values ('new', 'New', null)");
  const report = await backupSqlite(archive, changed.file, { reason: 'by hand', clock });
  expect(report).toMatchObject({ tenants: 3, unchanged: 1, rows: 6 });
  const backup = await openBackup(archive, report.id);
  expect(await linesOf(await backupSource(archive, backup, 'acme'), 'public.messages')).toEqual([]);
  expect(await linesOf(await backupSource(archive, backup, 'new'), 'public.tenants')).toEqual([expect.stringMatching(/^new\t/)]);
  expect(await verifyBackup(archive, report.id, { readData: true })).toMatchObject({ whole: true, damage: [] });
});

test('rows behind those of the last backup leave the parts before them where they are', async () => {
  const large =
    'with n (i) as (select 1 union all select i + 1 from n where i < 40) insert into messages select 1000 + i, 1, hex(zeroblob(500000)), null from n';
  const { archive, file, again } = await backed(large);
  const first = await backupSqlite(archive, file, { reason: 'by hand', clock });
  const second = await backupSqlite(archive, (await again("insert into messages values (5000, 1, 'last', null)")).file, { reason: 'by hand', clock });
  const [ref = ''] = archive.keys.subjects().flatMap((subject) => (subject.subject === 'tenant:acme' ? [subject.ref] : []));
  const messages = async (id: string) => (await (await openBackup(archive, id)).page(ref)).tables.find(({ table }) => table === 'public.messages');
  const [before, after] = [await messages(first.id), await messages(second.id)];
  expect(before?.segments).toHaveLength(2);
  expect(after?.segments[0]).toEqual(before?.segments[0]);
  expect(after?.segments[1]).toMatchObject({ backup: second.id, part: 1 });
  expect(await verifyBackup(archive, second.id, { readData: true })).toMatchObject({ whole: true, damage: [] });
});

test('a dry run reads everything, says what would change, and stores nothing, not even keys', async () => {
  const { archive, file, again } = await backed();
  expect(await backupSqlite(archive, file, { reason: 'by hand', clock, dryRun: true })).toMatchObject({ dryRun: true, tenants: 2, unchanged: 0, stored: null });
  expect(archive.keys.subjects()).toEqual([]);
  expect(await objects(archive)).toEqual([]);
  await backupSqlite(archive, file, { reason: 'by hand', clock });
  const before = await objects(archive);
  const changed = await again("update messages set body = 'other' where id = 3");
  const plan = await backupSqlite(archive, changed.file, { reason: 'by hand', clock, dryRun: true });
  const run = await backupSqlite(archive, changed.file, { reason: 'by hand', clock });
  expect({ ...run, id: plan.id, dryRun: true, stored: null }).toEqual(plan);
  expect(plan).toMatchObject({ unchanged: 1 });
  const spoiled = await again("update agents set name = x'00' where id = 1");
  await expect(backupSqlite(archive, spoiled.file, { reason: 'by hand', clock, dryRun: true })).rejects.toMatchObject({ code: 'backup_refused' });
  expect((await objects(archive)).filter((key) => !before.includes(key)).every((key) => key.includes(run.id))).toBe(true);
  expect(await fs.readdir(archive.workFolder)).toEqual([]);
});

test('another file of the same rows takes nothing over, and the latest backup of a tenant is never one of a file', async () => {
  const { archive, file } = await backed();
  const first = await backupSqlite(archive, file, { reason: 'by hand', clock });
  const other = await backed();
  const report = await backupSqlite(archive, other.file, { reason: 'by hand', clock });
  expect(report).toMatchObject({ base: null, unchanged: 0 });
  await expect(findBackup(archive, 'latest', holdsTenant(archive, 'acme'))).rejects.toMatchObject({ code: 'backup_unknown' });
  expect((await findBackup(archive, first.id, holdsTenant(archive, 'acme'))).manifest.id).toBe(first.id);
});
