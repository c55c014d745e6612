import { latencyBucketsMs } from '@partywall/wall';
import type { Relation } from '../../catalog/catalog.ts';
import { dollarQuote, ident, literal } from '../../db/sql.ts';
import type { TenancyModel } from '../../model/model.ts';
import { type ContextForm, contextTenant } from '../context-sql.ts';
import { gatesSql } from './gates-sql.ts';

/**
 * What a roll-out keeps in the database: the modes (`rollout`), what was seen (`rollout_observations`, `rollout_counts`) and how the statements went
 * (`rollout_traffic`). Closed to everybody; the functions below are all that an application reaches.
 *
 * Threat model: the application's role may run any SQL, so it only reads the modes, with tenants as hashes, and cannot report: whoever could
 * report refusals could make the gates step back, which takes the wall down. Reports come over the observer's login (the `system` role),
 * which no policy binds in the first place. Each report is bounded, and so is each table.
 */
export const rolloutLimits = {
  /** Tenants and tables with a mode of their own, each; every process reads them every second. */
  modesMax: 1_000,
  reportBytesMax: 262_144,
  reportItemsMax: 500,
  /** Places that are told apart; what comes after is counted under `(other)`. */
  observationsMax: 10_000,
  textCharsMax: 2_000,
  /** Of one kind in one report. */
  countMax: 1_000_000_000,
  minutesKeptDays: 8,
} as const;

/** SQLSTATE of the notices by which an observing session tells the pool what the wall would refuse; never an error. */
export const observedState = 'PW020';

/** The permissive policy that opens one table to the application while the rest is enforced. */
export const observePolicyName = 'partywall_observe';

/**
 * Whom the policies of units on a table bind: everybody, and on a table that is open nobody, which is the system role, whom no policy binds. They are
 * restrictive, so that beside an open policy they would go on to narrow what is seen.
 */
export function unitPoliciesFor(table: Pick<Relation, 'policies'>, { roles }: TenancyModel): string {
  return table.policies.some(({ name }) => name === observePolicyName) ? roles.system : 'public';
}

/** Fact with the walled tables and their tenant columns, as the last change of a mode found them: `[{schema, name, column}]`. */
export const rolloutTablesFact = 'rollout_tables';

/** Held by whoever changes the modes, and shared by whoever has made a table fit them, each until its transaction ends. */
export const modesLock = "pg_catalog.hashtextextended('partywall:rollout', 0)";

/** Fact, true while tenants are observed, for verify. */
export const observingFact = 'rollout_observing';

/** Ends the roll-out of a database that was made from another one: it enforces, and nothing was begun that gates could step back from. */
export const endRolloutSql = `do ${dollarQuote(`begin
  if pg_catalog.to_regclass('partywall.rollout') is not null then
    delete from partywall.rollout;
  end if;
  if pg_catalog.to_regclass('partywall.rollout_stages') is not null then
    delete from partywall.rollout_stages;
  end if;
  update partywall.facts set value = 'false', changed_at = now() where name = '${observingFact}' and value = 'true';
end`)}`;

/** What the application may call. */
export const rolloutAppFunctions = ['rollout_state(text)', 'rollout_tables()'] as const;

/** Statements, each idempotent, in the order they need. */
export function rolloutSql(form: ContextForm): string[] {
  return [
    `create table if not exists partywall.rollout (
  scope text not null check (scope in ('all', 'percent', 'tenant', 'table')),
  target text not null,
  mode text not null check (mode in ('observe', 'enforce')),
  changed_at timestamptz not null default now(),
  changed_by text,
  reason text,
  primary key (scope, target),
  check (case scope when 'all' then target = '' when 'percent' then mode = 'enforce' and target ~ '^(\\d{1,2}|100)$' when 'table' then mode = 'observe' else target <> '' end)
)`,
    "create unique index if not exists rollout_one on partywall.rollout (scope) where scope in ('all', 'percent')",
    `create table if not exists partywall.rollout_observations (
  fingerprint text primary key,
  mode text not null,
  kind text not null,
  relation text not null,
  location text not null,
  statement text not null,
  count bigint not null,
  first_seen timestamptz not null,
  last_seen timestamptz not null
)`,
    `create table if not exists partywall.rollout_counts (
  minute timestamptz not null,
  mode text not null,
  kind text not null,
  count bigint not null,
  primary key (minute, mode, kind)
)`,
    `create table if not exists partywall.rollout_traffic (
  minute timestamptz not null,
  mode text not null,
  queries bigint not null,
  errors bigint not null,
  buckets bigint[] not null,
  primary key (minute, mode)
)`,
    stateSql(form.keyType),
    tablesSql(),
    observeSql(form),
    observeWriteSql(form),
    reportSql(),
    ...gatesSql(),
  ];
}

