import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { backupIds, readLedger, runBackup, syncLedger } from '../../../src/index.ts';

test('an archive is of the database that used it first: another one neither backs up into it nor writes its ledger', async () => {
  const [first, second] = [await controlDatabase(), await controlDatabase()];
  const { archive } = await archiveFixture();
  await first.tenant('Amber');
  await second.tenant('Brass');
  const { id } = await runBackup(first.operation(), archive, { reason: 'by hand' });
  const before = await readLedger(archive);
  await expect(runBackup(second.operation(), archive, { reason: 'by hand' })).rejects.toMatchObject({ code: 'backup_refused' });
  await expect(syncLedger(second.operation(), archive)).rejects.toThrow("it is another database's");
  expect(await backupIds(archive)).toEqual([id]);
  expect(await readLedger(archive)).toEqual(before);
  await runBackup(first.operation(), archive, { reason: 'by hand' });
});
