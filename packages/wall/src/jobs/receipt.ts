/** What became of a run, as it is stored. Every tenant that was there when the run began is in one of the four counts. */
export interface JobReceipt {
  readonly job: string;
  readonly runKey: string;
  readonly startedAt: string;
  readonly resumedAt: string | null;
  readonly endedAt: string;
  /** `complete`: every tenant was visited, and none failed. */
  readonly status: 'complete' | 'incomplete';
  readonly planned: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly skipped: number;
  /** Left over by a run that was broken off; the same run key goes on with them. */
  readonly notVisited: number;
  /** How many tenants were skipped, by reason. */
  readonly skips: Readonly<Record<string, number>>;
  /** The first of them by tenant; `partywall jobs show` lists all. */
  readonly failures: readonly { readonly tenant: string; readonly reason: string }[];
  /** As the walled clients saw them, of the tenants that succeeded. */
  readonly rowsRead: number;
  readonly rowsWritten: number;
  /** What was never zero in the last complete runs of the job and is. */
  readonly alerts: readonly JobAlert[];
}

export type JobAlert =
  | { readonly kind: 'zero'; readonly measure: 'rowsRead' | 'rowsWritten' | 'succeeded' }
  | { readonly kind: 'zero_tenants'; readonly count: number; readonly tenants: readonly string[] };

/** `visited 58 of 60: 55 succeeded, 1 failed, 2 skipped (suspended 2); 1200 rows read, 0 written`, and what is wrong with it. */
export function receiptText({ planned, notVisited, succeeded, failed, skipped, skips, rowsRead, rowsWritten, alerts }: JobReceipt): string {
  const reasons = Object.entries(skips).map(([reason, count]) => `${reason} ${count}`);
  const outcomes = `${succeeded} succeeded, ${failed} failed, ${skipped} skipped${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}`;
  return [
    `visited ${planned - notVisited} of ${planned}: ${outcomes}; ${rowsRead} rows read, ${rowsWritten} written`,
    ...alerts.map((alert) =>
      alert.kind === 'zero' ? `${alert.measure} is 0 and never was` : `${alert.count} tenants saw no row and always did: ${alert.tenants.join(', ')}`,
    ),
  ].join('; ALERT: ');
}
