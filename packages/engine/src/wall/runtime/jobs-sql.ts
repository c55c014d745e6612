import { dollarQuote, ident } from '../../db/sql.ts';

/**
 * Runs of jobs over all tenants, and what became of each tenant in them. A job that the wall shuts out reads nothing, deletes nothing and reports
 * success: here it is written down who was to be visited, before anybody is, and how many rows each visit saw.
 *
 * Threat model: the application's role reaches nothing of this, so it can neither list tenants nor make a run look done. The system role may call the
 * functions; it is bound by no policy anyway. What it names (jobs, run keys, reasons) is bounded, and the oldest runs of a job make room for new ones.
 */
export const jobLimits = {
  /** Runs of one job that are kept, and runs of all jobs. */
  runsPerJob: 60,
  runsMax: 10_000,
  /** Runs that one beginning takes along. */
  purgedAtOnce: 20,
  /** Tenants of one page. */
  pageMax: 1_000,
  textCharacters: 200,
  /** Complete runs that a run is compared with. */
  comparedRuns: 10,
  /** Tenants that a receipt names of each kind; it counts all. */
  namedMax: 20,
} as const;

/** What the system role may call. */
const systemFunctions = [
  'begin_job_run(text, text)',
  'next_job_visits(bigint, text, integer)',
  'end_job_visit(bigint, jsonb)',
  'end_job_run(bigint)',
  'last_job_run(text)',
] as const;

/** What a role that runs jobs over all tenants needs. */
export function jobGrants(role: string): string[] {
  return [
    `grant usage on schema partywall to ${ident(role)}`,
    `grant execute on function ${systemFunctions.map((name) => `partywall.${name}`).join(', ')} to ${ident(role)}`,
  ];
}

/** Statements, each idempotent, in the order they need. */
export function jobsSql(): string[] {
  const { textCharacters } = jobLimits;
  return [
    `create table if not exists partywall.job_runs (
  id bigint generated always as identity primary key,
  job text not null check (length(job) between 1 and ${textCharacters}),
  run_key text not null check (length(run_key) between 1 and ${textCharacters}),
  started_at timestamptz not null,
  resumed_at timestamptz,
  ended_at timestamptz,
  receipt jsonb,
  unique (job, run_key)
)`,
    // Who is to be visited is written before anybody is: what is pending was not.
    `create table if not exists partywall.job_visits (
  run bigint not null references partywall.job_runs on delete cascade,
  tenant_id text not null,
  outcome text not null check (outcome in ('pending', 'succeeded', 'failed', 'skipped')),
  reason text,
  attempts integer not null default 0,
  rows_read bigint not null default 0,
  rows_written bigint not null default 0,
  milliseconds bigint not null default 0,
  ended_at timestamptz,
  primary key (run, tenant_id)
)`,
    'create index if not exists job_visits_tenant on partywall.job_visits (tenant_id)',
    `create or replace function partywall.forget_job_visits() returns trigger language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`begin
  delete from partywall.job_visits v where v.tenant_id = old.tenant_id::text;
  return null;
end`)}`,
    'create or replace trigger forget_job_visits after delete on partywall.registry for each row execute function partywall.forget_job_visits()',
    beginSql(),
    `create or replace function partywall.next_job_visits(of_run bigint, after text, most integer) returns setof text language sql stable security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`select v.tenant_id from partywall.job_visits v
where v.run = of_run and v.outcome in ('pending', 'failed') and v.tenant_id > after
order by v.tenant_id limit least(most, ${jobLimits.pageMax})`)}`,
    `create or replace function partywall.end_job_visit(of_run bigint, visit jsonb) returns void language sql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`update partywall.job_visits v set outcome = visit ->> 'outcome', reason = left(visit ->> 'reason', ${textCharacters}),
  attempts = (visit ->> 'attempts')::integer, rows_read = (visit ->> 'rowsRead')::bigint, rows_written = (visit ->> 'rowsWritten')::bigint,
  milliseconds = (visit ->> 'milliseconds')::bigint, ended_at = clock_timestamp()
where v.run = of_run and v.tenant_id = visit ->> 'tenant'`)}`,
    endSql(),
    `create or replace function partywall.last_job_run(of_job text) returns text language sql stable security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote('select r.run_key from partywall.job_runs r where r.job = of_job order by r.id desc limit 1')}`,
  ];
}

