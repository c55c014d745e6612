import { dollarQuote, ident, literal } from '../db/sql.ts';
import { type ContextForm, contextTenant, contextValue, encodedContext, protectedSetting, setContext } from './context-sql.ts';
import { setFact } from './facts.ts';
import { attemptAppFunctions, attemptsSql } from './runtime/attempts-sql.ts';
import { jobsSql } from './runtime/jobs-sql.ts';
import { rolloutAppFunctions, rolloutSql } from './runtime/rollout-sql.ts';
import { makeOwnKey, refuseBadSeal, sealSql } from './runtime/seal-sql.ts';
import { shareUnitSql, unitSql } from './runtime/unit-sql.ts';
import { webhookAppFunctions, webhooksSql } from './runtime/webhooks-sql.ts';

/**
 * The part of the wall that lives in the database: schema `partywall` with the tenant registry and the functions
 * through which a session enters a tenant. Idempotent: installing it twenty times at once leaves one of each.
 *
 * Threat model: the application's role may run any SQL. It must not be able to read or write the registry, or to
 * enter a tenant that is suspended. In a sealed database it cannot enter a tenant whose seal it has not been given; in an unsealed one it can
 * name another tenant (a residual that verify names).
 */
export interface RuntimeOptions extends ContextForm {
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
  // PW008, a quota that is exceeded, is raised by what counts (metering/counting-sql.ts).
  sealRefused: 'PW009',
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
    `create table if not exists partywall.registry (
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
    tenantIdSql(options),
    ...unitSql(options),
    ...sealSql(options, wallStates.sealRefused),
    // Its second parameter is younger than the function.
    'drop function if exists partywall.enter(text)',
    ...enterSql(options),
    setContextSql(options),
    `create or replace function partywall.context_of(tenant ${key}) returns text language sql stable parallel safe
return ${encodedContext(options, 'tenant::text', 'null::text')}`,
    bootFactsSql(),
    setStateSql(key),
    stateChangedSql(),
    'create or replace trigger state_changed before update or delete on partywall.registry for each row execute function partywall.state_changed()',
    ...rolloutSql(options),
    ...attemptsSql(),
    ...webhooksSql(),
    ...jobsSql(),
    'revoke all on all tables in schema partywall from public',
    'revoke all on all sequences in schema partywall from public',
    'revoke all on all functions in schema partywall from public',
    shareUnitSql,
    ...(options.isProtected ? [grantSettingSql] : []),
    setFact('protected', options.isProtected),
  ];
  return options.owner ? [`set local role ${ident(options.owner)}`, ...statements, 'reset role'] : statements;
}

/** Advisory transaction lock under which the runtime is installed and changed. */
export const runtimeLock = "select pg_advisory_xact_lock(hashtextextended('partywall:runtime', 0))";

/** Functions that enter a tenant on the caller's word alone: a sealed database closes them to the application. */
export const unsealedFunctions = ['enter(text, text)', 'enter_since(text, bigint)', 'enter_unit(text, text, bigint)'] as const;

/** What the application may call of schema `partywall`, and nothing else of it. */
export const appFunctions = [
  'tenant_id()',
  'unit_id()',
  'no_context()',
  ...unsealedFunctions,
  'enter_sealed(text, text, bigint, integer, bigint, bytea)',
  'stand_in(text, bigint, bytea)',
  'boot_facts()',
  ...rolloutAppFunctions,
  ...attemptAppFunctions,
  ...webhookAppFunctions,
] as const;

/** Fact `{ role }` of a sealed database: the role that may enter with a seal alone. */
export const sealedFact = 'sealed';

/** What a role that enters tenants needs. Installing again does not open what was sealed. */
export function runtimeGrants(role: string): string[] {
  const unsealed: readonly string[] = unsealedFunctions;
  return [
    `grant usage on schema partywall to ${ident(role)}`,
    `grant execute on function ${qualified(appFunctions.filter((name) => !unsealed.includes(name)))} to ${ident(role)}`,
    `do ${dollarQuote(`begin
  if not exists (select from partywall.facts f where f.name = '${sealedFact}' and f.value ->> 'role' = ${literal(role)}) then
    grant execute on function ${qualified(unsealedFunctions)} to ${ident(role)};
  end if;
end`)}`,
  ];
}

/** Function names as in `unsealedFunctions`, for a GRANT. */
export function qualified(functions: readonly string[]): string {
  return functions.map((name) => `partywall.${name}`).join(', ');
}

/** The owner's functions set the context, so the owner needs the right; a superuser has it, and may give it. */
const giveSetting = `declare
  owner pg_catalog.name := (select pg_catalog.pg_get_userbyid(n.nspowner) from pg_catalog.pg_namespace n where n.nspname = 'partywall');
begin
  if not pg_catalog.has_parameter_privilege(owner, '${protectedSetting}', 'set') then
    execute pg_catalog.format('grant set on parameter ${protectedSetting} to %I', owner);
  end if;
end;`;
const grantSettingSql = `do ${dollarQuote(giveSetting.replace(/;$/, ''))}`;

/**
 * Gives a restored database what no backup has: the key that its own seals are made with, and the right of the owner of schema `partywall`
 * to set the context, which is the cluster's. Where nobody may give that right, no tenant can be entered until `apply` has chosen the plain setting.
 */
export const settleRestoredSql = `do ${dollarQuote(`begin
  if pg_catalog.to_regclass('partywall.seal_keys') is null then
    return;
  end if;
  ${makeOwnKey};
  if exists (select from partywall.facts f where f.name = 'protected' and f.value = 'true') then
    ${giveSetting}
  end if;
exception when insufficient_privilege then
  null;
end`)}`;

/** STABLE although it only raises: a volatile call would keep `tenant_id()` from being inlined. */
function noContextSql(key: string): string {
  return `create or replace function partywall.no_context() returns ${key} language plpgsql stable parallel safe as ${dollarQuote(`begin
  raise exception 'no tenant context' using errcode = '${wallStates.noContext}',
    hint = 'enter a tenant first: select partywall.enter(...) in the same transaction';
end`)}`;
}

/**
 * Inlined into every policy: STABLE, no SET clause, one expression, the cast on the value side. No context, by whatever way there came to be
 * none, leads to the error.
 *
 * With units there are restrictive policies, which are asked first, and a later condition leads into an index only where it could leak no row. The
 * planner takes every COALESCE for something that could, and CASE not: with COALESCE each query of a unit's table read all tenants' rows (counting
 * 100,000 of a million: 632 ms, with CASE 7).
 */
function tenantIdSql(options: ContextForm): string {
  const tenant = contextTenant(options);
  const body =
    options.unitType === undefined
      ? `coalesce(${tenant}, partywall.no_context())`
      : `case when ${tenant} is null then partywall.no_context() else ${tenant} end`;
  return `create or replace function partywall.tenant_id() returns ${options.keyType} language sql stable parallel safe
return ${body}`;
}

/**
 * Sets the encoded context, '' for none, and returns the former one. For what counts or restores a tenant's rows as somebody who may not set
 * it; closed to the application.
 */
function setContextSql(options: ContextForm): string {
  return `create or replace function partywall.set_context(context text) returns text language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  inside text := coalesce(${contextValue(options)}, '');
begin
  perform ${setContext(options, 'context')};
  return inside;
end`)}`;
}

