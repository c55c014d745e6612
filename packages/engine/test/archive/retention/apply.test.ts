import { beforeEach, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { manifestObject, packObject, pagesObject, verifiedObject } from '../../../src/archive/archive.ts';
import { backupSource } from '../../../src/archive/read/backup-source.ts';
import { backupIds } from '../../../src/archive/read/list-backups.ts';
import { openBackup, refOf } from '../../../src/archive/read/open-backup.ts';
import { applyRetention, type RetentionOptions } from '../../../src/archive/retention/apply.ts';
import type { Operation } from '../../../src/db/operation.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { makeBackup, objectsOf, soundness, verifyMade } from './made-backups.ts';

const fixture = await controlDatabase();
const base = await archiveFixture({ keyring: fixture.control.keyring });
let clock = new Date();
let number = 0;
let archive = base.archive;

beforeEach(async () => {
  number += 1;
  archive = await base.open({ store: `${base.folder}/store-${number}` });
  clock = new Date('2026-11-21T12:00:00Z');
});

const operation = (): Operation => fixture.operation({ database: { ...fixture.control, clock: () => clock } });
const retain = (options: RetentionOptions = {}) => applyRetention(operation(), archive, options);
const night = (daysAgo: number): Date => new Date(Date.UTC(2026, 10, 21 - daysAgo, 2));
const later = (hours: number): void => {
  clock = new Date(clock.getTime() + hours * 3_600_000);
};

describe('retention', () => {
  test('a dry run says what the real run does, and changes nothing', async () => {
    const tenant = await fixture.tenant('Dry', 'free');
    for (const days of [60, 40, 8, 2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    const before = await objectsOf(archive);
    const planned = await retain({ dryRun: true });
    expect(await objectsOf(archive)).toEqual(before);
    expect(planned).toMatchObject({ dryRun: true, removed: 0, retired: 2, swept: null, problems: [] });
    const done = await retain();
    expect(done).toMatchObject({ removed: planned.removed, retired: planned.retired, backups: planned.backups });
  });

  test('lets a tenant go from a backup that another one needs, and says so to whoever asks for it', async () => {
    const [free, enterprise] = [await fixture.tenant('Free', 'free'), await fixture.tenant('Enterprise', 'enterprise')];
    const ids: string[] = [];
    for (const days of [20, 10, 2, 1, 0]) ids.push(await makeBackup(archive, { at: night(days), tenants: [free, enterprise] }));
    const [, old = '', , , newest = ''] = ids;
    const ref = refOf(archive, tenantSubject(free));
    expect(await retain()).toMatchObject({ removed: 0, retired: 1 });
    expect(await backupIds(archive)).toEqual(ids);
    const backup = await openBackup(archive, old);
    expect([backup.subjects.has(ref), backup.subjects.has(refOf(archive, tenantSubject(enterprise)))]).toEqual([false, true]);
    await expect(backupSource(archive, backup, free)).rejects.toMatchObject({
      code: 'backup_unknown',
      message: expect.stringMatching(/held it until 2026-11-21T12:00:00.000Z, when retention let it go/),
    });
    later(25);
    expect(await retain()).toMatchObject({ retired: 0, swept: { deleted: 1, marked: 0 } });
    const packs = await objectsOf(archive, `packs/${ref}/`);
    expect(packs).not.toContain(packObject(ref, old, 0));
    expect(packs).toContain(packObject(ref, newest, 0));
    expect(await soundness(archive)).toEqual({ missing: [], unreached: [] });
  });

  test('removes a backup whole, and what nothing else reaches after a grace', async () => {
    const tenant = await fixture.tenant('Whole', 'enterprise');
    // All of one week after the other: 200 days back stands for its week alone, and no month.
    const first = await makeBackup(archive, { at: night(203), tenants: [tenant] });
    const second = await makeBackup(archive, { at: night(201), tenants: [tenant] });
    for (const days of [2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    const before = await objectsOf(archive);
    expect(await retain()).toMatchObject({ removed: 1, swept: { deleted: 0 } });
    expect(await backupIds(archive)).not.toContain(second);
    expect(await backupIds(archive)).toContain(first);
    const marked = await objectsOf(archive);
    expect(before.filter((key) => !marked.includes(key))).toEqual([manifestObject(second)]);
    later(23);
    expect(await retain()).toMatchObject({ removed: 0, swept: { deleted: 0, marked: 0 } });
    later(1);
    expect(await retain()).toMatchObject({ swept: { deleted: 4 } });
    const gone = before.filter((key) => key.includes(second));
    const left = await objectsOf(archive);
    expect(before.filter((key) => !left.includes(key))).toEqual(gone);
    expect(gone).toContain(verifiedObject(second));
    expect(left.filter((key) => key.startsWith('sweep/'))).toEqual([]);
  });

  test('keeps packs and pages of a removed backup that a later one still points at', async () => {
    const tenant = await fixture.tenant('Idle', 'pro');
    await makeBackup(archive, { at: night(203), tenants: [tenant] });
    const stored = await makeBackup(archive, { at: night(201), tenants: [tenant] });
    for (const days of [2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [tenant], unchanged: [tenant] });
    const ref = refOf(archive, tenantSubject(tenant));
    await retain();
    later(30);
    await retain();
    expect(await backupIds(archive)).not.toContain(stored);
    expect(await objectsOf(archive)).toEqual(expect.arrayContaining([pagesObject(stored), packObject(ref, stored, 0)]));
    expect(await objectsOf(archive)).not.toContain(packObject(refOf(archive, 'platform'), stored, 0));
    expect((await soundness(archive)).missing).toEqual([]);
  });

  test('a backup that is being made loses nothing, however long ago it began within the grace', async () => {
    const tenant = await fixture.tenant('Running', 'pro');
    for (const days of [2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    const id = '20261121t110000z-0badf00d';
    const ref = refOf(archive, tenantSubject(tenant));
    await archive.store.put(packObject(ref, id, 0), Buffer.from('a pack whose manifest is yet to come'), { ifAbsent: true });
    expect(await retain()).toMatchObject({ swept: { marked: 1, deleted: 0 } });
    later(20);
    expect(await retain()).toMatchObject({ swept: { marked: 0, deleted: 0, waiting: 1 } });
    expect(await objectsOf(archive)).toContain(packObject(ref, id, 0));
    // Its process died; nothing ever reaches it.
    later(4);
    expect(await retain()).toMatchObject({ swept: { deleted: 1, waiting: 0 } });
  });

  test('an object that was marked and is reached again stays', async () => {
    const tenant = await fixture.tenant('Again', 'pro');
    for (const days of [4, 3, 2]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    const late = await makeBackup(archive, { at: night(1), tenants: [tenant] });
    const manifest: Buffer[] = [];
    for await (const piece of archive.store.get(manifestObject(late))) manifest.push(piece);
    // As while it was being made.
    await archive.store.delete(manifestObject(late));
    expect(await retain()).toMatchObject({ swept: { marked: 4 } });
    await archive.store.put(manifestObject(late), Buffer.concat(manifest), { ifAbsent: true });
    later(48);
    expect(await retain()).toMatchObject({ swept: { deleted: 0 } });
    expect((await soundness(archive)).missing).toEqual([]);
  });

  test('what is not verified pushes nothing out and is not kept for ever', async () => {
    const tenant = await fixture.tenant('Unverified', 'free');
    const verified: string[] = [];
    for (const days of [300, 200, 150]) verified.push(await makeBackup(archive, { at: night(days), tenants: [tenant] }));
    for (const days of [100, 2, 1]) await makeBackup(archive, { at: night(days), tenants: [tenant], verified: false });
    expect(await retain()).toMatchObject({ removed: 0, retired: 0 });
    const mended = await makeBackup(archive, { at: night(0), tenants: [tenant] });
    const report = await retain();
    expect(report.backups.filter(({ keep }) => !keep)).toMatchObject([{ verified: false, at: night(100).toISOString() }]);
    expect(await backupIds(archive)).toEqual(expect.arrayContaining([...verified.slice(1), mended]));
  });

  test('removes nothing while a backup cannot be read, and names it', async () => {
    const tenant = await fixture.tenant('Damaged', 'free');
    for (const days of [203, 201, 60, 40, 2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    const [, second = ''] = await backupIds(archive);
    await archive.store.delete(manifestObject(second));
    await archive.store.put(manifestObject(second), Buffer.from('{"manifest":{"format":"partywall.backup"'), { ifAbsent: true });
    const before = await objectsOf(archive);
    const report = await retain();
    expect(report).toMatchObject({ removed: 0, retired: 0, swept: null, problems: [expect.stringContaining(second)] });
    expect(await objectsOf(archive)).toEqual(before);
  });

  test('a record that somebody forged verifies nothing', async () => {
    const tenant = await fixture.tenant('Forged', 'free');
    for (const days of [2, 1]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    const fake = await makeBackup(archive, { at: night(0), tenants: [tenant], verified: false });
    const foreign = await base.open({
      store: `${base.folder}/store-${number}`,
      keyring: `${base.folder}/foreign-${number}`,
      escrow: `${base.folder}/foreign-escrow-${number}`,
    });
    await archive.store.put(verifiedObject(fake), Buffer.from('{}'), { ifAbsent: true });
    expect(await retain()).toMatchObject({ problems: [expect.stringContaining('verified.json')], removed: 0 });
    await archive.store.delete(verifiedObject(fake));
    // With the wrong keyring nothing can be read, and so nothing is removed.
    later(24 * 400);
    const report = await applyRetention(operation(), foreign);
    expect(report).toMatchObject({ removed: 0, retired: 0, swept: null });
    expect(report.problems).toHaveLength(3);
  });

  test('keeps everything of a tenant under a legal hold', async () => {
    const tenant = await fixture.tenant('Held', 'free');
    for (const days of [60, 40, 20, 8, 2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [tenant] });
    await fixture.control.pool.query("update partywall_control.directory set hold_reason = 'court', held_at = now() where tenant_id = $1", [tenant]);
    expect(await retain()).toMatchObject({ removed: 0, retired: 0 });
    await fixture.control.pool.query('update partywall_control.directory set hold_reason = null, held_at = null where tenant_id = $1', [tenant]);
    expect((await retain()).retired).toBeGreaterThan(0);
  });

  test('two at once come to the same end', async () => {
    const [free, pro] = [await fixture.tenant('Free 2', 'free'), await fixture.tenant('Pro 2', 'pro')];
    for (const days of [203, 201, 40, 20, 10, 2, 1, 0]) await makeBackup(archive, { at: night(days), tenants: [free, pro] });
    await Promise.all([retain(), retain(), retain()]);
    later(25);
    await Promise.all([retain(), retain()]);
    expect(await soundness(archive)).toEqual({ missing: [], unreached: [] });
    expect(await retain()).toMatchObject({ removed: 0, retired: 0, swept: { marked: 0, deleted: 0, waiting: 0 } });
  });

  test('is on record before anything goes', async () => {
    const tenant = await fixture.tenant('Audited', 'free');
    const ids: string[] = [];
    for (const days of [203, 201, 40, 2, 1, 0]) ids.push(await makeBackup(archive, { at: night(days), tenants: [tenant] }));
    await retain();
    const { rows } = await fixture.control.pool.query<{ details: unknown }>(
      "select details from partywall_control.audit_records where action = 'backup.retention' order by seq desc limit 1",
    );
    expect(rows[0]?.details).toEqual({ removed: 1, retired: 2, backups: [ids[1]] });
  });

  test('verifying late makes a backup count', async () => {
    const tenant = await fixture.tenant('Late', 'free');
    const ids: string[] = [];
    for (const days of [2, 1, 0]) ids.push(await makeBackup(archive, { at: night(days), tenants: [tenant], verified: false }));
    expect((await retain()).countedFrom).toBeNull();
    await verifyMade(archive, ids[1] ?? '', clock);
    expect((await retain()).countedFrom).toBe(night(1).toISOString());
  });
});
