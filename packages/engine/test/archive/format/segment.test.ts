import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readSegment, type SegmentName, type SegmentSum, segmentHeaderBytes, writeSegment } from '../../../src/archive/format/segment.ts';
import type { DataKey } from '../../../src/keyring/data-keys.ts';

const key = (): DataKey => ({ id: randomBytes(16).toString('hex'), ref: randomBytes(16).toString('hex'), subject: 'platform', secret: randomBytes(32) });
const name: SegmentName = { backup: '20261121t020000z-1f2e3d4c', table: 'public.customers', part: 3 };

interface Stored {
  readonly bytes: Buffer;
  readonly sum: SegmentSum;
  /** Where each chunk begins, and the end. */
  readonly edges: readonly number[];
}

function write(dataKey: DataKey, pieces: readonly Uint8Array[], named = name): Stored {
  const writer = writeSegment(dataKey, named);
  const chunks = pieces.map((piece, at) => writer.chunk(Buffer.from(piece), at === pieces.length - 1));
  const edges = [segmentHeaderBytes];
  for (const chunk of chunks) edges.push((edges.at(-1) ?? 0) + chunk.length);
  return { bytes: Buffer.concat([writer.header, ...chunks]), sum: writer.sum(), edges };
}

async function* cut(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function open(dataKey: DataKey, { bytes, sum }: Pick<Stored, 'bytes' | 'sum'>, { size = 1_000, named = name } = {}): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of readSegment(dataKey, named, sum, cut(bytes, size))) pieces.push(piece);
  return Buffer.concat(pieces);
}

const content = fc.array(fc.uint8Array({ maxLength: 3_000 }), { minLength: 1, maxLength: 6 });

