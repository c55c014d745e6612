import type { IndexAdvice } from '@partywall/engine';

const mebibyte = 1_048_576;

/** Index advice as lines; advice is no failure. */
export function indexLines(advice: IndexAdvice): string[] {
  const missing = advice.missing.map((index) => `  ${index.statement};  -- ${index.reason}`);
  const unused = advice.unused.map((index) => `  ${index.table}: ${index.index}, ${(index.bytes / mebibyte).toFixed(1)} MiB`);
  const slow = advice.slow?.map((query) => `  ${query.meanMs.toFixed(1)} ms × ${query.calls}: ${query.query.replaceAll(/\s+/g, ' ').slice(0, 120)}`);
  return [
    '',
    ...section('missing indexes', missing),
    ...section(`indexes that nothing has read since ${advice.since ?? 'the statistics began'}`, unused),
    ...(slow ? section('slow queries on walled tables', slow) : ['slow queries: pg_stat_statements is not installed']),
  ];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [`${title}: none`] : [`${title}:`, ...lines];
}