/** Begins a run, or goes on with one that was broken off or in which tenants failed. A run that is complete is told with its receipt, and not begun again. */
function beginSql(): string {
  const { runsPerJob, runsMax, purgedAtOnce } = jobLimits;
  return `create or replace function partywall.begin_job_run(of_job text, key text) returns table (run bigint, resumed boolean, receipt jsonb)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  found_run partywall.job_runs;
begin
  delete from partywall.job_runs d where d.id in (
    select r.id from partywall.job_runs r where r.job = of_job and r.run_key <> key order by r.id desc offset ${runsPerJob - 1} limit ${purgedAtOnce});
  delete from partywall.job_runs d where d.id in (select r.id from partywall.job_runs r where r.run_key <> key order by r.id desc offset ${runsMax - 1} limit ${purgedAtOnce});
  select r.* into found_run from partywall.job_runs r where r.job = of_job and r.run_key = key for update;
  if found_run.id is null then
    insert into partywall.job_runs (job, run_key, started_at) values (of_job, key, clock_timestamp()) returning id into run;
    insert into partywall.job_visits (run, tenant_id, outcome, reason)
      select begin_job_run.run, g.tenant_id::text, case when g.state in ('active', 'read_only') then 'pending' else 'skipped' end,
        case when g.state not in ('active', 'read_only') then g.state end
      from partywall.registry g;
    return query select begin_job_run.run, false, null::jsonb;
  elsif found_run.receipt ->> 'status' = 'complete' then
    return query select found_run.id, false, found_run.receipt;
  else
    update partywall.job_runs u set resumed_at = clock_timestamp(), ended_at = null, receipt = null where u.id = found_run.id;
    return query select found_run.id, true, null::jsonb;
  end if;
end`)}`;
}

/**
 * Ends a run and returns its receipt. Alerts compare it with the last complete runs of the same job: rows read, rows written, tenants to visit, and rows of a
 * single tenant that were never zero and are. Runs that were zero against all others are not compared with: a job that stays dead goes on to say so.
 */
function endSql(): string {
  const { comparedRuns, namedMax } = jobLimits;
  const tenants = (outcome: string): string =>
    `(select jsonb_agg(jsonb_build_object('tenant', f.tenant_id, 'reason', f.reason) order by f.tenant_id) from (
      select v.tenant_id, v.reason from partywall.job_visits v where v.run = of_run and v.outcome = '${outcome}' order by v.tenant_id limit ${namedMax}) f)`;
  return `create or replace function partywall.end_job_run(of_run bigint) returns jsonb language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  this_run partywall.job_runs;
  made jsonb;
  alerts jsonb := '[]';
  former bigint[];
  silent text[];
  silent_count bigint;
  measure text;
begin
  select r.* into this_run from partywall.job_runs r where r.id = of_run for update;
  select jsonb_build_object('job', this_run.job, 'runKey', this_run.run_key, 'run', this_run.id, 'startedAt', this_run.started_at, 'resumedAt', this_run.resumed_at,
      'endedAt', clock_timestamp(), 'status', case when bool_or(v.outcome in ('pending', 'failed')) then 'incomplete' else 'complete' end,
      'planned', count(*), 'succeeded', count(*) filter (where v.outcome = 'succeeded'), 'failed', count(*) filter (where v.outcome = 'failed'),
      'skipped', count(*) filter (where v.outcome = 'skipped'), 'notVisited', count(*) filter (where v.outcome = 'pending'),
      'rowsRead', coalesce(sum(v.rows_read), 0), 'rowsWritten', coalesce(sum(v.rows_written), 0))
    into made from partywall.job_visits v where v.run = of_run;
  made := jsonb_set(made, '{status}', coalesce(nullif(made -> 'status', 'null'), '"complete"')) || jsonb_build_object(
    'failures', coalesce(${tenants('failed')}, '[]'),
    'skips', coalesce((select jsonb_object_agg(s.reason, s.n) from (
      select coalesce(v.reason, '') as reason, count(*) as n from partywall.job_visits v where v.run = of_run and v.outcome = 'skipped' group by 1 order by 2 desc limit ${namedMax}) s), '{}'));
  select array_agg(r.id) into former from (
    select r.id from partywall.job_runs r where r.job = this_run.job and r.id < of_run and r.receipt ->> 'status' = 'complete'
      and not r.receipt -> 'alerts' @> '[{"kind": "zero"}]' order by r.id desc limit ${comparedRuns}) r;
  if former is not null then
    foreach measure in array array['rowsRead', 'rowsWritten', 'succeeded'] loop
      if (made ->> measure)::bigint = 0 and not exists (select from partywall.job_runs r where r.id = any (former) and (r.receipt ->> measure)::bigint = 0) then
        alerts := alerts || jsonb_build_object('kind', 'zero', 'measure', measure);
      end if;
    end loop;
    select count(*), (array_agg(z.tenant_id order by z.tenant_id))[1:${namedMax}] into silent_count, silent from (
      select v.tenant_id from partywall.job_visits v join partywall.job_visits p on p.tenant_id = v.tenant_id and p.run = any (former) and p.outcome = 'succeeded'
      where v.run = of_run and v.outcome = 'succeeded' and v.rows_read + v.rows_written = 0
      group by v.tenant_id having min(p.rows_read + p.rows_written) > 0) z;
    if silent_count > 0 then
      alerts := alerts || jsonb_build_object('kind', 'zero_tenants', 'count', silent_count, 'tenants', to_jsonb(silent));
    end if;
  end if;
  made := made || jsonb_build_object('alerts', alerts);
  update partywall.job_runs u set ended_at = clock_timestamp(), receipt = made where u.id = of_run;
  return made;
end`)}`;
}
