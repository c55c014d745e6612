import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Radosgw, radosgwInstalled, startRadosgw } from '../../../../../test/support/radosgw.ts';
import { closeFilePlaces, type FilePlace, openFilePlaces } from '../../../src/archive/files/live-files.ts';

const needed = !radosgwInstalled && process.env['PARTYWALL_NO_SKIPS'] !== '1';

describe.skipIf(needed)('files in a bucket of Ceph', () => {
  let server: Radosgw;
  let place: FilePlace;
  beforeAll(async () => {
    server = await startRadosgw();
    const bucket = await server.createBucket({ lock: false });
    const rules = new Map([['uploads', { store: 'env:UPLOADS', prefix: 'up/{tenant}/' }]]);
    const env = { ...server.credentials, UPLOADS: `s3://${bucket}/base?endpoint=${server.endpoint}` };
    [place] = (await openFilePlaces(rules, { env })) as [FilePlace]; // one rule, one place
  });
  afterAll(async () => {
    closeFilePlaces([place]);
    await server.stop();
  });

  const body = async function* (text: string): AsyncGenerator<Buffer> {
    yield Buffer.from(text);
  };
  const names = ['Photo 1.JPG', 'line\nbreak', 'naïve ☃', '../x', 'a+b&c%20', '<xml>'];

  test('have any name, are listed below their own prefix alone, and are read as they are', async () => {
    const [a, ab] = [place.of('a'), place.of('ab')];
    for (const name of names) await a.write(name, body(`content of ${name}`), { modified: 0, mode: null });
    await ab.write('neighbour', body('x'), { modified: 0, mode: null });
    const { files } = await a.list();
    expect(files.map(({ path }) => path)).toEqual(names.toSorted());
    for (const file of files) {
      const pieces: Buffer[] = [];
      for await (const piece of a.read(file)) pieces.push(piece);
      expect(Buffer.concat(pieces).toString()).toBe(`content of ${file.path}`);
    }
    const [first] = files;
    await a.write(first?.path ?? '', body('another'), { modified: 0, mode: null });
    await expect(
      (async () => {
        if (first) for await (const _ of a.read(first)); // what is read is thrown away
      })(),
    ).rejects.toMatchObject({ name: 'FileChanged' });
    await a.clear();
    expect((await a.list()).files).toEqual([]);
    expect((await ab.list()).files).toHaveLength(1);
  });
});
