import pg from 'pg';
import { beforeAll, expect, inject, it } from 'vitest';
import { suffix } from '../../../../test/support/database.ts';
import { ident } from '../../src/db/sql.ts';
import type { attackRules, dataRules } from '../../src/verify/rules/attack-rules.ts';
import { rules } from '../../src/verify/rules/rules.ts';
import { verify } from '../../src/verify/verify.ts';
import { createSoundDatabase, type SoundDatabase } from './sound-database.ts';

/**
 * Each attack and each reading of the data, proven by breaking a copy of a sound database in one way. The findings of attacks and
 * data are compared whole. Where a break opens more than one thing by its nature, all of it is listed.
 */
interface Mutation {
  readonly name: string;
  readonly break: readonly string[];
  /** Every finding: `rule target`; a target may end in `*`, for one or more that begin so. */
  readonly finds: readonly string[];
  /** Takes back what the cluster keeps when the copy is dropped: roles and parameters. */
  readonly undo?: readonly string[];
  /** How the application logs in, in place of its own role. */
  readonly login?: (sound: SoundDatabase) => string;
}

const onLog = (policy: string) => `create policy opened on log_lines ${policy}`;
const asReplica = (statement: string) => ['set session_replication_role = replica', statement, 'reset session_replication_role'];
const tops = [
  '"Sales*',
  'public."Tags"',
  'public.contacts',
  'public.customer_tags',
  'public.customers',
  'public.documents',
  'public.events',
  'public.files',
  'public.log_lines',
  'public.slots',
  'public.tenants',
];

