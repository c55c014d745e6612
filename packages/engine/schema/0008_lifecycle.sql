-- Long operations, certificates of erasure, and the end of the sessions that are inside a tenant.

create table partywall_control.operations (
  id uuid primary key,
  kind text not null,
  tenant_id text,
  state text not null default 'running' check (state in ('running', 'done', 'failed')),
  -- How often it was started: a failed one is started again under the same id.
  attempt integer not null default 1,
  step text not null,
  done bigint not null default 0,
  total bigint not null default 0,
  actor jsonb not null,
  reason text,
  request_id text,
  -- What must outlive a crash beside the steps, such as the counts before the first row went.
  details jsonb not null default '{}',
  error text,
  started_at timestamptz not null default now(),
  changed_at timestamptz not null default now(),
  finished_at timestamptz,
  check ((state = 'running') = (finished_at is null))
);
create index operations_started_idx on partywall_control.operations (started_at desc, id desc);
-- One operation of a kind at a time for a tenant.
create unique index operations_running_idx on partywall_control.operations (kind, tenant_id) where state = 'running';

-- Proof that a tenant was erased. A chain: each holds the hash of the one before. They outlive their tenant.
create table partywall_control.certificates (
  seq bigint primary key,
  tenant_id text not null,
  operation_id uuid not null unique,
  issued_at timestamptz not null,
  -- The signed text, byte for byte.
  body text not null,
  hash bytea not null unique,
  key_id text not null,
  signature bytea not null
);
create index certificates_tenant_idx on partywall_control.certificates (tenant_id, seq desc);

-- Ends the sessions that are inside a tenant, that is, those that hold its lock shared, and no others: whoever may call it need not be allowed
-- to end sessions at large. `kept` counts those that the owner of this function may not end, such as a superuser's.
create function partywall_control.end_stragglers(tenant text, out ended integer, out kept integer) language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  key bigint := hashtextextended('partywall:' || tenant, 0);
  holder integer;
begin
  ended := 0;
  kept := 0;
  for holder in
    select l.pid from pg_locks l join pg_database d on d.oid = l.database
    where l.locktype = 'advisory' and d.datname = current_database() and l.granted and l.mode = 'ShareLock' and l.objsubid = 1
      and l.classid::bigint = (key >> 32) & 4294967295 and l.objid::bigint = key & 4294967295 and l.pid <> pg_backend_pid()
  loop
    begin
      if pg_terminate_backend(holder) then ended := ended + 1; end if;
    exception when insufficient_privilege then
      kept := kept + 1;
    end;
  end loop;
end $$;