/** What the observer's login needs beside what every role that enters tenants has. */
export function observerGrants(role: string): string[] {
  return [`grant execute on function partywall.observe(text), partywall.report_observations(jsonb) to ${ident(role)}`];
}

/**
 * Asked every second by every process, which passes the `change` it knows and gets no more than that back while it is the current one. A tenant
 * is the SHA-256 of its key as the type prints it: whoever reads the modes learns no key.
 */
function stateSql(keyType: string): string {
  return `create or replace function partywall.rollout_state(known text) returns jsonb language sql stable security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`with modes as (select r.scope, r.target, r.mode from partywall.rollout r),
  state as (select jsonb_build_object(
    'keyType', ${literal(keyType)},
    'all', (select m.mode from modes m where m.scope = 'all'),
    'percent', (select m.target::int from modes m where m.scope = 'percent'),
    'tenants', (select coalesce(jsonb_object_agg(encode(sha256(convert_to(m.target, 'UTF8')), 'hex'), m.mode), '{}') from modes m where m.scope = 'tenant'),
    'tables', (select coalesce(jsonb_agg(m.target order by m.target), '[]') from modes m where m.scope = 'table')) as body),
  marked as (select s.body, md5(s.body::text) as change from state s)
select case when k.change = known then jsonb_build_object('change', k.change) else k.body || jsonb_build_object('change', k.change) end from marked k`)}`;
}

/** Where the tenant is in the rows that a server describes by oid and column number: `[[oid, column, "schema.table", observed]]`. */
function tablesSql(): string {
  return `create or replace function partywall.rollout_tables() returns jsonb language sql stable security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`select coalesce(jsonb_agg(jsonb_build_array(c.oid::bigint, a.attnum, t.schema || '.' || t.name,
    exists (select from partywall.rollout r where r.scope = 'table' and r.target = t.schema || '.' || t.name)) order by c.oid), '[]')
from partywall.facts f
cross join lateral jsonb_to_recordset(f.value) as t (schema text, name text, "column" text)
join pg_namespace n on n.nspname = t.schema
join pg_class c on c.relnamespace = n.oid and c.relname = t.name
join pg_attribute a on a.attrelid = c.oid and a.attname = t."column" and not a.attisdropped
where f.name = '${rolloutTablesFact}'`)}`;
}

/**
 * First of every statement of an observing session: marks the transaction as observed, and says whether the tenant can be entered. Not
 * where the transaction is in another one, which the pool has counted; one that is unknown is told in a notice. The statement goes on. Suspended and fenced tenants are refused by `enter` in every mode: that is an operator's decision, not the roll-out's.
 */
function observeSql(form: ContextForm): string {
  return `create or replace function partywall.observe(tenant text) returns boolean language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  wanted ${form.keyType};
  inside ${form.keyType} := ${contextTenant(form)};
begin
  perform set_config('partywall.observe', 'on', true);
  if tenant = '' then
    return false;
  end if;
  begin
    wanted := tenant::${form.keyType};
  exception when data_exception then
    wanted := null;
  end;
  if inside <> wanted then
    return false;
  end if;
  if wanted is null or not exists (select from partywall.registry t where t.tenant_id = wanted) then
    raise info 'unknown tenant' using errcode = '${observedState}', detail = '{"kind": "unknown_tenant"}';
    return false;
  end if;
  return true;
end`)}`;
}

/**
 * Of the logging triggers, whose conditions let only rows through that the wall would refuse. Tells once for each statement and table, so that
 * a statement over a million rows sends one notice; INFO reaches the client whatever client_min_messages is. No table is
 * written, so nothing is lost with a rollback and nothing can be refused.
 */
function observeWriteSql(form: ContextForm): string {
  return `create or replace function partywall.observe_write() returns trigger language plpgsql volatile
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  told text := concat_ws('/', extract(epoch from statement_timestamp()), tg_relid, tg_op);
begin
  if current_setting('partywall.observed', true) is distinct from told then
    perform set_config('partywall.observed', told, true);
    raise info 'the wall would refuse this write' using errcode = '${observedState}', detail = jsonb_build_object(
      'kind', case when ${contextTenant(form)} is null then 'write_without_context' else 'foreign_write' end,
      'table', tg_table_schema || '.' || tg_table_name)::text;
  end if;
  return null;
