-- What tenants use: requests, people, rows and bytes, slow statements. Tenant '' stands for what belongs to none.

-- Upper bounds of the buckets that response times are counted in, in milliseconds.
create function partywall_control.latency_bounds() returns double precision[] language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return '{5,10,25,50,100,250,500,1000,2000,5000,Infinity}'::double precision[];

create table partywall_control.request_minutes (
  tenant_id text not null,
  minute timestamptz not null,
  calls bigint not null,
  -- Answers with a status of 500 and above.
  errors bigint not null,
  -- Sum of the response times.
  millis double precision not null,
  buckets bigint[] not null check (cardinality(buckets) = cardinality(partywall_control.latency_bounds())),
  primary key (tenant_id, minute)
);
create index request_minutes_minute_idx on partywall_control.request_minutes (minute);

-- The same by hour, written with each minute, so that nothing has to be rolled up before it can be read.
create table partywall_control.request_hours (
  tenant_id text not null,
  hour timestamptz not null,
  calls bigint not null,
  errors bigint not null,
  millis double precision not null,
  buckets bigint[] not null check (cardinality(buckets) = cardinality(partywall_control.latency_bounds())),
  primary key (tenant_id, hour)
);
create index request_hours_hour_idx on partywall_control.request_hours (hour);

create table partywall_control.active_users (
  tenant_id text not null,
  -- In UTC.
  day date not null,
  user_id text not null,
  primary key (tenant_id, day, user_id)
);
create index active_users_day_idx on partywall_control.active_users (day);

-- The last batch of requests that each process has brought: one that is sent again, after a lost answer, counts once.
create table partywall_control.request_batches (
  process uuid primary key,
  batch bigint not null,
  at timestamptz not null
);

-- A survey is read once it is finished; one that was killed is never.
create table partywall_control.usage_surveys (
  at timestamptz primary key,
  finished_at timestamptz,
  -- Table → why it was not counted.
  unmeasured jsonb not null default '{}'
);

create table partywall_control.usage_samples (
  tenant_id text not null,
  at timestamptz not null references partywall_control.usage_surveys (at) on delete cascade,
  -- Table → number of rows; a table that could not be counted is not there.
  rows jsonb not null,
  -- Bytes of these rows as they are stored, TOAST included, indexes not.
  storage bigint not null,
  primary key (tenant_id, at)
);
create index usage_samples_at_idx on partywall_control.usage_samples (at);

-- The slowest statements of a tenant in an hour, without their values.
create table partywall_control.slow_queries (
  tenant_id text not null,
  hour timestamptz not null,
  fingerprint text not null,
  statement text not null,
  calls bigint not null,
  failures bigint not null,
  millis double precision not null,
  max_millis double precision not null,
  last_at timestamptz not null,
  primary key (tenant_id, hour, fingerprint)
);
create index slow_queries_hour_idx on partywall_control.slow_queries (hour, max_millis desc);

create function partywall_control.add_buckets(a bigint[], b bigint[]) returns bigint[] language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return array(select u.x + u.y from unnest(a, b) with ordinality as u (x, y, n) order by u.n);

-- The response time that `fraction` of the requests stayed under, interpolated inside its bucket; of the last, open bucket its lower bound.
-- Null without requests.
create function partywall_control.latency_percentile(buckets bigint[], fraction double precision) returns double precision language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp as $$
declare
  bounds constant double precision[] := '{5,10,25,50,100,250,500,1000,2000,5000,Infinity}';
  total bigint := 0;
  below bigint := 0;
  rank double precision;
  inside bigint;
  lower_bound double precision := 0;
begin
  foreach inside in array buckets loop
    total := total + inside;
  end loop;
  if total = 0 then
    return null;
  end if;
  rank := fraction * total;
  for n in 1 .. cardinality(buckets) loop
    inside := buckets[n];
    if inside > 0 and below + inside >= rank then
      return case when n = cardinality(buckets) then lower_bound else lower_bound + (bounds[n] - lower_bound) * (rank - below) / inside end;
    end if;
    below := below + inside;
    lower_bound := bounds[n];
  end loop;
  return null;
end $$;