describe('a segment', () => {
  test('gives back what was written, however the stored bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(content, fc.integer({ min: 1, max: 5_000 }), async (pieces, size) => {
        const dataKey = key();
        expect((await open(dataKey, write(dataKey, pieces), { size })).equals(Buffer.concat(pieces))).toBe(true);
      }),
    );
  });

  test('refuses every flipped byte, and says which chunk', async () => {
    await fc.assert(
      fc.asyncProperty(content, fc.nat(), fc.integer({ min: 1, max: 255 }), async (pieces, where, mask) => {
        const dataKey = key();
        const stored = write(dataKey, pieces);
        const bytes = Buffer.from(stored.bytes);
        const at = where % bytes.length;
        bytes[at] = (bytes[at] ?? 0) ^ mask;
        await expect(open(dataKey, { bytes, sum: stored.sum })).rejects.toMatchObject({
          code: 'archive_damaged',
          message: expect.stringMatching(/public\.customers part 3 of backup 20261121t020000z-1f2e3d4c: /),
        });
      }),
    );
  });

  test('refuses to be cut short at any place, and to be longer', async () => {
    await fc.assert(
      fc.asyncProperty(content, fc.nat(), async (pieces, where) => {
        const dataKey = key();
        const { bytes, sum } = write(dataKey, pieces);
        await expect(open(dataKey, { bytes: bytes.subarray(0, where % bytes.length), sum })).rejects.toMatchObject({ code: 'archive_damaged' });
        await expect(open(dataKey, { bytes: Buffer.concat([bytes, Buffer.from([0])]), sum })).rejects.toMatchObject({ code: 'archive_damaged' });
      }),
    );
  });

  test('refuses chunks that were left out, repeated, exchanged, or taken from another segment', async () => {
    const dataKey = key();
    const pieces = ['one\n', 'two\n', 'three\n'].map((text) => Buffer.from(text));
    const stored = write(dataKey, pieces);
    const part = ({ bytes, edges }: Stored, at: number): Buffer => bytes.subarray(edges[at], edges[at + 1]);
    const header = stored.bytes.subarray(0, segmentHeaderBytes);
    const [first, second, third] = [part(stored, 0), part(stored, 1), part(stored, 2)];
    const other = part(write(dataKey, pieces), 1);
    const forged = [
      [first, third],
      [first, second],
      [first, second, second],
      [second, first, third],
      [first, other, third],
      [first, second, third, third],
    ];
    for (const chunks of forged) {
      await expect(open(dataKey, { bytes: Buffer.concat([header, ...chunks]), sum: stored.sum })).rejects.toMatchObject({ code: 'archive_damaged' });
    }
    // A page that says there are two chunks does not make the second the last.
    await expect(open(dataKey, { bytes: Buffer.concat([header, first, second]), sum: { ...stored.sum, chunks: 2 } })).rejects.toThrow('chunk 2 of 2');
  });

  test('opens with its own key, name and content only', async () => {
    const dataKey = key();
    const stored = write(dataKey, [Buffer.from('a\tb\n')]);
    await expect(open(key(), stored)).rejects.toThrow('it was not encrypted with key');
    await expect(open({ ...dataKey, ref: key().ref }, stored)).rejects.toThrow('chunk 1 of 1 does not open');
    for (const named of [
      { ...name, part: 4 },
      { ...name, table: 'public.users' },
      { ...name, backup: '20261121t020000z-00000000' },
    ]) {
      await expect(open(dataKey, stored, { named })).rejects.toMatchObject({ code: 'archive_damaged' });
    }
    await expect(open(dataKey, { ...stored, sum: { ...stored.sum, mac: '0'.repeat(64) } })).rejects.toThrow('its content is not what its page says');
    await expect(open(dataKey, { ...stored, sum: { ...stored.sum, plainBytes: 3 } })).rejects.toMatchObject({ code: 'archive_damaged' });
  });

  test('does not commit to two keys: another commitment in the header opens with neither', async () => {
    const [mine, theirs] = [key(), key()];
    const [stored, other] = [write(mine, [Buffer.from('x\n')]), write(theirs, [Buffer.from('x\n')])];
    const bytes = Buffer.concat([stored.bytes.subarray(0, 32), other.bytes.subarray(32, 64), stored.bytes.subarray(64)]);
    for (const dataKey of [mine, theirs]) await expect(open(dataKey, { bytes, sum: stored.sum })).rejects.toThrow('it was not encrypted with key');
  });

  test('has a hash that tells equal content of one table and key, and nothing to whoever lacks the key', () => {
    const dataKey = key();
    const text = Buffer.from('yes\n');
    const mac = (of: DataKey, named = name): string => write(of, [text], named).sum.mac;
    expect(mac(dataKey)).toBe(mac(dataKey));
    expect(mac(dataKey, { ...name, backup: '20261122t020000z-1f2e3d4c', part: 9 })).toBe(mac(dataKey));
    expect(mac(dataKey, { ...name, table: 'public.users' })).not.toBe(mac(dataKey));
    expect(mac(key())).not.toBe(mac(dataKey));
    expect(write(dataKey, [text]).bytes.equals(write(dataKey, [text]).bytes)).toBe(false);
  });

  test('that unpacks to more than its page says is not unpacked', async () => {
    const dataKey = key();
    const stored = write(dataKey, [Buffer.alloc(50_000_000)]);
    expect(stored.bytes.length).toBeLessThan(10_000);
    await expect(open(dataKey, { ...stored, sum: { ...stored.sum, plainBytes: 10 } })).rejects.toMatchObject({ code: 'archive_damaged' });
  });
});

test('the object is let go of, whether a segment was read to its end, was damaged or was left early', async () => {
  const dataKey = key();
  const { bytes, sum } = write(dataKey, [Buffer.alloc(3_000, 'a'), Buffer.alloc(3_000, 'b')]);
  const ends: string[] = [];
  const watched = async function* (how: string, content: Buffer): AsyncGenerator<Buffer> {
    try {
      yield* cut(content, 10);
    } finally {
      ends.push(how);
    }
  };
  for await (const _ of readSegment(dataKey, name, sum, watched('whole', bytes))); // what is read is thrown away
  await expect(readSegment(key(), name, sum, watched('another key', bytes)).next()).rejects.toMatchObject({ code: 'archive_damaged' });
  for await (const _ of readSegment(dataKey, name, sum, watched('left', bytes))) break;
  expect(ends).toEqual(['whole', 'another key', 'left']);
});
