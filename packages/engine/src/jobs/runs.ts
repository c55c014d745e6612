import type { Operation } from '../db/operation.ts';

/** `running`: its process holds the job's lock. `broken off`: it does not, and the run has not ended. */
export type JobStatus = 'running' | 'broken off' | 'incomplete' | 'complete';

/** A run of a job over all tenants, as `forEachTenant` of the application wrote it down (docs/guide/jobs.md). Times are ISO 8601 in UTC. */
export interface JobRun {
  readonly job: string;
  readonly runKey: string;
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly status: JobStatus;
  readonly planned: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly skipped: number;
  readonly notVisited: number;
  readonly rowsRead: number;
  readonly rowsWritten: number;
  /** What was never zero and is: `rowsWritten is 0`, a line each. */
  readonly alerts: readonly string[];
}

export interface JobVisitRecord {
  readonly tenant: string;
  readonly outcome: 'pending' | 'succeeded' | 'failed' | 'skipped';
  readonly reason: string | null;
  readonly attempts: number;
  readonly rowsRead: number;
  readonly rowsWritten: number;
}

export const jobsMax = 1_000;
export const jobVisitsMax = 1_000;

interface RunRow extends Omit<JobRun, 'startedAt' | 'endedAt' | 'alerts' | 'status'> {
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  readonly locked: boolean;
  readonly stored: string | null;
  readonly alerts: readonly { readonly kind: string; readonly measure?: string; readonly count?: number; readonly tenants?: readonly string[] }[] | null;
}

/** Counts come from the visits themselves, so that a run that goes on, or was broken off, is told as far as it is. */
const runColumns = `r.job, r.run_key as "runKey", r.started_at as "startedAt", r.ended_at as "endedAt", r.receipt ->> 'status' as stored, r.receipt -> 'alerts' as alerts,
  v.*, exists (select from pg_catalog.pg_locks l where l.locktype = 'advisory' and l.objsubid = 1
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
    and (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtextextended('partywall:job:' || r.job, 0)
    and r.id = (select max(n.id) from partywall.job_runs n where n.job = r.job and n.ended_at is null)) as locked`;
const countsSql = `lateral (select count(*)::double precision as planned, (count(*) filter (where v.outcome = 'succeeded'))::double precision as succeeded,
  (count(*) filter (where v.outcome = 'failed'))::double precision as failed, (count(*) filter (where v.outcome = 'skipped'))::double precision as skipped,
  (count(*) filter (where v.outcome = 'pending'))::double precision as "notVisited", coalesce(sum(v.rows_read), 0)::double precision as "rowsRead",
  coalesce(sum(v.rows_written), 0)::double precision as "rowsWritten" from partywall.job_visits v where v.run = r.id) v`;

/** The latest run of each job, by name. */
export async function listJobs({ database }: Pick<Operation, 'database'>): Promise<JobRun[]> {
  const { rows } = await database.pool.query<RunRow>(
    `select ${runColumns} from partywall.job_runs r, ${countsSql}
where r.id = (select max(l.id) from partywall.job_runs l where l.job = r.job) order by r.job limit $1`,
    [jobsMax],
  );
  return rows.map(runOf);
}

/** The runs of one job, latest first; with a run key that one alone. */
export async function listJobRuns(
  { database }: Pick<Operation, 'database'>,
  input: { readonly job: string; readonly runKey?: string | undefined },
): Promise<JobRun[]> {
  const { rows } = await database.pool.query<RunRow>(
    `select ${runColumns} from partywall.job_runs r, ${countsSql} where r.job = $1 and ($2::text is null or r.run_key = $2) order by r.id desc limit $3`,
    [input.job, input.runKey, jobsMax],
  );
  return rows.map(runOf);
}

/** What became of the tenants of a run, those first that did not succeed; at most `jobVisitsMax`. */
export async function listJobVisits(
  { database }: Pick<Operation, 'database'>,
  input: { readonly job: string; readonly runKey: string },
): Promise<JobVisitRecord[]> {
  const { rows } = await database.pool.query<JobVisitRecord>(
    `select v.tenant_id as tenant, v.outcome, v.reason, v.attempts, v.rows_read::double precision as "rowsRead", v.rows_written::double precision as "rowsWritten"
from partywall.job_visits v join partywall.job_runs r on r.id = v.run where r.job = $1 and r.run_key = $2
order by array_position('{failed,pending,skipped}'::text[], v.outcome), v.tenant_id limit $3`,
    [input.job, input.runKey, jobVisitsMax],
  );
  return rows;
}

/** Whether somebody has to look: tenants were left out, or what never was zero is. */
export function isTroubled({ status, alerts }: JobRun): boolean {
  return status === 'incomplete' || status === 'broken off' || alerts.length > 0;
}

function runOf({ startedAt, endedAt, locked, stored, alerts, ...counts }: RunRow): JobRun {
  const ended = stored === 'complete' ? 'complete' : 'incomplete';
  return {
    ...counts,
    startedAt: startedAt.toISOString(),
    endedAt: endedAt?.toISOString() ?? null,
    status: endedAt ? ended : locked ? 'running' : 'broken off',
    alerts: (alerts ?? []).map(({ kind, measure, count, tenants }) =>
      kind === 'zero' ? `${measure} is 0 and never was` : `${count} tenants saw no row and always did: ${(tenants ?? []).join(', ')}`,
    ),
  };
}
