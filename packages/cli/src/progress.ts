/** How far a piece of work is. `total` unknown means that only the count is shown. */
export interface Progress {
  readonly label: string;
  readonly done: number;
  readonly total?: number;
  readonly unit: string;
}

/** Plain output gets a line for each label, and one more in this time while a label goes on. */
const plainIntervalMs = 5_000;
/** A rate from less time than this is noise. */
const rateAfterMs = 1_000;

/** `backfilling public.notes  120,000 of 400,000 rows  30 %  40,000/s  7 s left` */
export function progressLine(progress: Progress, elapsedMs: number): string {
  const { label, done, total, unit } = progress;
  const parts = [label];
  if (total !== undefined) {
    parts.push(`${count(done)} of ${count(total)} ${unit}`);
    if (total > 0) parts.push(`${Math.floor((100 * Math.min(done, total)) / total)} %`);
  } else if (done > 0) {
    parts.push(`${count(done)} ${unit}`);
  }
  const perSecond = elapsedMs >= rateAfterMs ? (1000 * done) / elapsedMs : 0;
  if (perSecond >= 1) {
    parts.push(`${count(Math.round(perSecond))}/s`);
    if (total !== undefined && total > done) parts.push(`${duration((total - done) / perSecond)} left`);
  }
  return parts.join('  ');
}

/** Decides which progress to print where there is no terminal: the first of each label, then one per interval. */
export function plainFilter(now: () => number): (progress: Progress) => boolean {
  let label: string | undefined;
  let printedAt = 0;
  return (progress) => {
    const at = now();
    if (progress.label === label && at - printedAt < plainIntervalMs) return false;
    label = progress.label;
    printedAt = at;
    return true;
  };
}

export function duration(seconds: number): string {
  if (seconds < 1) return 'under 1 s';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5_400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}
