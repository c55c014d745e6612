import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openGathered, type SpilledSegment } from '../../../src/archive/backup/gather.ts';
import { openBuckets } from '../../../src/archive/backup/reading/buckets.ts';
import { openSpill } from '../../../src/archive/backup/reading/spill.ts';
import { readSegment } from '../../../src/archive/format/segment.ts';
import type { DataKey } from '../../../src/keyring/data-keys.ts';

let folder: string;

beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-buckets-'));
});

afterEach(async () => {
  await fs.rm(folder, { recursive: true, force: true });
});

const backup = '20261121t020000z-1f2e3d4c';
const table = 'public.things';

interface Sealed {
  readonly keys: readonly DataKey[];
  segmentsOf(subject: number): SpilledSegment[];
  /** The plain content of a segment. */
  open(subject: number, segment: SpilledSegment): Promise<string>;
  close(): void;
}

/** Seals one part of a table as a thread with so much memory does. */
function sealed(subjects: number, memoryBytes: number, rows: Iterable<readonly [subject: number, row: string]>): Sealed {
  const files = { chunks: path.join(folder, 'chunks'), records: path.join(folder, 'records') };
  const keys = Array.from({ length: subjects }, (_, at): DataKey => {
    const hex = at.toString(16).padStart(32, '0');
    return { id: hex, ref: hex, subject: `tenant:${at}`, secret: randomBytes(32) };
  });
  const spill = openSpill(files);
  const buckets = openBuckets({ backup, keys, spill, memoryBytes });
  buckets.begin(0, table, 0);
  for (const [subject, row] of rows) {
    const bytes = Buffer.from(`${row}\n`);
    buckets.add(subject, bytes, 0, bytes.length);
  }
  buckets.end();
  spill.close();
  const gathered = openGathered([files], subjects);
  const groups = [...gathered.groups()];
  return {
    keys,
    segmentsOf: (subject) => groups.find(({ from, to }) => from <= subject && subject < to)?.segmentsOf(subject) ?? [],
    open: async (subject, segment) => {
      const key = keys[subject];
      if (!key) throw new Error(`no subject ${subject}`);
      const stored = async function* (): AsyncGenerator<Buffer> {
        yield* gathered.read(segment);
      };
      const pieces: Buffer[] = [];
      for await (const piece of readSegment(key, { backup, table, part: 0 }, segment, stored())) pieces.push(piece);
      return Buffer.concat(pieces).toString('utf8');
    },
    close: gathered.close,
  };
}

describe('rows that wait to be sealed', () => {
  test('are sealed at once for each of 10,000 subjects that have few of them, in the memory that a thread has', async () => {
    const subjects = 10_001;
    const rows = [0, 1].flatMap((round) => Array.from({ length: subjects }, (_, at) => [at, `${at} ${round}`] as const));
    const found = sealed(subjects, 32 * 1024 ** 2, rows);
    try {
      const pieces = Array.from({ length: subjects }, (_, at) => found.segmentsOf(at).map(({ chunks }) => chunks));
      expect(pieces.filter((chunks) => chunks.join() !== '1')).toEqual([]);
      const [segment] = found.segmentsOf(9_999);
      expect(segment && (await found.open(9_999, segment))).toBe('9999 0\n9999 1\n');
    } finally {
      found.close();
    }
  });

  test('are all there, in their order, where they do not fit and are sealed in pieces: blocks are as small as they get', async () => {
    const subjects = 1_500;
    const row = (subject: number, at: number): string => `${subject} ${at} ${'x'.repeat((subject * 7 + at * 131) % 900)}`;
    const rows = function* (): Generator<readonly [number, string]> {
      for (let at = 0; at < 10; at += 1) for (let subject = 0; subject < subjects; subject += 1) yield [subject, row(subject, at)];
    };
    const found = sealed(subjects, 2 * 1024 ** 2, rows());
    try {
      let inPieces = 0;
      for (let subject = 0; subject < subjects; subject += 97) {
        const [segment, ...more] = found.segmentsOf(subject);
        expect(more).toEqual([]);
        if ((segment?.chunks ?? 0) > 1) inPieces += 1;
        const expected = Array.from({ length: 10 }, (_, at) => `${row(subject, at)}\n`).join('');
        expect(segment && (await found.open(subject, segment)), `subject ${subject}`).toBe(expected);
      }
      expect(inPieces).toBeGreaterThan(0);
    } finally {
      found.close();
    }
  });
});
