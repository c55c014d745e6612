import { createHash } from 'node:crypto';
import type { Tally } from './reading/protocol.ts';

/** What tells whether a tenant's rows of a table changed since a backup, for all tenants of a source. */
export interface Marks {
  readonly rows: Float64Array;
  /** The page's text for a subject; null where its rows cannot be trusted to change with it. */
  markOf(subject: number): string | null;
  add(tally: Tally): void;
}

/** @param prefix null: the text of a row may change although the row does not */
export function openMarks(subjects: number, prefix: string | null): Marks {
  const rows = new Float64Array(subjects);
  const sums = new BigUint64Array(subjects);
  return {
    rows,
    markOf: (subject) => (prefix === null ? null : `${prefix}-${rows[subject]}-${(sums[subject] ?? 0n).toString(16)}`),
    add: (tally) => {
      for (const [at, subject] of tally.subjects.entries()) {
        rows[subject] = (rows[subject] ?? 0) + (tally.rows[at] ?? 0);
        sums[subject] = BigInt.asUintN(64, (sums[subject] ?? 0n) + (tally.sums[at] ?? 0n));
      }
    },
  };
}

export interface SubjectMarks {
  /** Names of the sources. */
  readonly names: readonly string[];
  readonly marks: readonly Marks[];
  /** Of the schema, which the platform's page has too. */
  readonly schema: string;
  /** Whether files are backed up with the rows: without them, a page that has some says too much. */
  readonly files: boolean;
}

/**
 * All that a page says of the rows of a subject, in one hash, so that ten thousand unchanged subjects are known as such from the manifest, and none of
 * their pages are read. Undefined where a table has no mark.
 *
 * @param keyId of the key that all of its segments are sealed with
 */
export function marksHash({ names, marks, schema, files }: SubjectMarks, subject: number, keyId: string): string | undefined {
  const hash = createHash('sha256').update(`${keyId}\t${files}\n`);
  for (const [number, mine] of marks.entries()) {
    if ((mine.rows[subject] ?? 0) === 0) continue;
    const mark = mine.markOf(subject);
    if (mark === null) return undefined;
    hash.update(`${names[number]}\t${mark}\n`);
  }
  if (subject === 0) hash.update(`\t${schema}\n`);
  return hash.digest('hex');
}
