import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Gathered, openGathered, recordsMax, type SpilledSegment } from '../../../src/archive/backup/gather.ts';
import { openSpill, type SpillFiles } from '../../../src/archive/backup/reading/spill.ts';

let folder: string;

beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-gather-'));
});

afterEach(async () => {
  await fs.rm(folder, { recursive: true, force: true });
});

interface Written {
  readonly subject: number;
  readonly source: number;
  readonly part?: number;
  /** Content of each chunk. */
  readonly chunks: readonly string[];
}

/** Chunks as a thread writes them: the first of every segment, then the second of those that have one, and so on. */
function spilled(name: string, segments: Iterable<Written>): SpillFiles {
  const files = { chunks: path.join(folder, `${name}.chunks`), records: path.join(folder, `${name}.records`) };
  const spill = openSpill(files);
  let open: Iterable<Written> = segments;
  for (let chunk = 0; ; chunk += 1) {
    const going: Written[] = [];
    for (const segment of open) {
      const { subject, source, part = 0, chunks } = segment;
      const last = chunk === chunks.length - 1;
      const content = Buffer.from(chunks[chunk] ?? '');
      spill.write([content], { subject, source, part, chunk, last, rows: 1, plainBytes: 10, mac: last ? Buffer.alloc(32, subject % 256) : undefined });
      if (!last) going.push(segment);
    }
    if (going.length === 0) break;
    open = going;
  }
  spill.close();
  return files;
}

describe('what threads wrote', () => {
  test('comes together by subject, source and part, whichever thread wrote it and however its chunks lie', () => {
    const one = spilled('one', [
      { subject: 2, source: 1, part: 1, chunks: ['2-1-1a', '2-1-1b'] },
      { subject: 0, source: 3, chunks: ['0-3a', '0-3b', '0-3c'] },
      { subject: 2, source: 0, chunks: ['2-0'] },
    ]);
    const other = spilled('other', [
      { subject: 2, source: 1, part: 0, chunks: ['2-1-0'] },
      { subject: 0, source: 2, chunks: ['0-2'] },
    ]);
    const gathered = openGathered([one, other], 4);
    const found = [...gathered.groups()].flatMap(({ from, to, segmentsOf }) =>
      Array.from({ length: to - from }, (_, at) =>
        segmentsOf(from + at).map((segment) => ({
          name: [from + at, segment.source, segment.part],
          content: Buffer.concat([...gathered.read(segment)]).toString(),
          whole: wholeOf(gathered, segment),
          sum: [segment.chunks, segment.rows, segment.plainBytes, segment.bytes],
          mac: segment.mac,
        })),
      ),
    );
    gathered.close();
    expect(found).toEqual([
      [
        { name: [0, 2, 0], content: '0-2', whole: ['>0-2', 4], sum: [1, 1, 10, 3], mac: '00'.repeat(32) },
        { name: [0, 3, 0], content: '0-3a0-3b0-3c', whole: ['>0-3a0-3b0-3c', 13], sum: [3, 3, 30, 12], mac: '00'.repeat(32) },
      ],
      [],
      [
        { name: [2, 0, 0], content: '2-0', whole: ['>2-0', 4], sum: [1, 1, 10, 3], mac: '02'.repeat(32) },
        { name: [2, 1, 0], content: '2-1-0', whole: ['>2-1-0', 6], sum: [1, 1, 10, 5], mac: '02'.repeat(32) },
        { name: [2, 1, 1], content: '2-1-1a2-1-1b', whole: ['>2-1-1a2-1-1b', 13], sum: [2, 2, 20, 12], mac: '02'.repeat(32) },
      ],
      [],
    ]);
  });

  test('is in memory as many records at a time as the limit says, unless one subject has more', () => {
    const perSubject = 1_000;
    const large = 40;
    const subjects = Math.ceil((1.2 * recordsMax) / perSubject);
    function* segments(): Generator<Written> {
      for (let source = 0; source < perSubject; source += 1)
        for (let subject = 0; subject < subjects; subject += 1) if (subject !== large) yield { subject, source, chunks: [''] };
      for (let source = 0; source <= recordsMax; source += 1) yield { subject: large, source, chunks: [''] };
    }
    const gathered = openGathered([spilled('one', segments())], subjects);
    const groups = [...gathered.groups()].map(({ from, to, segmentsOf }) => ({
      from,
      to,
      records: Array.from({ length: to - from }, (_, at) => segmentsOf(from + at).length),
    }));
    gathered.close();
    const records = groups.flatMap((group) => group.records);
    expect(records).toEqual(Array.from({ length: subjects }, (_, subject) => (subject === large ? recordsMax + 1 : perSubject)));
    for (const [at, group] of groups.entries()) {
      expect(group.from).toBe(groups[at - 1]?.to ?? 0);
      if (group.to - group.from > 1) expect(group.records.reduce((sum, each) => sum + each, 0)).toBeLessThanOrEqual(recordsMax);
    }
    expect(groups.length).toBe(4);
  });

  test('is nothing where nothing was written', () => {
    const gathered = openGathered([spilled('one', [])], 2);
    const [group, ...more] = gathered.groups();
    gathered.close();
    expect([group?.from, group?.to, group?.segmentsOf(0), group?.segmentsOf(1), more]).toEqual([0, 2, [], [], []]);
  });
});

/** A segment read in one piece behind what is there already, and where it ends. */
function wholeOf(gathered: Gathered, segment: SpilledSegment): [string, number] {
  const buffer = Buffer.alloc(segment.bytes + 1, '>');
  const end = gathered.readInto(buffer, 1, segment);
  return [buffer.toString(), end];
}
