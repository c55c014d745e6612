-- Quotas: what is used of each, what is allowed, and what moves it. The triggers that count, one set for each counted table, follow from the
-- model; what they call is here. docs/decisions/0008-counters.md has the reasons.

-- The quotas of the model, and api_calls. A quota that leaves the model leaves its counters behind until they are swept.
create table partywall_control.quotas (
  name text primary key,
  kind text not null check (kind in ('rows', 'bytes', 'calls')),
  -- What is added up; the counters of a quota whose definition changes are counted anew.
  definition text not null,
  counted boolean not null default false
);
insert into partywall_control.quotas values ('api_calls', 'calls', '', true);

-- A limit that stands in for the plan's until a date. It ends by itself: who reads it compares the date.
create table partywall_control.quota_increases (
  tenant_id text not null references partywall_control.directory (tenant_id) on delete cascade,
  quota text not null,
  max bigint not null check (max >= 0),
  until timestamptz not null,
  reason text,
  created_at timestamptz not null default now(),
  primary key (tenant_id, quota)
);

-- A rate that stands in for the plan's, until a date or until it is removed.
create table partywall_control.rate_overrides (
  tenant_id text primary key references partywall_control.directory (tenant_id) on delete cascade,
  requests_per_minute integer not null check (requests_per_minute > 0),
  until timestamptz,
  reason text,
  created_at timestamptz not null default now()
);

-- Calls of one month (its first day, UTC). leased: handed out to processes, which is what the limit holds; used: made, as far as told.
create table partywall_control.api_calls (
  tenant_id text not null references partywall_control.directory (tenant_id) on delete cascade,
  month date not null,
  leased bigint not null default 0 check (leased >= 0),
  used bigint not null default 0 check (used >= 0),
  primary key (tenant_id, month)
);

-- Where the count of a tenant's quota is: a large object of 40 bytes, the count and a mark that it is ours.
create table partywall_control.usage_counters (
  tenant_id text not null references partywall_control.directory (tenant_id) on delete cascade,
  quota text not null,
  cell oid not null,
  primary key (tenant_id, quota)
);

-- What a running transaction has changed and not settled. Always empty to everybody else: settling deletes the rows before they are committed.
create table partywall_control.usage_moves (
  xid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity,
  tenant_id text not null,
  quota text not null,
  delta bigint not null,
  primary key (xid, id)
);

-- After a dump was restored without its large objects, a number may be that of a large object of the application: the mark tells.
-- STABLE as convert_to is, and without a SET clause: so it is inlined. Its body was read when it was made, whatever the search path is later.
create function partywall_control.cell_mark(tenant text, quota text) returns bytea language sql stable parallel safe
return sha256(convert_to(tenant || chr(31) || quota, 'UTF8'));

create function partywall_control.cell_new(tenant text, quota text, value bigint) returns oid language sql volatile
set search_path = pg_catalog, pg_temp
return lo_from_bytea(0, int8send(value) || partywall_control.cell_mark(tenant, quota));

-- The count as the caller's snapshot has it; null where the cell is lost.
create function partywall_control.cell_value(cell oid, tenant text, quota text) returns bigint language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  content bytea;
begin
  -- An object of somebody else's, which we may not read, is not ours.
  if not exists (select from pg_largeobject_metadata m where m.oid = cell and pg_has_role(m.lomowner, 'usage')) then
    return null;
  end if;
  content := lo_get(cell, 0, 41);
  if substr(content, 9) is distinct from partywall_control.cell_mark(tenant, quota) then
    return null;
  end if;
  return ('x' || encode(substr(content, 1, 8), 'hex'))::bit(64)::bigint;
end $$;

create function partywall_control.drop_cell() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if partywall_control.cell_value(old.cell, old.tenant_id, old.quota) is not null then
    perform lo_unlink(old.cell);
  end if;
  return null;
end $$;
create trigger drop_cell after delete on partywall_control.usage_counters for each row execute function partywall_control.drop_cell();

-- A tenant that is new has no rows yet: a row of a counted table refers to the tenant root.
create function partywall_control.add_counters() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into partywall_control.usage_counters (tenant_id, quota, cell)
  select new.tenant_id, q.name, partywall_control.cell_new(new.tenant_id, q.name, 0) from partywall_control.quotas q where q.kind <> 'calls';
  return null;
