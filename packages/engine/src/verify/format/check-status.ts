import type { Check, VerifyReport } from '../report.ts';

/** What a check's line says once decisions about findings are taken in: a check whose findings are all accepted does not fail. */
export type CheckStatus = 'pass' | 'fail' | 'accepted' | 'could not run' | 'not applicable';

export function statusOf(check: Check, report: VerifyReport): CheckStatus {
  if (check.outcome !== 'fail') return check.outcome;
  return report.findings.some((finding) => finding.rule === check.rule) ? 'fail' : 'accepted';
}

/** The checks by where they were made, in the order of the report. */
export function bySurface(report: VerifyReport): [surface: Check['surface'], checks: Check[]][] {
  const groups = new Map<Check['surface'], Check[]>();
  for (const check of report.checks) groups.set(check.surface, [...(groups.get(check.surface) ?? []), check]);
  return [...groups];
}