-- Adds what a process counted since its last batch; false where this batch is there already. Everything is written in the order of its key, so
-- that processes never wait for each other in a circle. What names a tenant that is no more, or is being
-- erased, counts as nobody's: nothing of it comes back.
create function partywall_control.add_requests(process uuid, batch bigint, lines jsonb, users jsonb) returns boolean language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  insert into partywall_control.request_batches as b (process, batch, at) values (add_requests.process, add_requests.batch, now())
  on conflict on constraint request_batches_pkey do update set batch = excluded.batch, at = excluded.at where b.batch < excluded.batch;
  if not found then
    return false;
  end if;

  insert into partywall_control.request_minutes as m (tenant_id, minute, calls, errors, millis, buckets)
  select coalesce(d.tenant_id, ''), l.minute, sum(l.calls), sum(l.errors), sum(l.millis),
    array[sum(l.buckets[1]), sum(l.buckets[2]), sum(l.buckets[3]), sum(l.buckets[4]), sum(l.buckets[5]), sum(l.buckets[6]), sum(l.buckets[7]),
      sum(l.buckets[8]), sum(l.buckets[9]), sum(l.buckets[10]), sum(l.buckets[11])]
  from jsonb_to_recordset(lines) as l (tenant text, minute timestamptz, calls bigint, errors bigint, millis double precision, buckets bigint[])
    left join partywall_control.directory d on d.tenant_id = l.tenant and d.status <> 'erasing'
  group by 1, 2 order by 1, 2
  on conflict (tenant_id, minute) do update set calls = m.calls + excluded.calls, errors = m.errors + excluded.errors, millis = m.millis + excluded.millis,
    buckets = partywall_control.add_buckets(m.buckets, excluded.buckets);

  insert into partywall_control.request_hours as h (tenant_id, hour, calls, errors, millis, buckets)
  select coalesce(d.tenant_id, ''), date_trunc('hour', l.minute, 'UTC'), sum(l.calls), sum(l.errors), sum(l.millis),
    array[sum(l.buckets[1]), sum(l.buckets[2]), sum(l.buckets[3]), sum(l.buckets[4]), sum(l.buckets[5]), sum(l.buckets[6]), sum(l.buckets[7]),
      sum(l.buckets[8]), sum(l.buckets[9]), sum(l.buckets[10]), sum(l.buckets[11])]
  from jsonb_to_recordset(lines) as l (tenant text, minute timestamptz, calls bigint, errors bigint, millis double precision, buckets bigint[])
    left join partywall_control.directory d on d.tenant_id = l.tenant and d.status <> 'erasing'
  group by 1, 2 order by 1, 2
  on conflict (tenant_id, hour) do update set calls = h.calls + excluded.calls, errors = h.errors + excluded.errors, millis = h.millis + excluded.millis,
    buckets = partywall_control.add_buckets(h.buckets, excluded.buckets);

  insert into partywall_control.active_users (tenant_id, day, user_id)
  select distinct u.tenant, u.day, u."user"
  from jsonb_to_recordset(users) as u (tenant text, day date, "user" text) join partywall_control.directory d on d.tenant_id = u.tenant and d.status <> 'erasing'
  order by 1, 2, 3
  on conflict do nothing;
  return true;
end $$;

-- Adds slow statements and keeps the 20 slowest of each tenant and hour. One at a time: they are rare, and what one drops another may be adding to.
create function partywall_control.add_slow_queries(entries jsonb) returns void language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('partywall_control.slow_queries', 0));
  insert into partywall_control.slow_queries as s (tenant_id, hour, fingerprint, statement, calls, failures, millis, max_millis, last_at)
  select coalesce(d.tenant_id, ''), date_trunc('hour', e.at, 'UTC'), e.fingerprint, min(e.statement), sum(e.calls), sum(e.failures), sum(e.millis), max(e.max_millis), max(e.at)
  from jsonb_to_recordset(entries)
      as e (tenant text, at timestamptz, fingerprint text, statement text, calls bigint, failures bigint, millis double precision, max_millis double precision)
    left join partywall_control.directory d on d.tenant_id = e.tenant and d.status <> 'erasing'
  group by 1, 2, 3
  on conflict (tenant_id, hour, fingerprint) do update set calls = s.calls + excluded.calls, failures = s.failures + excluded.failures,
    millis = s.millis + excluded.millis, max_millis = greatest(s.max_millis, excluded.max_millis), last_at = greatest(s.last_at, excluded.last_at);
  delete from partywall_control.slow_queries s
  using (
    select r.tenant_id, r.hour, r.fingerprint, row_number() over (partition by r.tenant_id, r.hour order by r.max_millis desc, r.fingerprint) as place
    from partywall_control.slow_queries r
    where r.hour in (select date_trunc('hour', e.at, 'UTC') from jsonb_to_recordset(entries) as e (at timestamptz))
  ) r
  where r.place > 20 and s.tenant_id = r.tenant_id and s.hour = r.hour and s.fingerprint = r.fingerprint;
end $$;

-- Requests by tenant since a time within the last day, by whole minutes; tenant '' is what belongs to none.
create function partywall_control.recent_requests(since timestamptz)
returns table (tenant_id text, calls bigint, errors bigint, p50_ms double precision, p95_ms double precision) language sql stable
set search_path = pg_catalog, pg_temp as $$
  select t.tenant_id, t.calls, t.errors, partywall_control.latency_percentile(t.buckets, 0.5), partywall_control.latency_percentile(t.buckets, 0.95)
  from (
    select m.tenant_id, sum(m.calls)::bigint as calls, sum(m.errors)::bigint as errors,
      array[sum(m.buckets[1]), sum(m.buckets[2]), sum(m.buckets[3]), sum(m.buckets[4]), sum(m.buckets[5]), sum(m.buckets[6]), sum(m.buckets[7]),
        sum(m.buckets[8]), sum(m.buckets[9]), sum(m.buckets[10]), sum(m.buckets[11])]::bigint[] as buckets
    from partywall_control.request_minutes m where m.minute >= date_trunc('minute', since) group by m.tenant_id
  ) t
$$;

-- The session of a transaction in progress belongs to the tenant whose lock it holds shared, which is how it entered.
create function partywall_control.tenant_sessions() returns table (tenant_id text, pid integer) language sql stable
set search_path = pg_catalog, pg_temp as $$
  select d.tenant_id, l.pid
  from pg_locks l join partywall_control.directory d
    on hashtextextended('partywall:' || d.tenant_id, 0) = (l.classid::bigint << 32) | l.objid::bigint
  where l.locktype = 'advisory' and l.objsubid = 1 and l.mode = 'ShareLock' and l.granted
    and l.database = (select b.oid from pg_database b where b.datname = current_database())
$$;
