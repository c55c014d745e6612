import { dollarQuote, ident, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';

/** The quota whose usage is a tenant's storage, where the model counts bytes under this name. */
const storageQuota = 'storage';

/**
 * `partywall_control.tenant_usage(tenant)`: what each tenant uses, one row for each, for operators' views and for the API. Requests are those of
 * the last 24 hours, by whole hours; active users of the last 30 days. Rows and bytes are those of the last survey, but exact where a quota
 * counts them: the model says which table a quota counts. Derived, therefore, and written anew at each install.
 */
export function usageSql(model: TenancyModel): string[] {
  const counted = [...model.quotas].flatMap(([quota, of]) => (of.kind === 'rows' ? [`(${literal(quota)}, ${literal(of.table)})`] : []));
  const countedTables = counted.length === 0 ? 'select null::text, null::text where false' : `values ${counted.join(', ')}`;
  const exactStorage = model.quotas.get(storageQuota)?.kind === 'bytes' ? literal(storageQuota) : 'null::text';
  const body = `begin
  return query
  with counted (quota, entity_table) as (${countedTables}),
  quotas as (
    select q.tenant_id, max(q.used) filter (where q.quota = 'api_calls') as api_calls, max(q.used) filter (where q.quota = ${exactStorage}) as storage,
      jsonb_object_agg(c.entity_table, q.used) filter (where c.entity_table is not null) as rows
    from partywall_control.quota_usage(tenant) q left join counted c on c.quota = q.quota group by q.tenant_id
  ),
  survey as (select max(s.at) as at from partywall_control.usage_surveys s where s.finished_at is not null),
  samples as (
    select s.* from partywall_control.usage_samples s join survey on survey.at = s.at where tenant is null or s.tenant_id = tenant
  ),
  people as (
    select a.tenant_id, count(distinct a.user_id) as users from partywall_control.active_users a
    where a.day > (now() at time zone 'UTC')::date - 30 and (tenant is null or a.tenant_id = tenant) group by a.tenant_id
  ),
  requests as (
    select h.tenant_id, sum(h.calls) as calls, sum(h.errors) as errors, sum(h.millis) as millis,
      array[sum(h.buckets[1]), sum(h.buckets[2]), sum(h.buckets[3]), sum(h.buckets[4]), sum(h.buckets[5]), sum(h.buckets[6]), sum(h.buckets[7]),
        sum(h.buckets[8]), sum(h.buckets[9]), sum(h.buckets[10]), sum(h.buckets[11])]::bigint[] as buckets
    from partywall_control.request_hours h
    where h.hour > now() - interval '24 hours' and (tenant is null or h.tenant_id = tenant) group by h.tenant_id
  ),
  sessions as (select t.tenant_id, count(distinct t.pid) as connections from partywall_control.tenant_sessions() t group by t.tenant_id)
  select d.tenant_id, date_trunc('month', now(), 'UTC'), coalesce(q.api_calls, 0)::bigint, coalesce(p.users, 0)::bigint,
    coalesce(s.rows, '{}') || coalesce(q.rows, '{}'), coalesce(q.storage, s.storage)::bigint,
    (r.errors / nullif(r.calls, 0))::double precision, r.millis / nullif(r.calls, 0)::double precision, partywall_control.latency_percentile(r.buckets, 0.95),
    coalesce(c.connections, 0)::bigint, s.at
  from partywall_control.directory d
    left join quotas q on q.tenant_id = d.tenant_id
    left join samples s on s.tenant_id = d.tenant_id
    left join people p on p.tenant_id = d.tenant_id
    left join requests r on r.tenant_id = d.tenant_id
    left join sessions c on c.tenant_id = d.tenant_id
  where tenant is null or d.tenant_id = tenant;
end`;
  // One tenant and all tenants want different plans.
  return [
    `create or replace function partywall_control.tenant_usage(tenant text default null) returns table (tenant_id text, period_start timestamptz, api_calls bigint,
  active_users bigint, rows jsonb, storage_bytes bigint, error_rate double precision, avg_response_ms double precision, p95_response_ms double precision,
  connections bigint, measured_at timestamptz) language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as ${dollarQuote(body)}`,
  ];
}

/**
 * Lets the service role see what the sessions of other roles are doing. Where the installing role may not grant that, lists of sessions lack
 * state and statement, and say so by null.
 */
export function maySeeSessions(model: TenancyModel): string {
  const { service } = model.roles;
  const grant = `grant pg_read_all_stats to ${ident(service)}`;
  return `do ${dollarQuote(`begin
  if not pg_catalog.pg_has_role(${literal(service)}, 'pg_read_all_stats', 'usage') then
    ${grant};
  end if;
exception when insufficient_privilege then
  raise notice 'the service role may not see what sessions do' using hint = ${literal(grant)};
end`)}`;
}
