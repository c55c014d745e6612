import { dollarQuote, ident, literal } from '../db/sql.ts';

/**
 * The part of the wall that lives in the database: schema `partywall` with the tenant registry and the functions
 * through which a session enters a tenant. Idempotent: installing it twenty times at once leaves one of each.
 *
 * Threat model: the application's role may run any SQL. It must not be able to read or write the registry, or to
 * enter a tenant that is suspended; with an unsealed context it can name another tenant (a residual that verify names).
 */
export interface RuntimeOptions {
  /** SQL type of the tenant root's key, as `format_type` prints it: `uuid`, `bigint`, `integer`, `text`, `character varying`. */
  readonly keyType: string;
  /** Role that owns the objects; RLS never binds it in schema `partywall`. Empty: the connecting role. */
  readonly owner?: string;
}

/**
 * SQLSTATEs that the functions raise; `@partywall/wall` maps each to an error class.
 * Class `PW` is in the range the standard leaves to implementations.
 */
export const wallStates = {
  noContext: 'PW001',
  unknownTenant: 'PW002',
  suspended: 'PW003',
  cancelled: 'PW004',
  readOnly: 'PW005',
  placedElsewhere: 'PW006',
  crossTenant: 'PW007',
} as const;

/** States a tenant can be in; `enter` admits the first two. */
export const tenantStates = ['active', 'read_only', 'suspended', 'cancelled', 'fenced'] as const;
export type TenantState = (typeof tenantStates)[number];

/** Prefix of the text whose hash is a tenant's advisory lock key; entering takes it shared, fencing takes it exclusive. */
export const tenantLockPrefix = 'partywall:';

/** Statements in order, each idempotent; run them in one transaction under `runtimeLock`. */
export function runtimeSql(options: RuntimeOptions): string[] {
  const key = options.keyType;
  const statements = [
    'create schema if not exists partywall',
    'revoke all on schema partywall from public',
    `create table if not exists partywall.tenants (
  tenant_id ${key} primary key,
  state text not null default 'active' check (state in (${tenantStates.map((state) => literal(state)).join(', ')})),
  placement text,
  reason text,
  registered_at timestamptz not null default now(),
  changed_at timestamptz not null default now()
)`,
    `create table if not exists partywall.facts (
  name text primary key,
  value jsonb not null,
  changed_at timestamptz not null default now()
)`,
    // Holds the transaction id of the latest change of any tenant's state. A sequence is read past every snapshot, which is
    // how a REPEATABLE READ transaction that began before a suspension learns that its view of the registry is old.
    'create sequence if not exists partywall.state_change minvalue 0 start 0',
    noContextSql(key),
    tenantIdSql(key),
    enterSql(key),
    setStateSql(key),
    stateChangedSql(),
    `do ${dollarQuote(`begin
  if not exists (select from pg_catalog.pg_trigger where tgrelid = 'partywall.tenants'::pg_catalog.regclass and tgname = 'state_changed') then
    create trigger state_changed before update or delete on partywall.tenants for each row execute function partywall.state_changed();
  end if;
end`)}`,
    'revoke all on all tables in schema partywall from public',
    'revoke all on all sequences in schema partywall from public',
    'revoke all on all functions in schema partywall from public',
  ];
  return options.owner ? [`set local role ${ident(options.owner)}`, ...statements, 'reset role'] : statements;
}

/** Advisory transaction lock under which the runtime is installed and changed. */
export const runtimeLock = "select pg_advisory_xact_lock(hashtextextended('partywall:runtime', 0))";

/** What a role that enters tenants needs. */
export function runtimeGrants(role: string): string[] {
  return [
    `grant usage on schema partywall to ${ident(role)}`,
    `grant execute on function partywall.tenant_id(), partywall.no_context(), partywall.enter(text) to ${ident(role)}`,
  ];
}

/** STABLE although it only raises: a volatile call would keep `tenant_id()` from being inlined. */
function noContextSql(key: string): string {
  return `create or replace function partywall.no_context() returns ${key} language plpgsql stable parallel safe as ${dollarQuote(`begin
  raise exception 'no tenant context' using errcode = '${wallStates.noContext}',
    hint = 'enter a tenant first: select partywall.enter(...) in the same transaction';
end`)}`;
}

/**
 * Inlined into every policy: STABLE, no SET clause, one expression, the cast on the value side. An unset parameter is NULL and
 * one that was set locally before reads '', so both lead to the error.
 */
function tenantIdSql(key: string): string {
  return `create or replace function partywall.tenant_id() returns ${key} language sql stable parallel safe
return coalesce(nullif(pg_catalog.current_setting('partywall.tenant_id', true), '')::${key}, partywall.no_context())`;
}

/**
 * Admits the session to one tenant until the transaction ends. The lock comes before the read: a change of state takes the lock
 * exclusively after it has committed, so whoever enters later reads the new state. SECURITY DEFINER with a pinned search_path,
 * because the role that calls it may not read the registry.
 */
function enterSql(key: string): string {
  return `create or replace function partywall.enter(tenant text) returns void language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  wanted ${key} := tenant::${key};
  inside text := current_setting('partywall.tenant_id', true);
  found_state text;
  found_placement text;
begin
  if inside <> '' and inside <> wanted::text then
    raise exception 'this transaction belongs to another tenant' using errcode = '${wallStates.crossTenant}';
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('${tenantLockPrefix}' || wanted::text, 0));
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable')
     and not pg_visible_in_snapshot((select last_value from partywall.state_change)::text::xid8, pg_current_snapshot()) then
    raise exception 'the state of a tenant changed after this transaction took its snapshot' using errcode = '40001';
  end if;
  select t.state, t.placement into found_state, found_placement from partywall.tenants t where t.tenant_id = wanted;
  if not found then
    raise exception 'unknown tenant' using errcode = '${wallStates.unknownTenant}';
  end if;
  if found_placement is not null then
    raise exception 'the tenant is placed in another database' using errcode = '${wallStates.placedElsewhere}';
  end if;
  if found_state <> 'active' then
    if found_state = 'read_only' then
      perform set_config('transaction_read_only', 'on', true);
    elsif found_state = 'cancelled' then
      raise exception 'the tenant is cancelled' using errcode = '${wallStates.cancelled}';
    else
      raise exception 'the tenant is %', found_state using errcode = '${wallStates.suspended}';
    end if;
  end if;
  perform set_config('partywall.tenant_id', wanted::text, true);
end`)}`;
}

/** Changes a tenant's state. Fencing (waiting for those inside, ending stragglers) is the caller's, after commit. */
function setStateSql(key: string): string {
  return `create or replace function partywall.set_state(tenant text, new_state text, why text default null) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  wanted ${key} := tenant::${key};
begin
  update partywall.tenants t set state = new_state, reason = why where t.tenant_id = wanted;
  if not found then
    raise exception 'unknown tenant' using errcode = '${wallStates.unknownTenant}';
  end if;
end`)}`;
}

/** One change at a time (the lock is held to commit), so that the latest transaction id stands for all before it. */
function stateChangedSql(): string {
  return `create or replace function partywall.state_changed() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as ${dollarQuote(`begin
  if tg_op = 'UPDATE' then
    if new.state is not distinct from old.state and new.placement is not distinct from old.placement then
      return new;
    end if;
    new.changed_at := now();
  end if;
  perform pg_advisory_xact_lock(hashtextextended('${tenantLockPrefix}state_change', 0));
  perform setval('partywall.state_change', pg_current_xact_id()::text::bigint);
  if tg_op = 'DELETE' then
    return old;
  end if;
  return new;
end`)}`;
}
