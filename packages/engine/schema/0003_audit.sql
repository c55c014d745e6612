-- What was done and what was refused: a hash chain for each tenant, and one for what belongs to none (tenant '').
--
-- The service role may read these tables and nothing else: what changes them are the functions below, which run as the owner. So whoever
-- holds the service's connection can add to a chain, and cannot change it.

create table partywall_control.audit_heads (
  tenant_id text primary key,
  seq bigint not null,
  hash bytea not null
);

create table partywall_control.audit_records (
  tenant_id text not null,
  seq bigint not null check (seq > 0),
  at timestamptz not null,
  actor_kind text not null check (actor_kind in ('user', 'api_key', 'operator', 'system')),
  actor_id text not null check (length(actor_id) <= 400),
  actor_name text check (length(actor_name) <= 400),
  -- Where the request came from, if it was one.
  address text check (length(address) <= 400),
  action text not null check (length(action) between 1 and 400),
  target text check (length(target) <= 2000),
  outcome text not null check (outcome in ('done', 'denied')),
  reason text check (length(reason) <= 8000),
  request_id text check (length(request_id) <= 400),
  details jsonb not null check (jsonb_typeof(details) = 'object' and octet_length(details::text) <= 65536),
  -- Of the record before it; 32 zero bytes before the first.
  previous bytea not null,
  hash bytea not null,
  primary key (tenant_id, seq)
);
-- Lists come newest first: of one tenant, and of all merged. The rest are read backwards too.
create index audit_records_tenant_at_idx on partywall_control.audit_records (tenant_id, at, seq);
create index audit_records_at_idx on partywall_control.audit_records (at, tenant_id, seq);
create index audit_records_actor_idx on partywall_control.audit_records (actor_id, at, tenant_id, seq);
create index audit_records_action_idx on partywall_control.audit_records (action text_pattern_ops, at);

-- The text a record's hash covers, after the previous hash. The text of jsonb is canonical: keys sorted, no insignificant space, numbers
-- as they were written. Times are microseconds, so no session setting has a part in it.
create function partywall_control.audit_text(r partywall_control.audit_records) returns text language sql stable parallel safe
return jsonb_build_array('partywall.audit.1', r.tenant_id, r.seq, (extract(epoch from r.at) * 1000000)::bigint, r.actor_kind, r.actor_id, r.actor_name,
  r.address, r.action, r.target, r.outcome, r.reason, r.request_id, r.details)::text;

-- Adds one record to the chain of its tenant and returns its number. The head stays locked until the transaction ends, so call it last.
-- Number, time and hashes are the database's: those of the record passed in are ignored.
create function partywall_control.append_audit(record jsonb) returns bigint language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
declare
  r partywall_control.audit_records := jsonb_populate_record(null::partywall_control.audit_records, record);
begin
  r.tenant_id := coalesce(r.tenant_id, '');
  select h.seq + 1, h.hash into r.seq, r.previous from partywall_control.audit_heads h where h.tenant_id = r.tenant_id for update;
  if not found then
    insert into partywall_control.audit_heads (tenant_id, seq, hash) values (r.tenant_id, 0, decode(repeat('00', 32), 'hex')) on conflict do nothing;
    select h.seq + 1, h.hash into r.seq, r.previous from partywall_control.audit_heads h where h.tenant_id = r.tenant_id for update;
  end if;
  r.at := clock_timestamp();
  r.details := coalesce(r.details, '{}');
  r.hash := sha256(r.previous || convert_to(partywall_control.audit_text(r), 'UTF8'));
  insert into partywall_control.audit_records select r.*;
  update partywall_control.audit_heads h set seq = r.seq, hash = r.hash where h.tenant_id = r.tenant_id;
  return r.seq;
end $$;

-- The latest signed statement about each chain: what its record `seq` was at `at`. Kept here and, by operators, elsewhere: it shows a chain
-- that was cut together with its head, or written anew from the start.
create table partywall_control.audit_anchors (
  tenant_id text primary key,
  seq bigint not null,
  hash bytea not null,
  at timestamptz not null,
  key_id text not null,
  signature bytea not null
);

