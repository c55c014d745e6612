import fs from 'node:fs/promises';
import path from 'node:path';
import { backupIds, backupSource, backupSqlite, openArchive, openBackup, openSqlite, sqliteSource } from '@partywall/engine';
import { expect, test } from 'vitest';
import { fileModel, linesOf, sqliteFixture } from './chatbot-file.ts';

const clock = (): Date => new Date('2026-11-21T02:00:00Z');

async function backed(more = '') {
  const fixture = await sqliteFixture();
  if (more !== '') fixture.writer.exec(more);
  const at = (name: string): string => path.join(fixture.folder, name);
  await fs.mkdir(at('work'), { recursive: true });
  const archive = await openArchive({ store: at('store'), escrow: at('escrow'), keyring: at('keyring'), workFolder: at('work'), env: {}, clock });
  const file = await openSqlite(fixture.file, { model: fileModel, workFolder: fixture.workFolder, clock });
  return { archive, file };
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
  await file.close();
  await archive.close();
});

test('a value that has no form leaves no backup, and the next run, chained to the one before, goes through', async () => {
  const { archive, file } = await backed();
  const first = await backupSqlite(archive, file, { reason: 'by hand', clock });
  await file.close();
  const spoiled = await backed("update agents set name = x'00' where id = 1");
  await expect(backupSqlite(archive, spoiled.file, { reason: 'by hand', clock })).rejects.toMatchObject({ code: 'backup_refused' });
  expect(await backupIds(archive)).toEqual([first.id]);
  await spoiled.file.close();
  await spoiled.archive.close();
  const again = await backed();
  const second = await backupSqlite(archive, again.file, { reason: 'by hand', clock });
  expect((await openBackup(archive, second.id)).manifest.previous?.id).toBe(first.id);
  await again.file.close();
  await Promise.all([again.archive.close(), archive.close()]);
});
