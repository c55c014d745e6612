import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { awaitOperation, eraseTenant, eraseWorks, inProcess, readCertificate, runBackup } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contents, operationWith, withUploads, write } from './uploads.ts';

const fixture = await controlDatabase();
const { folder, archive, open } = await archiveFixture({ keyring: fixture.control.keyring });
const uploads = path.join(folder, 'uploads');
const operation = operationWith(fixture.control, withUploads(fixture.model, pathToFileURL(uploads).href), fixture.operation());
const [gone, kept] = [await fixture.tenant('Gone'), await fixture.tenant('Kept')];

test('an erasure removes the files of the tenant and of nobody else, and its certificate counts them', { timeout: 60_000 }, async () => {
  for (const tenant of [gone, kept]) await write(path.join(uploads, tenant), { 'a/b': tenant, c: 'content' });
  await runBackup(operation, archive, { reason: 'by hand' });
  const durable = inProcess(
    operation.database,
    eraseWorks(() => open()),
  );
  const { id } = await eraseTenant(operation, durable, { tenant: gone, force: true });
  expect(await awaitOperation(operation, id, { timeoutMs: 40_000 })).toMatchObject({ state: 'done' });
  await durable.stop();
  await expect(fs.access(path.join(uploads, gone))).rejects.toMatchObject({ code: 'ENOENT' });
  expect(await contents(path.join(uploads, kept))).toEqual({ 'a/b': kept, c: 'content' });
  expect((await readCertificate(operation, gone)).body.backups).toMatchObject({ files: 2 });
});