end`)}`;
}

/**
 * Adds what one process has counted since its last report: `{"traffic": [{mode, queries, errors, buckets}], "seen": [{mode, kind, relation, location,
 * statement, count}]}`. Times are the database's. Rows are taken in one order, so that two reports cannot wait for each other.
 */
function reportSql(): string {
  const { reportBytesMax, reportItemsMax, observationsMax, textCharsMax, countMax, minutesKeptDays } = rolloutLimits;
  const buckets = latencyBucketsMs.length + 1;
  return `create or replace function partywall.report_observations(report jsonb) returns void language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  now_minute timestamptz := date_trunc('minute', clock_timestamp());
  full_up boolean;
  item record;
  mark text;
begin
  if octet_length(report::text) > ${reportBytesMax} then
    raise exception 'the report is larger than ${reportBytesMax} bytes' using errcode = 'program_limit_exceeded';
  end if;
  insert into partywall.rollout_traffic as t (minute, mode, queries, errors, buckets)
    select distinct on (r.mode) now_minute, r.mode, r.queries, r.errors, r.buckets
    from jsonb_to_recordset(coalesce(report -> 'traffic', '[]')) as r (mode text, queries bigint, errors bigint, buckets bigint[])
    where r.mode in ('observe', 'enforce') and cardinality(r.buckets) = ${buckets} and r.queries between 0 and ${countMax} and r.errors between 0 and r.queries
    order by r.mode
  on conflict (minute, mode) do update set queries = t.queries + excluded.queries, errors = t.errors + excluded.errors,
    buckets = (select array_agg(b.old + b.new order by b.at) from unnest(t.buckets, excluded.buckets) with ordinality as b (old, new, at));
  full_up := (select count(*) >= ${observationsMax} from partywall.rollout_observations);
  for item in select s.mode, s.kind, left(coalesce(s.relation, ''), ${textCharsMax}) as relation, left(coalesce(s.location, ''), ${textCharsMax}) as location,
      left(coalesce(s.statement, ''), ${textCharsMax}) as statement, sum(least(s.count, ${countMax}))::bigint as count
    from jsonb_to_recordset(coalesce(report -> 'seen', '[]')) as s (mode text, kind text, relation text, location text, statement text, count bigint)
    where s.mode in ('observe', 'enforce') and s.kind ~ '^[a-z_]{1,40}$' and s.count > 0
    group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5 limit ${reportItemsMax}
  loop
    insert into partywall.rollout_counts as c (minute, mode, kind, count) values (now_minute, item.mode, item.kind, item.count)
      on conflict (minute, mode, kind) do update set count = c.count + excluded.count;
    mark := md5(concat_ws(chr(31), item.mode, item.kind, item.relation, item.location, item.statement));
    if full_up and not exists (select from partywall.rollout_observations o where o.fingerprint = mark) then
      mark := md5(concat_ws(chr(31), item.mode, item.kind, '(other)'));
      item.relation := '';
      item.location := '';
      item.statement := '(other)';
    end if;
    insert into partywall.rollout_observations as o (fingerprint, mode, kind, relation, location, statement, count, first_seen, last_seen)
      values (mark, item.mode, item.kind, item.relation, item.location, item.statement, item.count, clock_timestamp(), clock_timestamp())
      on conflict (fingerprint) do update set count = o.count + excluded.count, last_seen = excluded.last_seen;
  end loop;
  delete from partywall.rollout_traffic t where t.minute < now_minute - interval '${minutesKeptDays} days';
  delete from partywall.rollout_counts c where c.minute < now_minute - interval '${minutesKeptDays} days';
end`)}`;
}
