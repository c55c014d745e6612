import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { type Radosgw, radosgwInstalled, startRadosgw } from '../../../../../test/support/radosgw.ts';
import { manifestObject, packObject, pagesObject } from '../../../src/archive/archive.ts';
import type { OpenArchive } from '../../../src/archive/open-archive.ts';
import { backupIds } from '../../../src/archive/read/list-backups.ts';
import { refOf } from '../../../src/archive/read/open-backup.ts';
import { applyRetention } from '../../../src/archive/retention/apply.ts';
import { extendLocks } from '../../../src/archive/retention/locks.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { makeBackup } from './made-backups.ts';

const needed = !radosgwInstalled && process.env['PARTYWALL_NO_SKIPS'] !== '1';
const fixture = await controlDatabase();
const base = await archiveFixture({ keyring: fixture.control.keyring });
const dayMs = 86_400_000;

describe.skipIf(needed)('objects of a bucket with object lock', () => {
  let server: Radosgw;
  let archive: OpenArchive;
  beforeAll(async () => {
    server = await startRadosgw();
    const bucket = await server.createBucket({ lock: true });
    archive = await base.open({ store: `s3://${bucket}/archive?endpoint=${server.endpoint}&lock=governance`, env: { ...server.credentials } });
  });
  afterAll(() => server.stop());

  test('are locked for as long as the longest class that needs them, each by its own', async () => {
    const [free, enterprise] = [await fixture.tenant('Free', 'free'), await fixture.tenant('Enterprise', 'enterprise')];
    // In the middle of a month, so that the second stands for a day at the most.
    const month = new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() + 2, 10, 2));
    const first = await makeBackup(archive, { at: month, tenants: [free, enterprise] });
    await extendLocks(fixture.operation(), archive, first);
    const next = new Date(month.getTime() + 3_600_000);
    const second = await makeBackup(archive, { at: next, tenants: [free, enterprise], unchanged: [free] });
    expect(await extendLocks(fixture.operation(), archive, second)).toBe(7);
    const locked = async (key: string): Promise<number> =>
      Math.round((((await archive.store.head(key))?.lockedUntil?.getTime() ?? 0) - month.getTime()) / dayMs);
    const [freeRef, enterpriseRef] = [free, enterprise].map((tenant) => refOf(archive, tenantSubject(tenant)));
    expect({
      free: await locked(packObject(freeRef ?? '', first, 0)),
      enterprise: await locked(packObject(enterpriseRef ?? '', first, 0)),
      manifest: await locked(manifestObject(first)),
      pages: await locked(pagesObject(first)),
      later: await locked(packObject(enterpriseRef ?? '', second, 0)),
      laterManifest: await locked(manifestObject(second)),
    }).toEqual({ free: 31, enterprise: 366, manifest: 366, pages: 366, later: 30, laterManifest: 30 });
  });

  test('stay while they are locked although nothing needs them, and are reported', async () => {
    const tenant = await fixture.tenant('Locked', 'pro');
    const night = (daysAgo: number): Date => new Date(Date.UTC(2026, 10, 21 - daysAgo, 2));
    await makeBackup(archive, { at: night(203), tenants: [tenant] });
    const held = await makeBackup(archive, { at: night(201), tenants: [tenant], lockUntil: new Date(Date.now() + dayMs) });
    for (const days of [2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    const report = await applyRetention(fixture.operation(), archive);
    expect(report.problems).toEqual([expect.stringContaining(held)]);
    expect(report.removed).toBe(0);
    expect(await backupIds(archive)).toContain(held);
  });
});