/** Number of the last change of any tenant's state, read past every snapshot; 0 before the first. */
const lastChange = `coalesce(pg_catalog.pg_sequence_last_value('partywall.state_change'::pg_catalog.regclass), 0)`;

/**
 * Part of a function with the variable `changed`: raises where the transaction keeps a snapshot that the last change of a tenant's state
 * is not in, unless that change is the transaction's own. `pg_xact_status` raises for a number from the future: that one came with a dump
 * of another cluster, and nothing has changed since in this one.
 */
const refuseOldSnapshot = `  if pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) any ('{repeatable read,serializable}'::pg_catalog.text[]) then
    changed := ${lastChange};
    if not pg_catalog.pg_visible_in_snapshot(changed::pg_catalog.text::pg_catalog.xid8, pg_catalog.pg_current_snapshot())
       and coalesce(changed::pg_catalog.text::pg_catalog.xid8 operator(pg_catalog.<>) pg_catalog.pg_current_xact_id_if_assigned(), true) then
      begin
        perform pg_catalog.pg_xact_status(changed::pg_catalog.text::pg_catalog.xid8);
        raise exception 'the state of a tenant changed after this transaction took its snapshot' using errcode = '40001';
      exception when invalid_parameter_value then
        null;
      end;
    end if;
  end if;
`;

