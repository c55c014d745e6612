import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { suffix } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import type { TableRule } from '../../src/model/model.ts';
import { parseTableName, tableName } from '../../src/model/table-name.ts';
import type { Finding } from '../../src/verify/finding.ts';
import type { accessRules } from '../../src/verify/rules/access-rules.ts';
import type { shapeRules } from '../../src/verify/rules/shape-rules.ts';
import { readServerFacts } from '../../src/verify/server-facts.ts';
import { runStatic } from '../../src/verify/static/run-static.ts';
import { reachOf } from '../../src/verify/static/static-facts.ts';
import { wantedWall } from '../../src/wall/shape.ts';
import { createSoundDatabase, nastyTable, type SoundDatabase } from './sound-database.ts';

/**
 * Each rule that judges the catalog, proven by breaking a sound database in that one way, in a transaction that is rolled back.
 * The findings are compared whole: what is broken is found, and nothing else is.
 */
interface Mutation {
  /** What was done, as a sentence's end: "finds <name>". */
  readonly name: string;
  readonly break: readonly string[];
  /** Every finding: `rule target`. */
  readonly finds: readonly string[];
  /** First major version that has what is broken. */
  readonly since?: number;
  /** Tables that the model names for this mutation. */
  readonly tables?: Readonly<Record<string, TableRule>>;
}

let sound: SoundDatabase;
let client: pg.Client;
const group = `grp_${suffix()}`;
const other = `oth_${suffix()}`;
beforeAll(async () => {
  sound = await createSoundDatabase();
  client = new pg.Client(sound.database.url);
  await client.connect();
  await client.query(`create role ${group}; create role ${other}`);
});
afterAll(async () => {
  await client.query(`drop role ${group}; drop role ${other}`);
  await client.end();
});

const policy = (table: string) => `(select polname from pg_policy where polrelid = '${table}'::regclass)`;
/** Runs DDL whose names are found at run time. */
const dynamic = (statement: string, ...values: string[]) => `do $m$ begin execute format('${statement.replaceAll("'", "''")}', ${values.join(', ')}); end $m$`;