const mutations: Readonly<Record<keyof typeof attackRules | keyof typeof dataRules, readonly Mutation[]>> = {
  'read.rows': [
    {
      name: 'rows shown by a second policy',
      break: [onLog('for select using (true)')],
      finds: ['context.garbage public.log_lines', 'context.none public.log_lines', 'read.rows public.log_lines'],
    },
    {
      name: 'rows of one tenant that all others see',
      break: [onLog("for select using (tenant_id = '$tenantA')")],
      finds: ['read.rows public.log_lines'],
    },
  ],
  'read.child': [
    {
      name: 'a partition that is open',
      break: ['alter table events_2026 disable row level security', 'grant select on events_2026 to $app'],
      finds: ['read.child public.events_2026'],
    },
    {
      name: 'an inheritance child whose rows can be deleted blindly',
      break: ['grant delete on "documents.special" to $app', 'create policy opened on "documents.special" for delete using (true)'],
      finds: ['read.child public."documents.special"'],
    },
  ],
  'read.view': [
    {
      name: 'a view with a superuser’s rights',
      break: ['alter view customer_overview set (security_invoker = false)', 'alter view customer_overview owner to current_user'],
      finds: ['read.view public.busy_customers', 'read.view public.customer_overview'],
    },
  ],
  'write.update': [
    {
      name: 'a policy for updates that asks nothing',
      break: [onLog('for update using (true) with check (tenant_id = partywall.tenant_id())')],
      finds: ['write.update public.log_lines'],
    },
  ],
  'write.delete': [{ name: 'a policy for deletes that asks nothing', break: [onLog('for delete using (true)')], finds: ['write.delete public.log_lines'] }],
  'write.insert': [
    { name: 'a policy for inserts that asks nothing', break: [onLog('for insert with check (true)')], finds: ['write.insert public.log_lines'] },
  ],
  'write.null-tenant': [
    {
      name: 'a policy that takes rows of nobody',
      break: ['alter table log_lines alter column tenant_id drop not null', onLog('for insert with check (tenant_id is null)')],
      finds: ['write.null-tenant public.log_lines'],
    },
  ],
  'write.move': [
    {
      name: 'a policy for updates whose WITH CHECK asks nothing',
      break: [onLog('for update using (tenant_id = partywall.tenant_id()) with check (true)')],
      finds: ['write.move public.log_lines'],
    },
  ],
  'write.upsert': [
    {
      name: 'a row that an upsert takes over',
      break: [
        'create policy seen on "Tags" for select using (true)',
        'create policy opened on "Tags" for update using (true) with check ("tenantId" = partywall.tenant_id())',
      ],
      finds: [
        'context.garbage public."Tags"',
        'context.none public."Tags"',
        'read.rows public."Tags"',
        'write.update public."Tags"',
        'write.upsert public."Tags"',
      ],
    },
  ],
  'reference.attach': [
    {
      name: 'a plain reference without a cascade',
      break: [
        'alter table contacts drop constraint contacts_customer_id_fkey',
        'alter table contacts add constraint plain foreign key (customer_id) references customers (id)',
      ],
      finds: ['reference.attach plain on public.contacts'],
    },
    {
      name: 'a plain reference to itself',
      break: [
        'alter table customers drop constraint customers_parent_id_fkey',
        'alter table customers add constraint plain foreign key (parent_id) references customers (id)',
      ],
      finds: ['reference.attach plain on public.customers'],
    },
  ],
  'reference.cascade': [
    {
      name: 'a plain reference with a cascade',
      break: [
        'alter table contacts drop constraint contacts_customer_id_fkey',
        'alter table contacts add constraint plain foreign key (customer_id) references customers (id) on delete cascade',
      ],
      finds: ['reference.attach plain on public.contacts', 'reference.cascade plain on public.contacts'],
    },
    {
      name: 'a plain reference that is set to NULL',
      break: [
        'alter table customers drop constraint customers_parent_id_fkey',
        'alter table customers add constraint plain foreign key (parent_id) references customers (id) on delete set null',
      ],
      finds: ['reference.attach plain on public.customers', 'reference.cascade plain on public.customers'],
    },
  ],
  'unique.oracle': [
    {
      name: 'a unique over all tenants',
      break: [
        'alter table customers drop constraint customers_reference_key',
        'alter table customers add constraint customers_reference_key unique (reference)',
      ],
      finds: ['unique.oracle customers_reference_key on public.customers'],
    },
  ],
  'context.none': [
    {
      name: 'silence in place of an error',
      break: ['drop policy "$logPolicy" on log_lines', onLog("using (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)")],
      finds: ['context.none public.log_lines'],
    },
  ],
  'context.garbage': [
    {
      name: 'a policy that takes a senseless context for everybody',
      break: [
        'drop policy "$logPolicy" on log_lines',
        onLog("using (case when current_setting('backtrace_functions') = 'not a tenant' then true else tenant_id = partywall.tenant_id() end)"),
      ],
      finds: ['context.garbage public.log_lines'],
    },
  ],
  'context.row-security': [
    {
      name: 'a table without row level security',
      break: ['alter table log_lines disable row level security'],
      finds: ['context.garbage', 'context.none', 'context.row-security', 'read.rows', 'write.delete', 'write.insert', 'write.move', 'write.update'].map(
        (rule) => `${rule} public.log_lines`,
      ),
    },
    {
      name: 'a role that bypasses',
      break: ['alter role $app bypassrls'],
      undo: ['alter role $app nobypassrls'],
      finds: [
        ...['context.garbage', 'context.none', 'context.row-security', 'read.rows', 'write.update'].flatMap((rule) => tops.map((table) => `${rule} ${table}`)),
        ...['write.delete', 'write.insert', 'write.move'].flatMap((rule) =>
          tops.filter((table) => table !== 'public.tenants').map((table) => `${rule} ${table}`),
        ),
        ...[
          'public.customers',
          'public."Tags"',
          'public.contacts',
          'public.customer_tags',
          'public.documents',
          'public.events',
          'public.files',
          'public.slots',
          '"Sales*',
        ].map((table) => `write.upsert ${table}`),
        'read.view public.busy_customers',
        'read.view public.customer_overview',
        'escape.shadow public.customers',
        'session.prepared public.customers',
      ],
    },
  ],
  'session.prepared': [
    { name: 'an IMMUTABLE helper', break: ['alter function partywall.tenant_id() immutable'], finds: ['session.prepared public.customers'] },
  ],
  'session.leftover-context': [
    {
      name: 'a standing tenant',
      break: ["alter role $app in database $db set backtrace_functions = '0000000000004000800000000000000a'"],
      // RESET ALL goes back to it.
      finds: ['escape.context setting backtrace_functions', 'session.leftover-context sessions of $app', ...tops.map((table) => `context.none ${table}`)],
    },
  ],
  'escape.login': [
    {
      name: 'a superuser who becomes the application',
      break: [],
      login: (sound) => `${sound.database.url}?options=${encodeURIComponent(`-c role=${sound.model.roles.app}`)}`,
      finds: ['escape.login role $app', 'escape.set-role role *'],
    },
  ],
  'escape.set-role': [
    {
      name: 'membership of the owner, without inheriting',
      break: ['alter role $app noinherit', 'grant $owner to $app'],
      undo: ['revoke $owner from $app', 'alter role $app inherit'],
      finds: ['escape.set-role role $owner'],
    },
  ],
  'escape.replication-role': [
    {
      name: 'the right to switch triggers off',
      break: ['grant set on parameter session_replication_role to $app'],
      undo: ['revoke set on parameter session_replication_role from $app'],
      finds: ['escape.replication-role session_replication_role'],
    },
  ],
  'escape.ddl': [
    { name: 'the right to add triggers', break: ['grant trigger on log_lines to $app'], finds: ['escape.ddl public.log_lines'] },
    { name: 'an owned table', break: ['alter table log_lines owner to $app'], finds: ['escape.ddl public.log_lines', 'escape.truncate public.log_lines'] },
  ],
  'escape.truncate': [
    { name: 'TRUNCATE', break: ['grant truncate on log_lines to $app'], finds: ['escape.truncate public.log_lines'] },
    { name: 'TRUNCATE of a table that others refer to', break: ['grant truncate on customers to $app'], finds: ['escape.truncate public.customers'] },
  ],
  'escape.create': [{ name: 'CREATE on schema public', break: ['grant create on schema public to $app'], finds: ['escape.create role $app'] }],
  'escape.shadow': [
    {
      name: 'an enter that looks for temporary tables first',
      break: [
        `create or replace function partywall.enter(tenant text, unit text default null) returns void language plpgsql volatile security definer set search_path = pg_temp, partywall, pg_catalog as $f$
declare found_state text; context text := replace(tenant, '-', ''); inside text := pg_catalog.current_setting('backtrace_functions');
begin
  if inside operator(pg_catalog.<>) '' and inside operator(pg_catalog.<>) context then raise exception 'second' using errcode = 'PW007'; end if;
  select t.state into found_state from registry t where t.tenant_id::text operator(pg_catalog.=) tenant;
  if found_state is null then raise exception 'unknown' using errcode = 'PW002'; end if;
  if found_state operator(pg_catalog.<>) 'active' then raise exception 'closed' using errcode = 'PW003'; end if;
  perform pg_catalog.set_config('backtrace_functions', context, true);
end $f$`,
      ],
      finds: ['escape.shadow partywall.enter'],
    },
  ],
  'escape.enter': [
    {
      name: 'an enter that asks nothing',
      break: [
        `create or replace function partywall.enter(tenant text, unit text default null) returns void language plpgsql volatile security definer as $f$ begin perform pg_catalog.set_config('backtrace_functions', replace(tenant, '-', ''), true); end $f$`,
      ],
      finds: [
        'escape.enter partywall.enter of a second tenant',
        'escape.enter partywall.enter of closed tenants',
        'escape.enter partywall.enter of unknown tenants',
        'escape.shadow partywall.enter',
      ],
    },
  ],
  'escape.context': [
    {
      name: 'the right to set the setting that holds the context',
      break: ['grant set on parameter backtrace_functions to $app'],
      undo: ['revoke set on parameter backtrace_functions from $app'],
      finds: ['escape.context setting backtrace_functions'],
    },
    {
      name: 'the owner’s way to set it',
      break: ['grant execute on function partywall.set_context(text) to $app'],
      finds: ['escape.context setting backtrace_functions'],
    },
  ],
  'escape.seal': [
    {
      name: 'a sealed database whose entering is open',
      break: [`insert into partywall.facts (name, value) values ('sealed', '{"role": "$app"}')`],
      finds: ['escape.seal the seal'],
    },
  ],
  'escape.registry': [
    { name: 'a registry that can be read', break: ['grant select on partywall.registry to $app'], finds: ['escape.registry schema partywall'] },
  ],
  'system.bound': [
    {
      name: 'a system role that policies bind',
      break: ['alter role $system nobypassrls'],
      undo: ['alter role $system bypassrls'],
      finds: ['system.bound role $system'],
    },
  ],
  'data.crossed': [
    {
      name: 'a row whose parent is another tenant’s, under a valid key',
      break: asReplica("update contacts set tenant_id = '$tenantB' where id = (select min(id) from contacts where tenant_id = '$tenantA')"),
      finds: ['data.crossed public.contacts (customer_id) → public.customers'],
    },
    {
      name: 'a row whose parent is gone, in a partition',
      break: asReplica("insert into events (tenant_id, customer_id, at, payload) values ('$tenantB', gen_random_uuid(), '2027-03-03', '{}')"),
      finds: ['data.crossed public.events (customer_id) → public.customers'],
    },
  ],
  'data.no-tenant': [
    {
      name: 'a row without a tenant',
      break: ['alter table log_lines alter column tenant_id drop not null', "insert into log_lines values (null, 'lost')"],
      finds: ['data.no-tenant public.log_lines'],
    },
  ],
  'data.unknown-tenant': [
    {
      name: 'a row of a tenant that never was, in an inheritance child',
      break: asReplica(`insert into "documents.special" (tenant_id, title, grade) values (gen_random_uuid(), 'x', 1)`),
      finds: ['data.unknown-tenant public.documents'],
    },
  ],
  'data.unregistered': [
    {
      name: 'a tenant that is not registered',
      break: ["delete from partywall.registry where tenant_id = '$tenantC'"],
      finds: ['data.unregistered public.tenants'],
    },
  ],
};