/**
 * `partywall.enter(tenant, unit)` admits the session to one tenant, and to one unit of it, until the transaction ends. The lock comes before
 * the read: a change of state takes the lock exclusively after it has committed, so whoever enters later reads the new state. Nobody looks
 * whether the unit is the tenant's: a row is seen where both are the context's, so with another's unit none is.
 *
 * `partywall.enter_since(tenant, seen)` is the same for callers that enter before every statement: it returns the change of state that the
 * admission holds for, or NULL where it must not be remembered, and a caller that passes it back next time saves the registry read
 * while no tenant of the database has changed. `changed` is read and found visible *before* the registry is read, so that the row
 * cannot be older than the number that stands for it. `enter_unit` does so with a unit, `enter_sealed` with a seal, which it checks whether
 * or not the database is sealed. Without a seal the caller says by itself whom it enters, so a made-up `seen` gains it nothing but a
 * tenant that is not open; with one it is the application's pool that says both, and what has only its connection has no seal.
 *
 * SECURITY DEFINER, because the caller may not read the registry nor set the context, and without `set search_path`, which costs 1.7 µs per call:
 * instead every function, operator and type is qualified, and no construct is used that looks an operator up by name (IN, BETWEEN,
 * IS DISTINCT FROM, NULLIF, CASE x WHEN).
 *
 * Server time of one Sync with a point read behind it (PostgreSQL 18, prepared, 40 Syncs per write, least of 1,500 rounds, µs): the read
 * alone with an explicit tenant 9.9; behind `select 1` 11.3; behind a bare `set_config`, bound by the policy, 14.1; behind a function
 * that does only that 15.2, and takes the lock too 15.2. Behind `enter` with a SET clause and PERFORM 25.7; without the SET clause 24.0; with
 * expressions, which need no SPI, in place of PERFORM 21.4; behind `enter_since` with the right `seen` 17.1. What gains nothing: hash index
 * (+0.5 against btree) or index-only scan (+1.1) on the registry, SECURITY INVOKER (-0.5), CALL of a procedure (+0.9), and a security barrier
 * view read by a top-level statement (20.8, and its snapshot is older than the lock).
 */
function enterSql(options: ContextForm): string[] {
  const type = qualifiedType(options.keyType);
  const canonicalUnit = options.unitType === undefined ? 'null::pg_catalog.text' : `unit::${qualifiedType(options.unitType)}::pg_catalog.text`;
  const contextWith = (unit: string): string => encodedContext(options, 'canonical', unit);
  const inside = contextValue(options);
  const lock = `pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended('${tenantLockPrefix}' operator(pg_catalog.||) canonical, 0))`;

  const since = (head: string, { unit, declared = '', check = '' }: { unit: string; declared?: string; check?: string }): string =>
    `create or replace function partywall.${head} returns bigint language plpgsql volatile security definer as ${dollarQuote(`declare
  canonical pg_catalog.text := tenant::${type}::pg_catalog.text;
  changed pg_catalog.int8;
${declared}begin
${check}  if (case
    when ${inside} operator(pg_catalog.<>) '' then false
    when ${lock} is null then false
    when ${lastChange} operator(pg_catalog.=) seen then ${setContext(options, contextWith(unit === 'unit' ? canonicalUnit : 'null::pg_catalog.text'))} is not null
    else false
  end) then
    return seen;
  end if;
  changed := ${lastChange};
  if not pg_catalog.pg_visible_in_snapshot(changed::pg_catalog.text::pg_catalog.xid8, pg_catalog.pg_current_snapshot()) then
    changed := null;
  end if;
  perform partywall.enter(tenant, ${unit});
  if pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'on' then
    return null;
  end if;
  return changed;
end`)}`;

  return [
    `create or replace function partywall.enter(tenant text, unit text default null) returns void language plpgsql volatile security definer as ${dollarQuote(`declare
  wanted ${type} := tenant::${type};
  canonical pg_catalog.text := wanted::pg_catalog.text;
  context pg_catalog.text := ${contextWith(canonicalUnit)};
  inside pg_catalog.text := ${inside};
  changed pg_catalog.int8;
  found_state pg_catalog.text;
  found_placement pg_catalog.text;
begin
  if inside operator(pg_catalog.<>) '' and inside operator(pg_catalog.<>) context then
    raise exception 'this transaction belongs to another tenant${options.unitType === undefined ? '' : ' or unit'}' using errcode = '${wallStates.crossTenant}';
  end if;
  if ${lock} is null then
    return;
  end if;
${refuseOldSnapshot}  select t.state, t.placement into found_state, found_placement from partywall.registry t where t.tenant_id operator(pg_catalog.=) wanted;
  if not found then
    raise exception 'unknown tenant' using errcode = '${wallStates.unknownTenant}';
  end if;
  if found_placement is not null then
    raise exception 'the tenant is placed in another database' using errcode = '${wallStates.placedElsewhere}', detail = found_placement;
  end if;
  if found_state operator(pg_catalog.<>) 'active' then
    if found_state operator(pg_catalog.=) 'read_only' then
      inside := pg_catalog.set_config('transaction_read_only', 'on', true);
      -- INFO reaches the client whatever client_min_messages is: a later 25006 is then known to be the tenant's.
      raise info 'the tenant is read-only' using errcode = '${wallStates.readOnly}';
    elsif found_state operator(pg_catalog.=) 'cancelled' then
      raise exception 'the tenant is cancelled' using errcode = '${wallStates.cancelled}';
    else
      raise exception 'the tenant is %', found_state using errcode = '${wallStates.suspended}';
    end if;
  end if;
  inside := ${setContext(options, 'context')};
end`)}`,
    since('enter_since(tenant text, seen bigint)', { unit: 'null' }),
    since('enter_unit(tenant text, unit text, seen bigint)', { unit: 'unit' }),
    since('enter_sealed(tenant text, unit text, seen bigint, key integer, expires bigint, mac bytea)', {
      unit: 'unit',
      declared: '  ipad pg_catalog.bytea;\n  opad pg_catalog.bytea;\n  lasts pg_catalog.float8;\n',
      check: refuseBadSeal(wallStates.sealRefused),
    }),
  ];
}