const mutations: Readonly<Record<keyof typeof accessRules | keyof typeof shapeRules, readonly Mutation[]>> = {
  'role.missing': [{ name: 'that the application’s role is not there', break: ['drop owned by $app', 'drop role $app'], finds: ['role.missing role $app'] }],
  'role.superuser': [{ name: 'a superuser', break: ['alter role $app superuser'], finds: ['role.superuser role $app'] }],
  'role.bypass-rls': [{ name: 'BYPASSRLS', break: ['alter role $app bypassrls'], finds: ['role.bypass-rls role $app'] }],
  'role.membership': [
    { name: 'membership of the owner', break: ['grant $owner to $app'], finds: ['role.membership role $owner'] },
    {
      name: 'membership of the owner of schema partywall',
      break: ['alter schema partywall owner to $group', 'grant $group to $app'],
      finds: ['role.membership role $group'],
    },
    {
      name: 'membership, without inheriting, of who owns the keys of the seal',
      break: ['alter table partywall.seal_keys owner to $group', 'alter role $app noinherit', 'grant $group to $app'],
      finds: ['role.membership role $group', 'runtime.owner partywall.seal_keys'],
    },
    {
      name: 'membership of who owns a function of the wall',
      break: ['alter function partywall.tenant_id() owner to $group', 'grant $group to $app'],
      finds: ['role.membership role $group', 'runtime.owner function partywall.tenant_id()'],
    },
    {
      name: 'membership of a role with BYPASSRLS over another role',
      break: ['alter role $group bypassrls', 'grant $group to $other', 'grant $other to $app'],
      finds: ['role.membership role $group'],
    },
    {
      name: 'membership with ADMIN alone, which grants itself the rest',
      break: ['grant $owner to $app with admin true, inherit false, set false'],
      finds: ['role.membership role $owner'],
      since: 16,
    },
  ],
  'role.predefined': [
    { name: 'pg_read_all_data', break: ['grant pg_read_all_data to $app'], finds: ['role.predefined role pg_read_all_data'] },
    { name: 'pg_execute_server_program', break: ['grant pg_execute_server_program to $app'], finds: ['role.predefined role pg_execute_server_program'] },
    { name: 'pg_monitor', break: ['grant pg_read_all_stats to $app'], finds: ['role.predefined role pg_read_all_stats'] },
  ],
  'role.owner': [
    { name: 'an owned table of the platform', break: ['alter table job_queue owner to $app'], finds: ['role.owner public.job_queue'] },
    { name: 'an owned function', break: ['alter function touch() owner to $app'], finds: ['role.owner function public.touch()'] },
    {
      name: 'an owned function of the wall',
      break: ['alter function partywall.tenant_id() owner to $app'],
      finds: ['role.owner function partywall.tenant_id()'],
    },
  ],
  'role.replication': [{ name: 'REPLICATION', break: ['alter role $app replication'], finds: ['role.replication role $app'] }],
  'role.administers': [
    { name: 'CREATEROLE', break: ['alter role $app createrole'], finds: ['role.administers role $app'] },
    { name: 'CREATEDB', break: ['alter role $app createdb'], finds: ['role.administers role $app'] },
  ],
  'role.wall-roles-joined': [
    { name: 'a system role that can become the owner', break: ['grant $owner to $system'], finds: ['role.wall-roles-joined role $system'] },
  ],
  'role.bound-jobs': [{ name: 'a system role that policies bind', break: ['alter role $system nobypassrls'], finds: ['role.bound-jobs role $system'] }],
  'setting.standing-context': [
    {
      name: 'a standing tenant of the role',
      break: ["alter role $app set partywall.tenant_id = 'x'"],
      finds: ['setting.standing-context partywall.tenant_id of role $app'],
    },
    {
      name: 'a standing tenant of the database',
      break: ["alter database $db set partywall.tenant_id = 'x'"],
      finds: ['setting.standing-context partywall.tenant_id of database $db'],
    },
    {
      name: 'a standing setting of the wall in other letters, of every role',
      break: [`alter role all in database $db set "PartyWall.Restoring" = 'x'`],
      finds: ['setting.standing-context PartyWall.Restoring of database $db'],
    },
    {
      name: 'a standing tenant in the setting that holds the context',
      break: ["alter role $app set backtrace_functions = '0000000000004000800000000000000a'"],
      finds: ['setting.standing-context backtrace_functions of role $app'],
    },
  ],
  'setting.standing-role': [{ name: 'a standing role', break: ['alter role $app set role = $app'], finds: ['setting.standing-role role of role $app'] }],
  'setting.row-security': [
    { name: 'row_security off by default', break: ['alter role $app set row_security = off'], finds: ['setting.row-security row_security of role $app'] },
  ],
  'setting.strings': [
    {
      name: 'strings in which backslashes escape',
      break: ['alter role $app set standard_conforming_strings = off'],
      finds: ['setting.strings standard_conforming_strings of role $app'],
    },
    {
      name: 'strings in which backslashes escape, in the whole database',
      break: ['alter database $db set standard_conforming_strings = off'],
      finds: ['setting.strings standard_conforming_strings of database $db'],
    },
  ],
  'setting.search-path': [
    {
      name: 'a standing search path to a schema nobody knows',
      break: ['create schema elsewhere', 'alter role $app set search_path = elsewhere, public'],
      finds: ['setting.search-path search_path of role $app'],
    },
  ],
  'setting.replication-role': [
    {
      name: 'the right to set session_replication_role',
      break: ['grant set on parameter session_replication_role to $app'],
      finds: ['setting.replication-role parameter session_replication_role'],
    },
    {
      name: 'a standing session_replication_role',
      break: ['alter role $app set session_replication_role = replica'],
      finds: ['setting.replication-role session_replication_role of role $app'],
    },
  ],
  'setting.context': [
    {
      name: 'the right to set the context',
      break: ['grant set on parameter backtrace_functions to $app'],
      finds: ['setting.context parameter backtrace_functions'],
    },
  ],
  'schema.create': [
    { name: 'CREATE on schema public', break: ['grant create on schema public to public'], finds: ['schema.create schema public'] },
    { name: 'CREATE by an inherited role', break: ['grant create on schema public to $group', 'grant $group to $app'], finds: ['schema.create schema public'] },
  ],
  'schema.database-create': [
    { name: 'CREATE on the database', break: ['grant create on database $db to $app'], finds: ['schema.database-create database $db'] },
  ],
  'privilege.truncate': [{ name: 'TRUNCATE', break: ['grant truncate on customers to $app'], finds: ['privilege.truncate public.customers'] }],
  'privilege.references': [{ name: 'REFERENCES', break: ['grant references on customers to $app'], finds: ['privilege.references public.customers'] }],
  'privilege.trigger': [{ name: 'TRIGGER', break: ['grant trigger on customers to $app'], finds: ['privilege.trigger public.customers'] }],
  'privilege.maintain': [{ name: 'MAINTAIN', break: ['grant maintain on customers to $app'], finds: ['privilege.maintain public.customers'], since: 17 }],
  'privilege.grant-option': [
    { name: 'grant option', break: ['grant select on customers to $app with grant option'], finds: ['privilege.grant-option public.customers'] },
  ],
  'privilege.public': [{ name: 'a grant to everyone', break: ['grant select on countries to public'], finds: ['privilege.public public.countries'] }],
  'privilege.column': [
    { name: 'a privilege on a column', break: ['grant update (name) on countries to $app'], finds: ['privilege.column column name of public.countries'] },
  ],
  'privilege.excess': [
    { name: 'writing a shared table that is for reading', break: ['grant insert on countries to $app'], finds: ['privilege.excess public.countries'] },
    {
      name: 'reading what is the platform’s own',
      break: ['grant select on schema_migrations to $group', 'grant $group to $app'],
      finds: ['privilege.excess public.schema_migrations'],
    },
  ],
  'privilege.sequence': [
    {
      name: 'SELECT on a sequence',
      break: ['grant select on sequence contacts_id_seq to $app'],
      finds: ['privilege.sequence sequence public.contacts_id_seq'],
    },
  ],
  'privilege.default': [
    {
      name: 'default privileges for tables to come',
      break: ['alter default privileges for role $owner in schema public grant select on tables to $app'],
      finds: ['privilege.default default privileges of $owner on tables in schema public'],
    },
    {
      name: 'default privileges for tables to come in any schema',
      break: ['alter default privileges for role $owner grant select on tables to public'],
      finds: ['privilege.default default privileges of $owner on tables in any schema'],
    },
    {
      name: 'default privileges for functions to come in any schema',
      break: ['alter default privileges grant execute on functions to $app'],
      finds: ['privilege.default default privileges of postgres on functions in any schema'],
    },
    {
      name: 'default privileges for functions to come in schema partywall, by a role that it inherits',
      break: ['alter default privileges in schema partywall grant execute on functions to $group', 'grant $group to $app'],
      finds: ['privilege.default default privileges of postgres on functions in schema partywall'],
    },
  ],
  'runtime.missing': [
    {
      name: 'that schema partywall is gone',
      break: ['drop event trigger partywall_new_tables', 'drop schema partywall cascade'],
      finds: [
        'runtime.missing schema partywall',
        ...[
          '"Sales$$""Dept"".x"."Order ""Lines"".$$ $nasty"',
          'public."Tags"',
          'public."documents.special"',
          'public.contacts',
          'public.customer_tags',
          'public.customers',
          'public.documents',
          'public.events',
          'public.events_2026',
          'public.events_2027',
          'public.files',
          'public.log_lines',
          'public.slots',
          'public.tenants',
        ].map((table) => `rls.no-policy ${table}`),
        ...['"Sales$$""Dept"".x"."Order ""Lines"".$$ $nasty"', 'public.contacts', 'public.customer_tags', 'public.files'].map(
          (table) => `tenant.no-default ${table}`,
        ),
      ],
    },
  ],
  'runtime.phase': [
    {
      name: 'that contract is not recorded',
      break: [`update partywall.facts set value = '"expand"' where name = 'phase'`],
      finds: ['runtime.phase schema partywall'],
    },
  ],
  'runtime.observing': [
    {
      name: 'that a roll-out observes',
      break: [`insert into partywall.facts (name, value) values ('rollout_observing', 'true')`],
      finds: ['runtime.observing schema partywall'],
    },
  ],
  'runtime.function-changed': [
    {
      name: 'an IMMUTABLE helper',
      break: ['alter function partywall.tenant_id() immutable'],
      finds: ['runtime.function-changed function partywall.tenant_id()'],
    },
    { name: 'a VOLATILE helper', break: ['alter function partywall.tenant_id() volatile'], finds: ['runtime.function-changed function partywall.tenant_id()'] },
    {
      name: 'an enter without its rights',
      break: ['alter function partywall.enter(text, text) security invoker'],
      finds: ['runtime.function-changed function partywall.enter(tenant text, unit text)'],
    },
    {
      name: 'a helper that prefers another setting',
      break: [
        `create or replace function partywall.tenant_id() returns uuid language sql stable parallel safe return coalesce(current_setting('app.bypass', true), current_setting('partywall.tenant_id'))::uuid`,
      ],
      finds: ['runtime.function-changed function partywall.tenant_id()'],
    },
    {
      name: 'an enter that asks nothing',
      break: [
        `create or replace function partywall.enter(tenant text, unit text default null) returns void language plpgsql volatile security definer as $f$ begin perform set_config('backtrace_functions', replace(tenant, '-', ''), true); end $f$`,
      ],
      finds: ['runtime.function-changed function partywall.enter(tenant text, unit text)'],
    },
    {
      name: 'a function that is gone',
      break: ['drop function partywall.blocked_sources(text[])'],
      finds: ['runtime.function-changed function partywall.blocked_sources(text[])'],
    },
    {
      name: 'a function without its search path',
      break: ['alter function partywall.make_seal(text, text) reset search_path'],
      finds: ['runtime.function-changed function partywall.make_seal(tenant text, unit text)'],
    },
    {
      name: 'a function that does nothing for NULL',
      break: ['alter function partywall.settle_message(bytea, uuid, boolean) strict'],
      finds: ['runtime.function-changed function partywall.settle_message(message bytea, given uuid, done boolean)'],
    },
    {
      name: 'another unit by default',
      break: [dynamic('%s', `replace(pg_get_functiondef('partywall.enter(text, text)'::regprocedure), 'DEFAULT NULL::text', 'DEFAULT ''1''::text')`)],
      finds: ['runtime.function-changed function partywall.enter(tenant text, unit text)'],
    },
    {
      name: 'a function of the same name that takes other types',
      break: [
        'drop function partywall.settle_message(bytea, uuid, boolean)',
        'create function partywall.settle_message(message text, given uuid, done boolean) returns boolean language sql as $f$ select true $f$',
        'revoke all on function partywall.settle_message(text, uuid, boolean) from public',
      ],
      finds: [
        'runtime.function-changed function partywall.settle_message(bytea, uuid, boolean)',
        'runtime.function-unknown function partywall.settle_message(message text, given uuid, done boolean)',
      ],
    },
  ],
  'runtime.function-unknown': [
    {
      name: 'a function that nobody installed under the name of one that fills columns',
      break: [
        'create function partywall.pw_derive_peek_1f2e3d4c() returns trigger language plpgsql security definer as $f$ begin return new; end $f$',
        'revoke all on function partywall.pw_derive_peek_1f2e3d4c() from public',
      ],
      finds: ['runtime.function-unknown function partywall.pw_derive_peek_1f2e3d4c()'],
    },
    {
      name: 'a function that nobody installed',
      break: [
        'create function partywall.peek() returns bigint language sql security definer as $f$ select count(*) from public.customers $f$',
        'revoke all on function partywall.peek() from public',
      ],
      finds: ['runtime.function-unknown function partywall.peek()'],
    },
  ],
  'runtime.function-open': [
    {
      name: 'a set_state for the application',
      break: ['grant execute on function partywall.set_state(text, text, text) to $app'],
      finds: ['runtime.function-open function partywall.set_state(tenant text, new_state text, why text)'],
    },
    {
      name: 'an enter for everyone',
      break: ['grant execute on function partywall.enter(text, text) to public'],
      finds: ['runtime.function-open function partywall.enter(tenant text, unit text)'],
    },
    {
      name: 'seals that another role makes',
      break: ['grant execute on function partywall.make_seal(text, text) to $other', 'alter role $other login'],
      finds: ['runtime.function-open function partywall.make_seal(tenant text, unit text)'],
    },
    {
      name: 'seals that the system role makes',
      break: ['grant execute on function partywall.make_seal(text, text) to $system'],
      finds: ['runtime.function-open function partywall.make_seal(tenant text, unit text)'],
    },
    {
      name: 'an enter that the members of a group call',
      break: ['grant execute on function partywall.enter(text, text) to $group', 'grant $group to $other'],
      finds: ['runtime.function-open function partywall.enter(tenant text, unit text)'],
    },
    {
      name: 'an enter that the application may pass on',
      break: ['grant execute on function partywall.enter(text, text) to $app with grant option'],
      finds: ['runtime.function-open function partywall.enter(tenant text, unit text)'],
    },
  ],
  'runtime.relation-changed': [
    {
      name: 'a registry with row level security',
      break: ['alter table partywall.registry enable row level security'],
      finds: ['runtime.relation-changed partywall.registry'],
    },
    {
      name: 'keys of the seal with forced row level security',
      break: ['alter table partywall.seal_keys force row level security'],
      finds: ['runtime.relation-changed partywall.seal_keys'],
    },
    {
      name: 'a rule on the registry',
      break: ['create rule never as on update to partywall.registry do instead nothing'],
      finds: ['runtime.relation-changed partywall.registry'],
    },
    {
      name: 'a trigger on the registry that nobody made',
      break: [
        'create function peek() returns trigger language plpgsql as $f$ begin return null; end $f$',
        'create trigger peek before update on partywall.registry for each row execute function peek()',
      ],
      finds: ['runtime.relation-changed trigger peek on partywall.registry'],
    },
    {
      name: 'a trigger on the facts that nobody made',
      break: [
        'create function peek() returns trigger language plpgsql as $f$ begin return null; end $f$',
        'create trigger state_changed before insert on partywall.facts for each row execute function peek()',
      ],
      finds: ['runtime.relation-changed trigger state_changed on partywall.facts'],
    },
    {
      name: 'rows beside the registry that are read as its own',
      break: ['create table partywall.more_tenants () inherits (partywall.registry)'],
      finds: ['runtime.relation-changed partywall.more_tenants', 'runtime.relation-changed partywall.registry'],
    },
    {
      name: 'keys of the seal that are read as rows of a table of somebody else',
      break: ['create table partywall.shown (id integer)', 'alter table partywall.seal_keys inherit partywall.shown'],
      finds: ['runtime.relation-changed partywall.seal_keys', 'runtime.relation-changed partywall.shown'],
    },
    { name: 'a table that is gone', break: ['drop table partywall.messages'], finds: ['runtime.relation-changed partywall.messages'] },
    {
      name: 'a view in the place of a table',
      break: ['alter table partywall.attempt_settings rename to kept', 'create view partywall.attempt_settings as select * from partywall.kept'],
      finds: ['runtime.relation-changed partywall.attempt_settings'],
    },
  ],
  'runtime.owner': [
    {
      name: 'a function that belongs to somebody else',
      break: ['alter function partywall.set_state(text, text, text) owner to $other'],
      finds: ['runtime.owner function partywall.set_state(tenant text, new_state text, why text)'],
    },
    { name: 'a table that belongs to somebody else', break: ['alter table partywall.facts owner to $other'], finds: ['runtime.owner partywall.facts'] },
  ],
  'runtime.seal-open': [
    {
      name: 'that a sealed database can be entered without a seal',
      break: [
        `insert into partywall.facts (name, value) values ('sealed', '{"role": "$app"}')`,
        'revoke execute on function partywall.enter(text, text), partywall.enter_unit(text, text, bigint) from $app',
      ],
      finds: ['runtime.seal-open function partywall.enter_since(tenant text, seen bigint)'],
    },
  ],
  'runtime.registry-open': [
    {
      name: 'keys of the seal that the application reads',
      break: ['grant select on partywall.seal_keys to $app'],
      finds: ['runtime.registry-open partywall.seal_keys'],
    },
    {
      name: 'keys of the seal that the application reads by their columns',
      break: ['grant select (id, ipad, opad) on partywall.seal_keys to $app'],
      finds: ['runtime.registry-open partywall.seal_keys'],
    },
    {
      name: 'keys of the seal that another role reads',
      break: ['grant select on partywall.seal_keys to $service'],
      finds: ['runtime.registry-open partywall.seal_keys'],
    },
    {
      name: 'a column of the modes that anybody changes',
      break: ['grant update (mode) on partywall.rollout to public'],
      finds: ['runtime.registry-open partywall.rollout'],
    },
    {
      name: 'a registry that the application reads',
      break: ['grant select on partywall.registry to $app'],
      finds: ['runtime.registry-open partywall.registry'],
    },
    {
      name: 'a view of another schema that shows the keys of the seal, over another view',
      break: [
        'create schema side',
        'create view side.keys as select * from partywall.seal_keys',
        'create view side.shown as select * from side.keys',
        'create view side.own with (security_invoker = true) as select * from partywall.seal_keys',
        'grant usage on schema side to $app',
        'grant select on side.shown, side.own to $app',
      ],
      finds: ['runtime.registry-open side.shown'],
    },
    { name: 'a schema that the application may fill', break: ['grant create on schema partywall to $app'], finds: ['runtime.registry-open schema partywall'] },
  ],
  'runtime.trigger': [
    {
      name: 'a root that registers nobody',
      break: ['drop trigger partywall_register on tenants'],
      finds: ['runtime.trigger trigger partywall_register on public.tenants'],
    },
    {
      name: 'a registry that tells nobody',
      break: ['alter table partywall.registry disable trigger state_changed'],
      finds: ['runtime.trigger trigger state_changed on partywall.registry'],
    },
    {
      name: 'a registry that tells replicas alone',
      break: ['alter table partywall.registry enable replica trigger state_changed'],
      finds: ['runtime.trigger trigger state_changed on partywall.registry'],
    },
    {
      name: 'a registry that tells of some changes',
      break: [
        `create or replace trigger state_changed before update or delete on partywall.registry for each row when (old.state <> 'suspended') execute function partywall.state_changed()`,
      ],
      finds: ['runtime.trigger trigger state_changed on partywall.registry'],
    },
    {
      name: 'a registry that tells of changes of one column',
      break: [
        'create or replace trigger state_changed before update of reason or delete on partywall.registry for each row execute function partywall.state_changed()',
      ],
      finds: ['runtime.trigger trigger state_changed on partywall.registry'],
    },
    {
      name: 'a registry that keeps the visits of who is gone',
      break: ['drop trigger forget_job_visits on partywall.registry'],
      finds: ['runtime.trigger trigger forget_job_visits on partywall.registry'],
    },
    {
      name: 'a directory that no longer hears of tenants',
      break: [
        'create schema if not exists partywall_control',
        'create or replace function partywall_control.list_tenant() returns trigger language plpgsql as $f$ begin return null; end $f$',
        'create or replace trigger list_tenant after insert or update or delete on partywall.registry for each row execute function partywall_control.list_tenant()',
        'alter table partywall.registry disable trigger list_tenant',
      ],
      finds: ['runtime.trigger trigger list_tenant on partywall.registry'],
    },
    {
      name: 'a root that keeps truncated tenants registered',
      break: ['drop trigger partywall_register_truncate on tenants'],
      finds: ['runtime.trigger trigger partywall_register_truncate on public.tenants'],
    },
    {
      name: 'a root that registers nobody when it is restored',
      break: ['alter table tenants enable replica trigger partywall_register'],
      finds: ['runtime.trigger trigger partywall_register on public.tenants', 'trigger.disabled trigger partywall_register on public.tenants'],
    },
  ],
  'coverage.unknown-table': [
    { name: 'a new table', break: ['create table invoices (id bigint primary key)'], finds: ['coverage.unknown-table public.invoices'] },
    {
      name: 'a table of another schema that the application may read',
      break: ['create schema side', 'create table side.stash (x int)', 'grant select on side.stash to $app'],
      finds: ['coverage.unknown-table side.stash'],
    },
  ],
  'coverage.unclassified': [
    {
      name: 'a table that is yet to be classified',
      break: ['create table "un sure" (id bigint primary key)'],
      finds: ['coverage.unclassified public."un sure"'],
      tables: { '"un sure"': { scope: 'unclassified', candidates: [], why: undefined } },
    },
  ],
  'coverage.no-tenant-column': [
    {
      name: 'that the tenant column is gone',
      break: ['drop table contacts cascade', 'create table contacts (id bigint primary key)', dynamic('drop policy if exists %I on contacts', "'x'")],
      finds: ['coverage.no-tenant-column public.contacts'],
    },
  ],
  'coverage.blocked': [
    {
      name: 'a tenant column of another type',
      break: [
        'create table "wrong type" (tenant_id bigint not null, x text)',
        'create index on "wrong type" (tenant_id)',
        'alter table "wrong type" force row level security',
      ],
      finds: ['coverage.blocked public."wrong type"', 'key.no-root public."wrong type"', 'rls.no-policy public."wrong type"'],
      tables: { '"wrong type"': { scope: 'scoped', column: 'tenant_id', added: false, paths: [], uniques: new Map(), why: undefined } },
    },
  ],
  'coverage.foreign-table': [
    {
      name: 'a foreign table that the application reads',
      break: [
        'create extension file_fdw schema public',
        'create server files foreign data wrapper file_fdw',
        "create foreign table passwd (line text) server files options (filename '/dev/null')",
        'grant select on passwd to $app',
      ],
      finds: ['coverage.foreign-table public.passwd', 'coverage.unknown-table public.passwd'],
    },
  ],
  'coverage.foreign-server': [
    {
      name: 'a server that the application may use',
      break: [
        'create extension postgres_fdw schema public',
        'create server loop foreign data wrapper postgres_fdw',
        'grant usage on foreign server loop to $app',
      ],
      finds: ['coverage.foreign-server server loop'],
    },
  ],
  'coverage.extension': [{ name: 'dblink', break: ['create extension dblink schema public'], finds: ['coverage.extension extension dblink'] }],
  'coverage.untrusted-code': [
    {
      name: 'a function in an internal language',
      break: [`create function slurp(text) returns text language internal strict as 'pg_read_file_all'`],
      finds: ['coverage.untrusted-code function public.slurp(text)'],
    },
  ],
  'coverage.event-trigger': [
    {
      name: 'that the event trigger is gone',
      break: ['drop event trigger partywall_new_tables'],
      finds: ['coverage.event-trigger event trigger partywall_new_tables'],
    },
    {
      name: 'that the event trigger is off',
      break: ['alter event trigger partywall_new_tables disable'],
      finds: ['coverage.event-trigger event trigger partywall_new_tables'],
    },
    {
      name: 'that the event trigger fires in replicas alone',
      break: ['alter event trigger partywall_new_tables enable replica'],
      finds: ['coverage.event-trigger event trigger partywall_new_tables'],
    },
    {
      name: 'that the event trigger is for one command',
      break: [
        'drop event trigger partywall_new_tables',
        `create event trigger partywall_new_tables on ddl_command_end when tag in ('CREATE TABLE') execute function partywall.new_tables()`,
      ],
      finds: ['coverage.event-trigger event trigger partywall_new_tables'],
    },
  ],
  'coverage.publication': [
    { name: 'a publication of all tables', break: ['create publication everything for all tables'], finds: ['coverage.publication publication everything'] },
  ],
  'rls.off': [
    {
      name: 'a table without row level security',
      break: [dynamic('drop policy %I on customers', policy('customers')), 'alter table customers disable row level security'],
      finds: ['rls.off public.customers'],
    },
  ],
  'rls.off-with-policies': [
    { name: 'policies that are not in force', break: ['alter table contacts disable row level security'], finds: ['rls.off-with-policies public.contacts'] },
  ],
  'rls.no-policy': [
    {
      name: 'row level security without a policy',
      break: [dynamic('drop policy %I on customers', policy('customers'))],
      finds: ['rls.no-policy public.customers'],
    },
  ],
  'rls.not-forced': [
    { name: 'an owner who is not bound', break: ['alter table customers no force row level security'], finds: ['rls.not-forced public.customers'] },
  ],
  'rls.child-reachable': [
    { name: 'a partition that the application reads', break: ['grant select on events_2026 to $app'], finds: ['rls.child-reachable public.events_2026'] },
    {
      name: 'an inheritance child that everyone reads',
      break: ['grant select on "documents.special" to public'],
      finds: ['privilege.public public."documents.special"', 'rls.child-reachable public."documents.special"'],
    },
  ],
  'policy.second-permissive': [
    {
      name: 'a policy that only has the name of a roll-out’s',
      break: ['create policy partywall_observe on customers using (true) with check (true)'],
      finds: ['policy.second-permissive policy "partywall_observe" on public.customers'],
    },
    {
      name: 'a second permissive policy',
      break: ['create policy extra on customers for select using (true)'],
      finds: ['policy.second-permissive policy "extra" on public.customers'],
    },
    {
      name: 'a second policy for deletes',
      break: ['create policy extra on contacts for delete to $app using (true)'],
      finds: ['policy.second-permissive policy "extra" on public.contacts'],
    },
  ],
  'policy.observed-table': [
    {
      name: 'a table that a roll-out has opened, by its own name and not as a surprise',
      break: ['create policy partywall_observe on customers to $app using (true) with check (true)'],
      finds: ['policy.observed-table public.customers'],
    },
  ],
  'policy.forgeable': [
    {
      name: 'a bypass by a setting beside the policy',
      break: ["create policy bypass on customers using (current_setting('app.bypass', true) = 'on')"],
      finds: ['policy.forgeable policy "bypass" on public.customers'],
    },
    {
      name: 'a bypass by a setting in the policy',
      break: [
        dynamic(
          "alter policy %I on customers using (tenant_id = partywall.tenant_id() or current_setting('app.bypass', true) = 'on') with check (tenant_id = partywall.tenant_id())",
          policy('customers'),
        ),
      ],
      finds: ['policy.forgeable policy "$policy" on public.customers'],
    },
  ],
  'policy.subquery': [
    {
      name: 'a policy that reads another table',
      break: [
        dynamic(
          'alter policy %I on customers using (tenant_id in (select id from tenants)) with check (tenant_id in (select id from tenants))',
          policy('customers'),
        ),
      ],
      finds: ['policy.subquery policy "$policy" on public.customers'],
    },
  ],
  'policy.weak-check': [
    {
      name: 'a weaker WITH CHECK',
      break: [dynamic('alter policy %I on customers with check (true)', policy('customers'))],
      finds: ['policy.weak-check policy "$policy" on public.customers'],
    },
  ],
  'policy.changed': [
    {
      name: 'a policy of the same name with another body',
      break: [
        dynamic(
          'alter policy %I on customers using (tenant_id = partywall.tenant_id() or tenant_id is null) with check (tenant_id = partywall.tenant_id() or tenant_id is null)',
          policy('customers'),
        ),
      ],
      finds: ['policy.changed policy "$policy" on public.customers'],
    },
  ],
  'policy.wrong-role': [
    {
      name: 'a policy for another role',
      break: [dynamic('alter policy %I on customers to $other', policy('customers'))],
      finds: ['policy.wrong-role policy "$policy" on public.customers'],
    },
  ],
  'policy.wrong-command': [
    {
      name: 'a policy for reading alone',
      break: [
        dynamic('drop policy %I on customers', policy('customers')),
        'create policy "$policy" on customers for select using (tenant_id = partywall.tenant_id())',
      ],
      finds: ['policy.wrong-command policy "$policy" on public.customers'],
    },
  ],
  'policy.renamed': [
    {
      name: 'a policy of another name',
      break: [dynamic('alter policy %I on customers rename to mine', policy('customers'))],
      finds: ['policy.renamed policy "mine" on public.customers'],
    },
  ],
  'tenant.nullable': [
    { name: 'a nullable tenant column', break: ['alter table log_lines alter column tenant_id drop not null'], finds: ['tenant.nullable public.log_lines'] },
  ],
  'tenant.default': [
    {
      name: 'a tenant that is a default',
      break: ["alter table contacts alter column tenant_id set default '00000000-0000-4000-8000-00000000000a'"],
      finds: ['tenant.default public.contacts'],
    },
  ],
  'tenant.no-default': [
    {
      name: 'an added column without its default',
      break: ['alter table contacts alter column tenant_id drop default'],
      finds: ['tenant.no-default public.contacts'],
    },
  ],
  'tenant.no-index': [{ name: 'a tenant column without an index', break: ['drop index $logIndex'], finds: ['tenant.no-index public.log_lines'] }],
  'view.owner-rights': [
    {
      name: 'a view with its owner’s rights',
      break: ['alter view customer_overview reset (security_invoker)'],
      finds: ['view.owner-rights public.customer_overview'],
    },
    {
      name: 'views with a superuser’s rights, one over the other',
      break: [
        'alter view customer_overview set (security_invoker = false)',
        'alter view busy_customers set (security_invoker = false)',
        'alter view customer_overview owner to current_user',
      ],
      finds: ['view.owner-rights public.busy_customers', 'view.owner-rights public.customer_overview'],
    },
  ],
  'matview.readable': [
    {
      name: 'a materialised view that the application reads',
      break: ['grant select on customer_totals to $app'],
      finds: ['matview.readable public.customer_totals'],
    },
  ],
  'function.definer': [
    {
      name: 'a function with lent rights',
      break: [
        'create function total() returns bigint language sql security definer set search_path = pg_catalog, pg_temp as $f$ select count(*) from public.customers $f$',
      ],
      finds: ['function.definer function public.total()'],
    },
  ],
  'function.search-path': [
    {
      name: 'lent rights without a search path',
      break: ['create function total() returns bigint language sql security definer as $f$ select count(*) from public.customers $f$'],
      finds: ['function.definer function public.total()', 'function.search-path function public.total()'],
    },
    {
      name: 'lent rights with temporary tables first',
      break: ['create function total() returns bigint language sql security definer set search_path = public as $f$ select count(*) from customers $f$'],
      finds: ['function.definer function public.total()', 'function.search-path function public.total()'],
    },
  ],
  'rule.rewrite': [
    {
      name: 'a rewrite rule',
      break: ['create rule log_all as on update to customers do also notify something'],
      finds: ['rule.rewrite rule log_all on public.customers'],
    },
  ],
  'trigger.definer': [
    {
      name: 'a trigger with lent rights',
      break: ['alter function touch() security definer'],
      finds: ['trigger.definer trigger contacts_touch on public.contacts'],
    },
  ],
  'trigger.disabled': [
    {
      name: 'a trigger that is off',
      break: ['alter table contacts disable trigger contacts_touch'],
      finds: ['trigger.disabled trigger contacts_touch on public.contacts'],
    },
    {
      name: 'the register trigger off',
      break: ['alter table tenants disable trigger partywall_register'],
      finds: ['runtime.trigger trigger partywall_register on public.tenants', 'trigger.disabled trigger partywall_register on public.tenants'],
    },
  ],
  'key.plain': [
    {
      name: 'a plain reference',
      break: [
        'alter table contacts drop constraint contacts_customer_id_fkey',
        'alter table contacts add constraint contacts_customer_id_fkey foreign key (customer_id) references customers (id)',
      ],
      finds: ['key.plain contacts_customer_id_fkey on public.contacts'],
    },
  ],
  'key.not-validated': [
    {
      name: 'a reference that is not proven',
      break: [
        'alter table contacts drop constraint contacts_customer_id_fkey',
        'alter table contacts add constraint contacts_customer_id_fkey foreign key (tenant_id, customer_id) references customers (tenant_id, id) not valid',
      ],
      finds: ['key.not-validated contacts_customer_id_fkey on public.contacts'],
    },
  ],
  'key.not-enforced': [
    {
      name: 'a reference that is not enforced',
      break: ['alter table contacts alter constraint contacts_customer_id_fkey not enforced'],
      finds: ['key.not-enforced contacts_customer_id_fkey on public.contacts'],
      since: 18,
    },
  ],
  'key.disabled': [
    {
      name: 'a reference whose triggers are off',
      break: ['alter table files disable trigger all'],
      finds: ['key.disabled $filesRoot on public.files', 'key.disabled files_owner_fkey on public.files'],
    },
  ],
  'key.nulls-tenant': [
    {
      name: 'a reference that nulls the tenant',
      break: [
        'alter table customers drop constraint customers_parent_id_fkey',
        'alter table customers add constraint customers_parent_id_fkey foreign key (tenant_id, parent_id) references customers (tenant_id, id) on delete set null',
      ],
      finds: ['key.nulls-tenant customers_parent_id_fkey on public.customers'],
    },
  ],
  'key.shared-to-scoped': [
    {
      name: 'a shared row that refers to a tenant’s',
      break: [
        'alter table countries add column capital uuid',
        'alter table countries add constraint to_customer foreign key (capital) references customers (id)',
      ],
      finds: ['key.shared-to-scoped to_customer on public.countries'],
    },
  ],
  'key.no-root': [
    {
      name: 'a tenant column that refers to nothing',
      break: ['alter table log_lines drop constraint log_lines_tenant_id_fkey'],
      finds: ['key.no-root public.log_lines'],
    },
  ],
  'unique.not-per-tenant': [
    {
      name: 'a unique over all tenants',
      break: ['alter table customers drop constraint customers_reference_key', 'create unique index customers_reference_key on customers (reference)'],
      finds: ['unique.not-per-tenant customers_reference_key on public.customers'],
    },
  ],
  'index.invalid': [
    {
      name: 'an invalid index',
      break: ['create index half_built on customers (rating)', "update pg_index set indisvalid = false where indexrelid = 'half_built'::regclass"],
      finds: ['index.invalid index half_built on public.customers'],
    },
  ],
};