let sound: SoundDatabase;
let cluster: pg.Client;
beforeAll(async () => {
  sound = await createSoundDatabase();
  cluster = new pg.Client(inject('clusterUrl'));
  await cluster.connect();
  // A template may have no sessions.
  await cluster.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [sound.database.name]);
  return () => cluster.end();
});

const cases = Object.entries(mutations).flatMap(([rule, list]) => list.map((mutation) => ({ rule, mutation, title: mutation.name })));
const attacksAndData = [...rules.values()].filter((rule) => rule.kind === 'attack' || rule.kind === 'data').map((rule) => rule.id);

it.each(cases)('$rule finds $title', async ({ rule, mutation }) => {
  const copy = `t_${suffix()}`;
  await cluster.query(`create database ${ident(copy)} template ${ident(sound.database.name)}`);
  const onCopy = (url: string): string => url.replace(sound.database.name, copy);
  const admin = new pg.Client(onCopy(sound.database.url));
  await admin.connect();
  const fill = await filler(admin, copy);
  try {
    for (const statement of mutation.break) await admin.query(fill(statement));
    const report = await verify({
      model: sound.model,
      adminUrl: onCopy(sound.database.url),
      appUrl: onCopy(mutation.login?.(sound) ?? sound.appUrl),
      systemUrl: onCopy(sound.systemUrl),
      only: attacksAndData,
    });
    const found = report.findings.map((finding) => `${finding.rule} ${finding.target}`);
    const wanted = mutation.finds.map(fill);
    expect(collapse(found, wanted).sort()).toEqual(wanted.sort());
    expect(report.couldNotRun).toEqual([]);
    expect(report.checks.find((check) => check.rule === rule)?.outcome).toBe('fail');
  } finally {
    for (const statement of mutation.undo ?? []) await admin.query(fill(statement));
    await admin.end();
    await cluster.query(`drop database ${ident(copy)} with (force)`);
  }
});

/** Findings that an expectation ending in `*` stands for become that expectation. */
function collapse(found: readonly string[], wanted: readonly string[]): string[] {
  const open = wanted.filter((text) => text.endsWith('*'));
  return [...new Set(found.map((text) => open.find((pattern) => text.startsWith(pattern.slice(0, -1))) ?? text))];
}

async function filler(admin: pg.Client, copy: string): Promise<(text: string) => string> {
  const { rows } = await admin.query<{ name: string }>("select polname as name from pg_policy where polrelid = 'log_lines'::regclass");
  const { app, owner, system } = sound.model.roles;
  const [tenantA, tenantB, tenantC] = sound.tenants;
  const names: Record<string, string> = { app, owner, system, db: copy, tenantA, tenantB, tenantC, logPolicy: rows[0]?.name ?? '' };
  return (text) => text.replaceAll(/\$(app|owner|system|db|tenantA|tenantB|tenantC|logPolicy)\b/g, (_all, name: string) => names[name] ?? '');
}
