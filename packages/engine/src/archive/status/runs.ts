import type { Operation } from '../../db/operation.ts';
import { microsecondsOf, timeOf } from '../../db/time-cursor.ts';
import { PartywallError } from '../../errors.ts';
import type { DataClass } from '../format/manifest.ts';

/** A backup that was begun, as the database remembers it; the archive is what counts. */
export interface BackupRunEntry {
  readonly id: string;
  /** Null: it did not get so far. */
  readonly backup: string | null;
  readonly reason: string;
  readonly scope: 'all' | 'tenants';
  readonly classes: readonly DataClass[];
  /** `stored`: not verified yet, so it does not count. */
  readonly state: 'running' | 'stored' | 'verified' | 'failed';
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
  readonly verifiedAt: Date | null;
  readonly error: string | null;
  readonly counts: Readonly<Record<string, unknown>>;
}

export interface RunCursor {
  /** Microseconds since 1970. */
  readonly at: number;
  readonly id: string;
}

const columns = `r.id, r.backup, r.reason, r.scope, r.classes, r.state, r.started_at as "startedAt", r.finished_at as "finishedAt",
  r.verified_at as "verifiedAt", r.error, r.counts`;

/** Latest first, `limit + 1` of them: the one too many tells that there is another page. */
export async function listBackupRuns(
  { database }: Operation,
  input: { readonly state?: BackupRunEntry['state'] | undefined; readonly limit: number; readonly after?: RunCursor | undefined },
): Promise<(BackupRunEntry & { readonly cursor: RunCursor })[]> {
  const { rows } = await database.pool.query<BackupRunEntry & { cursorAt: string }>(
    `select ${columns}, ${microsecondsOf('r.started_at')} as "cursorAt" from partywall_control.backup_runs r
where ($1::text is null or r.state = $1) and ($2::bigint is null or (r.started_at, r.id) < (${timeOf('$2')}, $3)) order by r.started_at desc, r.id desc limit $4`,
    [input.state ?? null, input.after?.at ?? null, input.after?.id ?? null, input.limit + 1],
  );
  return rows.map(({ cursorAt, ...entry }) => ({ ...entry, cursor: { at: Number(cursorAt), id: entry.id } }));
}

/** @param backup its name in the archive @throws PartywallError backup_unknown */
export async function readBackupRun({ database }: Operation, backup: string): Promise<BackupRunEntry> {
  const { rows } = await database.pool.query<BackupRunEntry>(`select ${columns} from partywall_control.backup_runs r where r.backup = $1`, [backup]);
  if (rows[0]) return rows[0];
  throw new PartywallError('backup_unknown', `looking for backup ${JSON.stringify(backup.slice(0, 100))}: none is remembered under this name`);
}