const major = Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18');
const possible = Object.entries(mutations).flatMap(([rule, list]) =>
  list.filter((mutation) => (mutation.since ?? 0) <= major).map((mutation) => ({ rule, mutation, title: mutation.name })),
);

it.each(possible)('$rule finds $title', async ({ rule, mutation }) => {
  const names = await namesOf();
  const fill = (text: string): string =>
    text.replaceAll(/\$(app|owner|system|service|group|other|db|policy|logIndex|filesRoot|nasty)\b/g, (_all, name: string) => names[name] ?? '');
  await client.query('begin');
  try {
    for (const statement of mutation.break) await client.query(fill(statement));
    const findings = await staticFindings(mutation.tables);
    expect(findings.map((found) => `${found.rule} ${found.target}`).sort()).toEqual(mutation.finds.map(fill).sort());
    expect(findings.some((found) => found.rule === rule)).toBe(true);
  } finally {
    await client.query('rollback');
  }
});

it('finds nothing in a sound database', async () => {
  expect(await staticFindings()).toEqual([]);
});

it('lets a view be that reads tenant rows through one with the caller’s rights', async () => {
  await client.query('begin');
  try {
    await client.query('alter view busy_customers set (security_invoker = false)');
    await client.query('alter view busy_customers owner to current_user');
    expect(await staticFindings()).toEqual([]);
  } finally {
    await client.query('rollback');
  }
});

