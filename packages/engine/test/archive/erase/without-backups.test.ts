import { runBackup } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { withoutBackups } from '../../../src/archive/erase/without-backups.ts';

const { control, database, operation } = await controlDatabase();
const { archive } = await archiveFixture({ keyring: control.keyring });

test('while an erasure proves itself no backup begins, and one begins right after it', async () => {
  for (let round = 0; round < 10; round += 1) {
    await withoutBackups(
      operation(),
      async () => expect.fail('a backup runs'),
      async () => {
        await expect(runBackup(operation(), archive, { reason: 'by hand' })).rejects.toMatchObject({ code: 'backup_refused' });
      },
    );
    const { rows } = await database.query("select pg_try_advisory_xact_lock(hashtextextended('partywall:backup', 0)) as free");
    expect(rows).toEqual([{ free: true }]);
  }
  expect(await runBackup(operation(), archive, { reason: 'by hand' })).toMatchObject({ base: null });
});
