import { backUp, checkBackupErasure, previewBackupErasure, readErasureList } from '@partywall/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { type Radosgw, radosgwInstalled, startRadosgw } from '../../../../../test/support/radosgw.ts';
import type { ArchiveSettings, OpenArchive } from '../../../src/archive/open-archive.ts';
import { certified, eraser, furnished, refOf } from './erasing.ts';

const needed = !radosgwInstalled && process.env['PARTYWALL_NO_SKIPS'] !== '1';
const fixture = await controlDatabase();
const base = await archiveFixture({ keyring: fixture.control.keyring });

describe.skipIf(needed)('in a bucket with object lock', () => {
  let server: Radosgw;
  let bucket: Partial<ArchiveSettings>;
  beforeAll(async () => {
    server = await startRadosgw();
    const name = await server.createBucket({ lock: true });
    bucket = { store: `s3://${name}/archive?endpoint=${server.endpoint}&lock=governance`, env: { ...server.credentials } };
  });
  afterAll(() => server.stop());

  test('the keys go, the objects stay until their locks end, and the certificate says when that is', async () => {
    const archive = await base.open(bucket);
    const [gone, stays] = [await furnished(fixture, 'gone', 5), await furnished(fixture, 'stays', 5)];
    await backUp(fixture.operation(), archive, { reason: 'test' });
    const packs = `packs/${refOf(archive, gone)}/`;
    const before = await stored(archive, packs);
    const until = await Promise.all(before.map(async ({ key }) => (await archive.store.head(key))?.lockedUntil?.toISOString() ?? ''));
    expect(until.sort().at(-1)).not.toBe('');
    expect((await previewBackupErasure(archive, gone)).lockedUntil).toBe(until.at(-1));

    expect(await eraser(fixture, () => base.open(bucket)).erase(gone)).toMatchObject({ state: 'done', error: null });
    const erased = await certified(fixture.operation(), gone);
    expect(erased).toMatchObject({ lockedUntil: until.at(-1), held: { objects: before.length } });
    const list = await readErasureList(archive.store, erased.list ?? { object: '', sha256: '' });
    expect(list.objects.map(({ object, lockedUntil }) => [object, until.includes(lockedUntil ?? '')])).toEqual(before.map(({ key }) => [key, true]));
    expect(await stored(archive, packs)).toEqual(before);
    const fresh = await base.open(bucket);
    expect(await checkBackupErasure(fresh, erased)).toMatchObject({ valid: true, segments: erased.held.segments });
    expect(refOf(fresh, stays)).not.toBe('');
  });
});

async function stored({ store }: OpenArchive, prefix: string): Promise<{ key: string; bytes: number }[]> {
  const found: { key: string; bytes: number }[] = [];
  for await (const { key, bytes } of store.list(prefix)) found.push({ key, bytes });
  return found;
}
