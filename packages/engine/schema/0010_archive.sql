-- What the control plane remembers of the archive. Names of tenants are the text of their keys, as everywhere here; but for the drills and the runs
-- that failed, all of it can be made anew from the archive.

-- Which history this database is of, and the last backup that read it: marks of unchanged rows are believed along one line only. One row.
create table partywall_control.archive_lineage (
  id boolean primary key default true check (id),
  lineage text not null,
  backup text not null,
  changed_at timestamptz not null default now()
);

-- Whose archive it is: kept with a backup, so that a database that was restored goes on with its own. One row, made by the first use.
create table partywall_control.archive_owner (
  id boolean primary key default true check (id),
  owner uuid not null default gen_random_uuid()
);

-- Since when there is an archive, and when the schedule last looked at what is due. One row.
create table partywall_control.backup_schedule (
  id boolean primary key default true check (id),
  since timestamptz not null,
  -- Null: only by hand so far.
  ticked_at timestamptz
);

-- Backups that were begun, by schedule and by hand.
create table partywall_control.backup_runs (
  id uuid primary key default gen_random_uuid(),
  -- Its name in the archive, once it is known.
  backup text unique,
  reason text not null,
  scope text not null check (scope in ('all', 'tenants')),
  -- Data classes that it holds.
  classes text[] not null,
  state text not null check (state in ('running', 'stored', 'verified', 'failed')),
  started_at timestamptz not null,
  finished_at timestamptz,
  verified_at timestamptz,
  error text,
  -- Tenants, rows, bytes, objects: what the run counted.
  counts jsonb not null default '{}',
  check ((state = 'running') = (finished_at is null)),
  check ((state = 'verified') = (verified_at is not null)),
  check ((state = 'failed') = (error is not null)),
  check (backup is not null or state in ('running', 'failed'))
);
create index backup_runs_started_idx on partywall_control.backup_runs (started_at desc, id desc);

-- The latest backup of each tenant and data class that was verified.
create table partywall_control.recovery_points (
  -- Null: what belongs to no tenant.
  tenant_id text references partywall_control.directory (tenant_id) on delete cascade,
  class text not null check (class in ('database', 'configuration', 'files', 'audit')),
  backup text not null,
  -- When the rows were so.
  at timestamptz not null,
  verified_at timestamptz not null,
  unique nulls not distinct (tenant_id, class)
);

-- Backups that were restored to see whether they can be.
create table partywall_control.drills (
  id uuid primary key default gen_random_uuid(),
  backup text not null,
  started_at timestamptz not null,
  -- Null: it runs, or was cut off.
  finished_at timestamptz,
  tenants integer not null default 0 check (tenants >= 0),
  outcome text check (outcome in ('passed', 'failed')),
  rto_seconds double precision,
  report jsonb not null default '{}',
  check ((finished_at is null) = (outcome is null))
);
create index drills_started_idx on partywall_control.drills (started_at desc, id desc);

-- Alerts of the archive.
alter table partywall_control.alert_rules drop constraint alert_rules_metric_check;
alter table partywall_control.alert_rules add constraint alert_rules_metric_check check (metric in
  ('quota', 'error_rate', 'response_time', 'connections', 'total_error_rate', 'recovery_point', 'backup_failures', 'backup_schedule'));
insert into partywall_control.alert_rules
  (name, title, metric, quota, warning, critical, window_minutes, min_calls, for_minutes, clear_minutes, enabled) values
  ('rpo_missed', 'Recovery point age', 'recovery_point', null, 100, 200, 1, 0, 0, 0, true),
  ('backup_failed', 'Failed backups in a row', 'backup_failures', null, 1, 3, 1, 0, 0, 0, true),
  ('scheduler_stopped', 'Silence of the backup schedule', 'backup_schedule', null, 15, 60, 1, 0, 0, 0, true);
