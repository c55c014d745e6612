-- What was done and what was refused: a hash chain for each tenant, and one for what belongs to none (tenant '').

create table partywall_control.audit_heads (
  tenant_id text primary key,
  seq bigint not null,
  hash bytea not null
);

create table partywall_control.audit_records (
  tenant_id text not null,
  seq bigint not null,
  at timestamptz not null,
  actor_kind text not null check (actor_kind in ('user', 'api_key', 'operator', 'system')),
  actor_id text not null,
  actor_name text,
  -- Where the request came from, if it was one.
  address text,
  action text not null,
  target text,
  outcome text not null check (outcome in ('done', 'denied')),
  reason text,
  request_id text,
  details jsonb not null,
  -- Of the record before it; 32 zero bytes before the first.
  previous bytea not null,
  hash bytea not null,
  primary key (tenant_id, seq)
);
create index audit_records_at_idx on partywall_control.audit_records (tenant_id, at desc, seq desc);
create index audit_records_actor_idx on partywall_control.audit_records (actor_id, at desc);
create index audit_records_action_idx on partywall_control.audit_records (action, at desc);

-- The bytes a record's hash covers, after the previous hash. The text of jsonb is canonical: keys sorted, no insignificant space.
create function partywall_control.audit_bytes(r partywall_control.audit_records) returns bytea language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return convert_to(jsonb_build_array(r.tenant_id, r.seq, (extract(epoch from r.at) * 1000000)::bigint, r.actor_kind, r.actor_id, r.actor_name, r.address,
  r.action, r.target, r.outcome, r.reason, r.request_id, r.details)::text, 'UTF8');

-- Adds one record to the chain of its tenant and returns its number. The head stays locked until the transaction ends, so call it last.
create function partywall_control.append_audit(record jsonb) returns bigint language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  r partywall_control.audit_records := jsonb_populate_record(null::partywall_control.audit_records, record);
begin
  r.tenant_id := coalesce(r.tenant_id, '');
  insert into partywall_control.audit_heads as h (tenant_id, seq, hash) values (r.tenant_id, 0, decode(repeat('00', 32), 'hex')) on conflict do nothing;
  select h.seq + 1, h.hash into r.seq, r.previous from partywall_control.audit_heads h where h.tenant_id = r.tenant_id for update;
  r.at := clock_timestamp();
  r.details := coalesce(r.details, '{}');
  r.hash := sha256(r.previous || partywall_control.audit_bytes(r));
  insert into partywall_control.audit_records select r.*;
  update partywall_control.audit_heads h set seq = r.seq, hash = r.hash where h.tenant_id = r.tenant_id;
  return r.seq;
end $$;
