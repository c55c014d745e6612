import type pg from 'pg';
import { openBuckets } from './buckets.ts';
import { copyOut } from './copy-rows.ts';
import type { MarksUnit, ReaderStart, RowsUnit, Tally } from './protocol.ts';
import { openSpill } from './spill.ts';
import { copyText, subjectIndex } from './subject-index.ts';

/** Reads tables over one connection, which is in the snapshot of the backup, and seals what it reads; one thing at a time. */
export interface Reader {
  /** One statement for all of them; their tallies in their order. */
  readMarks(units: readonly MarksUnit[]): Promise<Tally[]>;
  readRows(unit: RowsUnit): Promise<Tally>;
  /** Writes out what was sealed. @throws PartywallError store_full */
  close(): void;
}

export type Reading = Pick<ReaderStart, 'backup' | 'subjects' | 'files' | 'memoryBytes'>;

/** @throws PartywallError store_full */
export function openReader(client: pg.Client, { backup, subjects, files, memoryBytes }: Reading): Reader {
  const keys = subjects.map(({ key }) => key);
  const texts = subjects.map(({ text }) => text);
  const numbers = new Map(texts.map((text, number) => [text, number]));
  const index = subjectIndex(texts.map(copyText));
  const spill = openSpill(files);
  const buckets = openBuckets({ backup, keys, spill, memoryBytes });
  return {
    readMarks: async (units) => {
      const tallies = units.map(() => ({ counts: new Float64Array(keys.length), sums: new BigUint64Array(keys.length) }));
      const selects = units.map(({ sql }, at) => `select ${at}, m.* from (${sql}) m (subject, count, sum)`);
      const { rows } = await client.query<[unit: number, subject: string | null, rows: string, sum: string]>({
        text: selects.join('\nunion all '),
        rowMode: 'array',
      });
      for (const [unit, text, count, sum] of rows) {
        const tally = tallies[unit];
        if (!tally) continue;
        const subject = (text === null ? undefined : numbers.get(text)) ?? 0;
        tally.counts[subject] = (tally.counts[subject] ?? 0) + Number(count);
        tally.sums[subject] = BigInt.asUintN(64, (tally.sums[subject] ?? 0n) + BigInt(sum));
      }
      return tallies.map(({ counts, sums }) => tallyOf(counts, sums));
    },
    readRows: async ({ source, table, part, sql, begins, wanted }) => {
      const rows = new Float64Array(keys.length);
      buckets.begin(source, table, part);
      await copyOut(client, sql, (bytes, at, end) => {
        const subject = begins === 'row' ? 0 : index.find(bytes, at);
        if (wanted[subject] !== 1) return;
        rows[subject] = (rows[subject] ?? 0) + 1;
        buckets.add(subject, bytes, begins === 'prefix' ? index.keyEnd + 1 : at, end);
      });
      buckets.end();
      return tallyOf(rows, new BigUint64Array(keys.length));
    },
    close: spill.close,
  };
}

function tallyOf(rows: Float64Array, sums: BigUint64Array): Tally {
  const subjects = Uint32Array.from(rows.keys()).filter((subject) => rows[subject] !== 0);
  return {
    subjects,
    rows: Float64Array.from(subjects, (subject) => rows[subject] ?? 0),
    sums: BigUint64Array.from(subjects, (subject) => sums[subject] ?? 0n),
  };
}
