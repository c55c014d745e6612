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
