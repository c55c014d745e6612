import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { serialize } from 'node:v8';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { locksReleased } from '../../../../../test/support/database.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { verifyBackup } from '../../../src/archive/backup/verify-backup.ts';
import { backupIds } from '../../../src/index.ts';
import type { BackingProcess } from './backing-process.ts';
import { expectSame } from './stored.ts';

const kills = 4;
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);

const fixture = await controlDatabase();
const { control, database, operation, urls } = fixture;
const { archive, folder, settings } = await archiveFixture({ keyring: control.keyring });
const tenants = [await fixture.tenant('Amber'), await fixture.tenant('Brass')];
for (const tenant of tenants)
  await database.query(`insert into customers (tenant_id, name) select $1, 'Customer ' || n from generate_series(1, 50) n`, [tenant]);
await runBackup(operation(), archive, { reason: 'by hand' });

async function backing(killAt?: number): Promise<{ readonly out: string; readonly signal: NodeJS.Signals | null }> {
  const given: BackingProcess = {
    service: urls.service,
    model: serialize(control.model).toString('base64'),
    keyring: control.keyring,
    folder,
    ...(killAt !== undefined && { killAt }),
  };
  const script = fileURLToPath(new URL('./backing-process.ts', import.meta.url));
  const child = spawn(process.execPath, ['--conditions=partywall-source', script, JSON.stringify(given)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const pieces: Buffer[] = [];
  child.stdout.on('data', (piece: Buffer) => pieces.push(piece));
  const [, signal] = await once(child, 'close');
  return { out: Buffer.concat(pieces).toString('utf8'), signal };
}

test(`killed anywhere, a backup leaves nothing that counts, and the next one is whole (seed ${seed})`, { timeout: 180_000 }, async () => {
  const steps = Number(/^done \S+ (\d+)/.exec((await backing()).out)?.[1]);
  expect(steps).toBeGreaterThan(20);
  let state = seed;
  for (let kill = 0; kill < kills; kill += 1) {
    await database.query('update customers set name = name where tenant_id = $1', [tenants[kill % 2]]);
    const before = await backupIds(archive);
    state = (state * 48_271 + 11) % 2_147_483_647;
    const { signal } = await backing(1 + (state % steps));
    const made = (await backupIds(archive)).filter((id) => !before.includes(id));
    // Killed behind its manifest, it is a backup; killed before, there is none.
    if (signal === null || made.length > 0) expect(made).toHaveLength(1);
    for (const id of made) expect(await verifyBackup(archive, id, { readData: true })).toMatchObject({ whole: true });
    await locksReleased(database);
    const { id } = await runBackup(operation(), archive, { reason: 'by hand' });
    expect(await verifyBackup(archive, id, { readData: true })).toMatchObject({ whole: true });
    await expectSame(archive, id, { url: database.url, tenants });
    expect(await fs.readdir(settings.workFolder)).toEqual([]);
  }
});