-- Keeps an anchor that is newer than the one there and true of the chain.
create function partywall_control.keep_anchor(tenant text, upto bigint, record_hash bytea, anchored_at timestamptz, signed_by text, signed bytea)
returns boolean language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into partywall_control.audit_anchors as a (tenant_id, seq, hash, at, key_id, signature)
  select r.tenant_id, r.seq, r.hash, anchored_at, signed_by, signed
  from partywall_control.audit_records r where r.tenant_id = tenant and r.seq = upto and r.hash = record_hash
  on conflict (tenant_id) do update set seq = excluded.seq, hash = excluded.hash, at = excluded.at, key_id = excluded.key_id, signature = excluded.signature
  where excluded.seq > a.seq;
  return found;
end $$;

-- Where a chain begins after its oldest records were removed: the number and hash of the last one that went, how many went in all, signed.
create table partywall_control.audit_checkpoints (
  tenant_id text primary key,
  seq bigint not null,
  hash bytea not null,
  removed bigint not null,
  at timestamptz not null,
  key_id text not null,
  signature bytea not null
);

-- How long the records of a tenant are kept. Those of none, and of tenants that are gone, as long as any plan asks for.
create function partywall_control.audit_kept_since(tenant text) returns timestamptz language sql stable
return now() - make_interval(days => coalesce(
  (select p.audit_retention_days from partywall_control.directory d join partywall_control.plans p on p.name = d.plan where d.tenant_id = tenant),
  (select max(p.audit_retention_days) from partywall_control.plans p)));

-- The last of the chain's oldest records, `batch` at most, that nothing asks to keep; no row where there is none. Locks the chain, and the
-- tenant against a legal hold, until the transaction ends.
create function partywall_control.prunable_audit(tenant text, batch integer)
returns table (seq bigint, hash bytea, count bigint, removed_before bigint) language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform from partywall_control.directory d where d.tenant_id = tenant for share;
  if exists (select from partywall_control.directory d where d.tenant_id = tenant and d.hold_reason is not null) then
    return;
  end if;
  perform from partywall_control.audit_heads h where h.tenant_id = tenant for update;
  return query
    with oldest as (
      select r.seq, r.hash, r.at from partywall_control.audit_records r where r.tenant_id = tenant order by r.seq limit batch
    ), running as (
      select o.seq, o.hash, bool_and(o.at < partywall_control.audit_kept_since(tenant)) over (order by o.seq) as gone from oldest o
    )
    select o.seq, o.hash, (select count(*) from running g where g.gone), coalesce((select c.removed from partywall_control.audit_checkpoints c where c.tenant_id = tenant), 0)
    from running o where o.gone order by o.seq desc limit 1;
end $$;

-- Removes the records up to `upto` and leaves the checkpoint in their place. Refuses what `prunable_audit` would not have named.
create function partywall_control.prune_audit(tenant text, upto bigint, record_hash bytea, removed_in_all bigint, pruned_at timestamptz, signed_by text, signed bytea)
returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  gone bigint;
begin
  perform from partywall_control.directory d where d.tenant_id = tenant for share;
  if exists (select from partywall_control.directory d where d.tenant_id = tenant and d.hold_reason is not null)
    or exists (select from partywall_control.audit_records r where r.tenant_id = tenant and r.seq <= upto and r.at >= partywall_control.audit_kept_since(tenant))
    or not exists (select from partywall_control.audit_records r where r.tenant_id = tenant and r.seq = upto and r.hash = record_hash)
  then
    raise exception 'these audit records are kept' using errcode = 'insufficient_privilege';
  end if;
  delete from partywall_control.audit_records r where r.tenant_id = tenant and r.seq <= upto;
  get diagnostics gone = row_count;
  insert into partywall_control.audit_checkpoints as c (tenant_id, seq, hash, removed, at, key_id, signature)
  values (tenant, upto, record_hash, removed_in_all, pruned_at, signed_by, signed)
  on conflict (tenant_id) do update set seq = excluded.seq, hash = excluded.hash, removed = excluded.removed, at = excluded.at,
    key_id = excluded.key_id, signature = excluded.signature;
  return gone;
end $$;