end $$;
create trigger add_counters after insert on partywall_control.directory for each row execute function partywall_control.add_counters();

-- Limit in force: the plan's, or the temporary one above it; null where the plan has none. In plpgsql, which keeps its plan: as a function in SQL it
-- was half of the cost of a counted insert.
create function partywall_control.quota_limit(tenant text, quota text) returns bigint language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  return (select case when p.limits ? $2 then greatest(i.max, (p.limits ->> $2)::bigint) end
  from partywall_control.directory d join partywall_control.plans p on p.name = d.plan
    left join partywall_control.quota_increases i on i.tenant_id = d.tenant_id and i.quota = $2 and i.until > now()
  where d.tenant_id = $1);
end $$;

-- Keys of the advisory locks: one for each counter, and one that whoever moves too many of them takes instead.
create function partywall_control.usage_lock(tenant text, quota text) returns bigint language sql immutable parallel safe
return hashtextextended(tenant || chr(31) || quota, 4);

create view partywall_control.quota_state as
select d.tenant_id, q.name as quota,
  case when q.kind = 'calls' then coalesce(a.used, 0) else partywall_control.cell_value(c.cell, c.tenant_id, c.quota) end as used,
  case when p.limits ? q.name then greatest(i.max, (p.limits ->> q.name)::bigint) end as max,
  i.until as increased_until,
  case when q.kind = 'calls' then (date_trunc('month', now() at time zone 'UTC') + interval '1 month') at time zone 'UTC' end as resets_at
from partywall_control.directory d
  join partywall_control.plans p on p.name = d.plan
  cross join partywall_control.quotas q
  left join partywall_control.usage_counters c on c.tenant_id = d.tenant_id and c.quota = q.name
  left join partywall_control.api_calls a on q.kind = 'calls' and a.tenant_id = d.tenant_id and a.month = date_trunc('month', now() at time zone 'UTC')::date
  left join partywall_control.quota_increases i on i.tenant_id = d.tenant_id and i.quota = q.name and i.until > now();