it('lets a restrictive policy be', async () => {
  await client.query('begin');
  try {
    await client.query('create policy narrow on customers as restrictive using (rating > 1)');
    expect(await staticFindings()).toEqual([]);
  } finally {
    await client.query('rollback');
  }
});

async function staticFindings(tables: Readonly<Record<string, TableRule>> = {}): Promise<Finding[]> {
  const named = Object.entries(tables).map(([name, rule]) => [parseTableName(name) ?? tableName('public', name), rule] as const);
  const model = { ...sound.model, tables: new Map([...sound.model.tables, ...named]) };
  const catalog = await readCatalog(insideTransaction(client));
  const server = await readServerFacts(client, model.roles.app);
  return runStatic({ catalog, model, wanted: wantedWall(model, catalog), server, reach: reachOf(catalog, model.roles.app) });
}

/** The same client for a reader that opens a transaction of its own: one is open already, and holds the mutation. */
function insideTransaction(open: pg.Client): pg.Client {
  return new Proxy(open, {
    get: (target, name) => {
      if (name !== 'query') return Reflect.get(target, name);
      return (text: string) => (/^(begin|commit|rollback)/.test(text) ? Promise.resolve({ rows: [] }) : target.query(text));
    },
  });
}

async function namesOf(): Promise<Record<string, string>> {
  const { rows } = await client.query<{ policy: string; log_index: string; files_root: string }>(`select
    (select polname from pg_policy where polrelid = 'customers'::regclass) as policy,
    (select indexrelid::regclass::text from pg_index where indrelid = 'log_lines'::regclass) as log_index,
    (select conname from pg_constraint where conrelid = 'files'::regclass and confrelid = 'tenants'::regclass) as files_root`);
  const { app, owner, system, service } = sound.model.roles;
  return {
    app,
    owner,
    system,
    service,
    group,
    other,
    db: sound.database.name,
    policy: rows[0]?.policy ?? '',
    logIndex: rows[0]?.log_index ?? '',
    filesRoot: rows[0]?.files_root ?? '',
    nasty: nastyTable.slice(nastyTable.lastIndexOf(' ') + 1),
  };
}