/** The types that `format_type` prints by a name which the search path decides; the others are keywords of the grammar. */
function qualifiedType(key: string): string {
  return key === 'uuid' || key === 'text' ? `pg_catalog.${key}` : key;
}

/** What a walled pool asks before it hands out a connection; the registry of facts itself stays closed to the application. */
function bootFactsSql(): string {
  return `create or replace function partywall.boot_facts() returns jsonb language sql stable security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`select jsonb_build_object(
  'phase', (select f.value from partywall.facts f where f.name = 'phase'),
  'walled_tables', (select f.value from partywall.facts f where f.name = 'walled_tables'),
  'protected', (select f.value from partywall.facts f where f.name = 'protected'),
  'sealed', exists (select from partywall.facts f where f.name = '${sealedFact}'),
  'seal_keys', (select coalesce(jsonb_agg(k.id), '[]'::jsonb) from partywall.seal_keys k where k.id > 0 and k.retired_at is null))`)}`;
}

/** Changes a tenant's state. Fencing (waiting for those inside, ending stragglers) is the caller's, after commit. */
function setStateSql(key: string): string {
  return `create or replace function partywall.set_state(tenant text, new_state text, why text default null) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  wanted ${key} := tenant::${key};
begin
  update partywall.registry t set state = new_state, reason = why where t.tenant_id = wanted;
  if not found then
    raise exception 'unknown tenant' using errcode = '${wallStates.unknownTenant}';
  end if;
end`)}`;
}

/**
 * One change at a time (the lock is held to commit), so that the latest transaction id stands for all before it. A transaction that
 * keeps its snapshot may enter after a change of its own, so it must not hide a change that it cannot see.
 */
function stateChangedSql(): string {
  return `create or replace function partywall.state_changed() returns trigger language plpgsql
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  changed pg_catalog.int8;
begin
  if tg_op = 'UPDATE' then
    if new.state is not distinct from old.state and new.placement is not distinct from old.placement and new.tenant_id = old.tenant_id then
      return new;
    end if;
    new.changed_at := now();
  end if;
  perform pg_advisory_xact_lock(hashtextextended('${tenantLockPrefix}state_change', 0));
${refuseOldSnapshot}  perform setval('partywall.state_change', pg_current_xact_id()::text::bigint);
  if tg_op = 'DELETE' then
    return old;
  end if;
  return new;
end`)}`;
}