-- What each tenant uses of each quota; one tenant, or all of them. max is null where there is no limit, increased_until where no increase is in
-- force, resets_at (the start of the next month, UTC) for all but api_calls. A lost counter is counted.
create function partywall_control.quota_usage(tenant text default null)
returns table (tenant_id text, quota text, used bigint, max bigint, increased_until timestamptz, resets_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  -- Two statements, because one plan for both reads every tenant to find one.
  if tenant is null then
    return query select s.tenant_id, s.quota, coalesce(s.used, partywall_control.count_usage(s.tenant_id, s.quota)), s.max, s.increased_until, s.resets_at
      from partywall_control.quota_state s;
  else
    return query select s.tenant_id, s.quota, coalesce(s.used, partywall_control.count_usage(s.tenant_id, s.quota)), s.max, s.increased_until, s.resets_at
      from partywall_control.quota_state s where s.tenant_id = tenant order by s.quota;
  end if;
end $$;

-- Moves the counters by what this transaction changed, at its commit, in the order of tenant and quota, so that two transactions never wait for
-- each other in a circle. Fires for each move; the first firing settles them all.
--
-- The cell is opened for writing, which reads the latest committed content whatever the isolation level, and the lock before it is held until
-- the commit is visible: so the sum is exact, and no 40001 comes of it.
create function partywall_control.settle_usage() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  -- Beyond it one lock stands for all, because the server's lock table is shared and bounded.
  locks_max constant integer := 500;
  read_write constant integer := x'60000'::integer;
  tenants text[];
  quotas text[];
  deltas bigint[];
  cell oid;
  fd integer;
  content bytea;
  usage bigint;
  allowed bigint;
begin
  if not exists (select from partywall_control.usage_moves m where m.xid = new.xid and m.id = new.id) then
    return null;
  end if;
  with taken as (
    delete from partywall_control.usage_moves m where m.xid = new.xid and m.id >= new.id returning m.tenant_id, m.quota, m.delta
  ), summed as (
    select t.tenant_id, t.quota, sum(t.delta)::bigint as delta from taken t group by t.tenant_id, t.quota having sum(t.delta) <> 0
  )
  select array_agg(s.tenant_id order by s.tenant_id, s.quota), array_agg(s.quota order by s.tenant_id, s.quota),
    array_agg(s.delta order by s.tenant_id, s.quota) into tenants, quotas, deltas from summed s;

  if cardinality(tenants) > locks_max then
    perform pg_advisory_xact_lock(partywall_control.usage_lock('', ''));
  elsif cardinality(tenants) > 0 then
    perform pg_advisory_xact_lock_shared(partywall_control.usage_lock('', ''));
  end if;
  for at in 1 .. coalesce(cardinality(tenants), 0) loop
    if cardinality(tenants) <= locks_max then
      perform pg_advisory_xact_lock(partywall_control.usage_lock(tenants[at], quotas[at]));
    end if;
    content := null;
    select c.cell into cell from partywall_control.usage_counters c join pg_largeobject_metadata m on m.oid = c.cell and pg_has_role(m.lomowner, 'usage')
    where c.tenant_id = tenants[at] and c.quota = quotas[at];
    if found then
      fd := lo_open(cell, read_write);
      content := loread(fd, 41);
      if substr(content, 9) = partywall_control.cell_mark(tenants[at], quotas[at]) then
        usage := ('x' || encode(substr(content, 1, 8), 'hex'))::bit(64)::bigint + deltas[at];
        perform lo_lseek(fd, 0, 0);
        perform lowrite(fd, int8send(usage));
      else
        content := null;
      end if;
      perform lo_close(fd);
    end if;
    if content is null then
      -- No counter: of a tenant that goes in this transaction, else one that is lost or yet to be made.
      usage := partywall_control.restore_counter(tenants[at], quotas[at]);
      continue when usage is null;
    end if;
    if deltas[at] > 0 then
      allowed := partywall_control.quota_limit(tenants[at], quotas[at]);
      if usage > allowed then
        raise exception 'the quota % of % is exceeded', quotas[at], allowed using errcode = 'PW008',
          detail = jsonb_build_object('quota', quotas[at], 'limit', allowed, 'usage', usage - deltas[at], 'requested', deltas[at])::text,
          hint = 'remove what is not needed, or ask for a larger plan';
      end if;
    end if;
  end loop;
  return null;
end $$;
create constraint trigger settle_usage after insert on partywall_control.usage_moves deferrable initially deferred
for each row execute function partywall_control.settle_usage();

-- Makes the counter of a tenant from the rows that are there, those of this transaction included; null for a tenant or quota that is not.
-- The caller holds the counter's lock, so that whoever has settled is seen, and whoever has not comes after. Only a snapshot taken after the
-- lock sees them all.
create function partywall_control.restore_counter(tenant text, quota text) returns bigint language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  counted bigint;
begin
  if not exists (select from partywall_control.directory d where d.tenant_id = tenant)
    or not exists (select from partywall_control.quotas q where q.name = quota and q.kind <> 'calls') then
    return null;
  end if;
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    raise exception 'the counter of a quota is missing or newer than this transaction''s snapshot' using errcode = '40001',
      hint = 'try again; if it stays so, run `partywall quotas recount`';
  end if;
  counted := partywall_control.count_usage(tenant, quota);
  insert into partywall_control.usage_counters as c (tenant_id, quota, cell) values (tenant, quota, partywall_control.cell_new(tenant, quota, counted))
  on conflict on constraint usage_counters_pkey do update set cell = excluded.cell;
  return counted;
end $$;

-- Counts the rows of a tenant anew and sets its counters to it. One row for each quota: what the counter said (null: it was lost) and what is
-- there. Call it READ COMMITTED.
create function partywall_control.recount(tenant text) returns table (quota text, counted bigint, was bigint) language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  one text;
  kept oid;
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    raise exception 'recounting needs a READ COMMITTED transaction' using errcode = '25001';
  end if;
  perform pg_advisory_xact_lock_shared(partywall_control.usage_lock('', ''));
  for one in select q.name from partywall_control.quotas q where q.kind <> 'calls' order by q.name loop
    perform pg_advisory_xact_lock(partywall_control.usage_lock(recount.tenant, one));
    select c.cell, partywall_control.cell_value(c.cell, c.tenant_id, c.quota) into kept, was
    from partywall_control.usage_counters c where c.tenant_id = recount.tenant and c.quota = one;
    quota := one;
    counted := partywall_control.count_usage(recount.tenant, one);
    if was is null then
      continue when partywall_control.restore_counter(recount.tenant, one) is null;
    elsif was <> counted then
      perform lo_put(kept, 0, int8send(counted));
    end if;
    return next;
  end loop;
end $$;

-- Requests per minute of a tenant: the override in force, else the plan's; null where there is no limit.
create function partywall_control.request_rate(tenant text) returns integer language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  return (select coalesce(o.requests_per_minute, p.requests_per_minute)
  from partywall_control.directory d join partywall_control.plans p on p.name = d.plan
    left join partywall_control.rate_overrides o on o.tenant_id = d.tenant_id and (o.until is null or o.until > now())
  where d.tenant_id = $1);
end $$;

-- Hands out calls of a month, so that a process which holds some need not ask for each: a hundredth of the limit, at most a thousand, and less
-- towards the end, down to one, so that what other processes hold and do not use is little. held: what the caller has left, which counts
-- towards the lease, so that a crash loses one lease. No row for a tenant that is not; granted is null where there is no limit.
create function partywall_control.lease_calls(tenant text, of_month date, held bigint)
returns table (granted bigint, max bigint, leased bigint, requests_per_minute integer) language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  lease_max constant bigint := 1000;
  allowed bigint;
  so_far bigint;
begin
  insert into partywall_control.api_calls (tenant_id, month) select d.tenant_id, of_month from partywall_control.directory d where d.tenant_id = tenant
  on conflict do nothing;
  select a.leased into so_far from partywall_control.api_calls a where a.tenant_id = tenant and a.month = of_month for update;
  if not found then
    return;
  end if;
  allowed := partywall_control.quota_limit(tenant, 'api_calls');
  granted := greatest(0, least(allowed - so_far, greatest(case when held = 0 then 1 else 0 end, least(lease_max, allowed / 100, (allowed - so_far) / 20) - held)));
  if allowed is null then
    granted := null;
  elsif granted > 0 then
    update partywall_control.api_calls a set leased = a.leased + granted where a.tenant_id = tenant and a.month = of_month;
  end if;
  return query select granted, allowed, so_far + coalesce(granted, 0), partywall_control.request_rate(tenant);
end $$;

-- Takes down what a process has used since it last told, and what of its leases it gives back (negative) or used without one (positive). Answers
-- with what is in force now. Rows are locked in one order, whoever asks.
create function partywall_control.report_calls(tenants text[], months date[], used_now bigint[], leased_now bigint[])
returns table (tenant_id text, month date, max bigint, leased bigint, requests_per_minute integer) language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  one record;
begin
  for one in
    select d.tenant_id, r.month, r.used, r.leased
    from unnest(tenants, months, used_now, leased_now) r (tenant_id, month, used, leased) join partywall_control.directory d on d.tenant_id = r.tenant_id
    where r.used <> 0 or r.leased <> 0 order by 1, 2
  loop
    insert into partywall_control.api_calls as a (tenant_id, month, used, leased) values (one.tenant_id, one.month, one.used, greatest(one.leased, 0))
    on conflict on constraint api_calls_pkey do update set used = a.used + one.used, leased = greatest(a.leased + one.leased, 0);
  end loop;
  return query
    select d.tenant_id, r.month, case when p.limits ? 'api_calls' then greatest(i.max, (p.limits ->> 'api_calls')::bigint) end, coalesce(a.leased, 0),
      coalesce(o.requests_per_minute, p.requests_per_minute)
    from unnest(tenants, months) r (tenant_id, month)
      join partywall_control.directory d on d.tenant_id = r.tenant_id
      join partywall_control.plans p on p.name = d.plan
      left join partywall_control.api_calls a on a.tenant_id = d.tenant_id and a.month = r.month
      left join partywall_control.quota_increases i on i.tenant_id = d.tenant_id and i.quota = 'api_calls' and i.until > now()
      left join partywall_control.rate_overrides o on o.tenant_id = d.tenant_id and (o.until is null or o.until > now());
end $$;
