/**
 * While a tenant that came from a backup waits to be reconciled it is fenced, and its registry row says why and what it was, so that nothing has to be
 * remembered elsewhere: `recovered from 20261121t020000z-1f2e3d4c, was active: payment overdue`.
 */
export const recoveredPrefix = 'recovered from ';

export interface Recovered {
  readonly backup: string;
  /** State of the registry as the backup had it. */
  readonly was: string;
  readonly reason: string | null;
}

/** SQL: the reason that a registry row gets. @param backup a parameter such as `$1` */
export function recoveredReasonSql(backup: string): string {
  return `'${recoveredPrefix}' || ${backup} || ', was ' || state || coalesce(': ' || reason, '')`;
}

/** Undefined where the row does not wait. */
export function parseRecovered(reason: string | null): Recovered | undefined {
  const match = /^recovered from (\S+), was (\w+)(?:: ([\s\S]*))?$/.exec(reason ?? '');
  if (!match) return undefined;
  const [, backup = '', was = '', before] = match;
  return { backup, was, reason: before ?? null };
}
