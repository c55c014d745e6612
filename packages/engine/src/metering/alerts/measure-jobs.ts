import type pg from 'pg';
import type { AlertRule, Measurement } from './judge.ts';

/** Jobs that are told apart in one evaluation, those first that are in trouble longest. */
const jobsMax = 20;

/** A run has not ended and nobody holds its job's lock: its process died. The lock is `forEachTenant`'s. */
const brokenOff = `r.ended_at is null and not exists (select from pg_catalog.pg_locks l where l.locktype = 'advisory' and l.objsubid = 1
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtextextended('partywall:job:' || r.job, 0))`;

const jobsSql = `with judged as (
  select r.id, r.job, r.run_key, r.receipt, case when r.ended_at is not null then r.receipt ->> 'status' <> 'complete' or r.receipt -> 'alerts' <> '[]' when ${brokenOff} then true end as troubled
  from partywall.job_runs r
)
select j.job, count(*)::double precision as runs, (array_agg(j.run_key order by j.id desc))[1] as "runKey",
  (array_agg(j.receipt - 'job' - 'failures' order by j.id desc))[1] as receipt
from judged j where j.troubled and j.id > coalesce((select max(g.id) from judged g where g.job = j.job and not g.troubled), 0)
group by j.job order by runs desc, j.job limit $1`;

interface Row {
  readonly job: string;
  readonly runs: number;
  readonly runKey: string;
  readonly receipt: Record<string, unknown> | null;
}

/** Runs of each job since its last good one that left tenants out, were broken off or raised an alert. None where the wall is older than their record. */
export async function measureJobs(client: pg.ClientBase, rules: readonly AlertRule[]): Promise<Measurement[]> {
  const watching = rules.filter(({ metric }) => metric === 'job_trouble');
  if (watching.length === 0) return [];
  const { rows: found } = await client.query<{ there: boolean }>("select to_regclass('partywall.job_runs') is not null as there");
  if (!found[0]?.there) return [];
  const { rows } = await client.query<Row>(jobsSql, [jobsMax]);
  return watching.flatMap(({ name }) =>
    rows.map(({ job, runs, runKey, receipt }) => ({ rule: name, tenant: '', subject: job, value: runs, details: { runKey, ...receipt } })),
  );
}
