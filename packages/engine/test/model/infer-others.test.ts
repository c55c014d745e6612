import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { checkModel } from '../../src/model/check.ts';
import { inferModel } from '../../src/model/infer.ts';
import { inferring, named, ruleOf, told } from './inferring.ts';

const { model, catalog, database } = await inferring();

const tenants = 'create table tenants (id uuid primary key); create table customers (id uuid primary key, tenant_id uuid not null references tenants);';
const why = (inferred: Awaited<ReturnType<typeof model>>, table: string) => ruleOf(inferred, table).why ?? '';
const candidates = (inferred: Awaited<ReturnType<typeof model>>, table: string) => {
  const rule = ruleOf(inferred, table);
  return rule.scope === 'unclassified' ? rule.candidates : [];
};

test('ownership against the foreign key is a question, never shared', async () => {
  const inferred = await model(`${tenants} create table settings (id int primary key, theme text); create table plans (id int primary key, name text);
    create table orders (id int primary key, customer_id uuid not null references customers, settings_id int unique references settings);
    alter table tenants add plan_id int references plans`);
  expect(told(inferred, 'settings')).toBe('unclassified');
  expect(candidates(inferred, 'settings')).toEqual([
    "scoped, through public.orders referencing it: { scope: 'scoped', through: { table: 'public.orders', columns: 'id', references: 'settings_id' } }",
    "shared, if its rows are the same for every tenant: { scope: 'shared' }",
  ]);
  expect(told(inferred, 'plans')).toBe('unclassified');
});

test('what hangs on a question is a question too', async () => {
  const inferred =
    await model(`${tenants} create table settings (id int primary key); create table orders (customer_id uuid not null references customers, settings_id int references settings);
    create table setting_values (id int primary key, settings_id int not null references settings)`);
  expect(told(inferred, 'setting_values')).toBe('unclassified');
  expect(candidates(inferred, 'setting_values')[0]).toContain('scoped, through public.settings');
});

describe('reference data', () => {
  test('is shared, read only, when its name, columns and key say so', async () => {
    const inferred = await model(`${tenants} create table countries (code char(2) primary key, name text not null unique, dial_code text);
      create table currencies (id serial primary key, code text not null unique); create table regions (id serial primary key, country_id char(2) not null references countries, code text not null unique);
      create table plans (id serial primary key, name text not null unique, price numeric); create table units (id serial primary key, name text not null unique, symbol text);
      alter table customers add country char(2) references countries`);
    for (const table of ['countries', 'currencies', 'regions', 'plans', 'units']) expect(`${table}: ${told(inferred, table)}`).toBe(`${table}: shared`);
    expect(ruleOf(inferred, 'countries')).toMatchObject({ access: 'read' });
  });

  test.each([
    ['plans without a key that tenants would share', 'create table plans (id serial primary key, name text)', 'plans'],
    ['apartments called units', 'create table units (id serial primary key, code text not null unique, floor int)', 'units'],
    ['plans that somebody wrote', 'create table plans (id serial primary key, name text not null unique, created_by uuid)', 'plans'],
    ['plans with room for anything', 'create table plans (id serial primary key, name text not null unique, settings jsonb)', 'plans'],
    ['languages of people', 'create table languages (id serial primary key, name text not null unique, email text)', 'languages'],
    ['countries of a tenant', 'create table countries (code text primary key, workspace_id uuid)', 'countries'],
    ['regions of sales', 'create table regions (id serial primary key, name text not null unique)', 'regions'],
    [
      'plans that refer to what is not shared',
      'create table bundles (id int primary key); create table plans (id serial primary key, name text not null unique, bundle_id int references bundles)',
      'plans',
    ],
    ['any other word', 'create table categories (id serial primary key, name text not null unique)', 'categories'],
  ])('is not %s', async (_case, sql, table) => {
    expect(told(await model(`${tenants} ${sql}`), table)).toBe('unclassified');
  });

  test('is scoped when a foreign key leads to the tenant, whatever it is called', async () => {
    const inferred = await model(`${tenants} create table countries (code text primary key, customer_id uuid references customers)`);
    expect(told(inferred, 'countries')).toBe('scoped through public.customers(customer_id)');
  });
});

describe('people', () => {
  const people = `create table users (id uuid primary key, email text not null unique, name text);
    create table sessions (id text primary key, user_id uuid not null references users, token text not null, expires_at timestamptz);
    create table accounts (id text primary key, user_id uuid not null references users, provider text not null, access_token text);
    create table passkeys (id text primary key, user_id uuid not null references users, public_key text not null);
    create table verification_tokens (identifier text not null, token text not null);`;
  const memberships = `create table memberships (id int primary key, tenant_id uuid not null references tenants, user_id uuid not null references users, unique (tenant_id, user_id));
    create table invitations (id int primary key, tenant_id uuid not null references tenants, email text, invited_by uuid references users);
    create table api_keys (id int primary key, tenant_id uuid not null references tenants, hash text not null unique);`;

  test("are the platform's when they have memberships, with what they sign in by; memberships, invitations and API keys are scoped", async () => {
    const inferred = await model(`${tenants} ${people} ${memberships}`);
    for (const table of ['users', 'sessions', 'accounts', 'passkeys', 'verification_tokens'])
      expect(`${table}: ${told(inferred, table)}`).toBe(`${table}: platform write`);
    for (const table of ['memberships', 'invitations', 'api_keys']) expect(`${table}: ${told(inferred, table)}`).toBe(`${table}: scoped by tenant_id`);
  });

  test('are no way to a tenant for what else they own', async () => {
    const inferred =
      await model(`${tenants} ${people} ${memberships} create table bookmarks (id int primary key, user_id uuid not null references users, url text);
      create table personal_tokens (id int primary key, user_id uuid not null references users, label text)`);
    expect(told(inferred, 'bookmarks')).toBe('unclassified');
    expect(why(inferred, 'bookmarks')).toContain('belongs to a person (public.users)');
    expect(told(inferred, 'personal_tokens')).toBe('unclassified');
  });

  test('are scoped rows when they belong to one tenant each, and so are their sessions', async () => {
    const inferred = await model(`${tenants} ${people} alter table users add tenant_id uuid not null references tenants`);
    expect(told(inferred, 'users')).toBe('scoped by tenant_id');
    expect(told(inferred, 'sessions')).toBe('scoped through public.users(user_id)');
  });

  test('are a question when they have memberships and a tenant column that may be null', async () => {
    const inferred = await model(`${tenants} ${people} ${memberships} alter table users add tenant_id uuid references tenants`);
    expect(told(inferred, 'users')).toBe('unclassified');
    expect(candidates(inferred, 'users')).toEqual([expect.stringContaining("column: 'tenant_id'"), expect.stringContaining("access: 'write'")]);
  });

  test("stay the platform's with a pointer at the tenant they looked at last", async () => {
    const inferred = await model(
      `${tenants} ${people} ${memberships} alter table users add current_tenant_id uuid references tenants; alter table sessions add "activeTenantId" uuid`,
    );
    expect(told(inferred, 'users')).toBe('platform write');
    expect(told(inferred, 'sessions')).toBe('platform write');
  });

  test('are a question when nothing ties them to a tenant', async () => {
    const inferred = await model(`${tenants} ${people}`);
    expect(told(inferred, 'users')).toBe('unclassified');
    expect(why(inferred, 'users')).toContain('nothing ties to a tenant');
  });
});

describe('tables of frameworks', () => {
  test.each([
    ['schema_migrations', 'version text primary key'],
    ['ar_internal_metadata', 'key text, value text'],
    ['_prisma_migrations', 'id text, checksum text, migration_name text'],
    ['django_migrations', 'id int, app text, name text'],
    ['knex_migrations', 'id int, name text, batch int'],
    ['knex_migrations_lock', '"index" int, is_locked int'],
    ['flyway_schema_history', 'installed_rank int, version text'],
    ['migrations', 'id int, "timestamp" bigint, name text'],
    ['"SequelizeMeta"', 'name text'],
    ['"__EFMigrationsHistory"', '"MigrationId" text'],
    ['databasechangelog', 'id text'],
    ['goose_db_version', 'id int, version_id bigint'],
    ['alembic_version', 'version_num text'],
  ])('the journal %s is closed to the application', async (table, columns) => {
    expect(told(await model(`${tenants} create table ${table} (${columns})`), table)).toBe('platform none');
  });

  test('a journal in a schema of its own is one too', async () => {
    const inferred = await model(`${tenants} create schema drizzle; create table drizzle.__drizzle_migrations (id int, hash text, created_at bigint)`);
    expect(told(inferred, 'drizzle.__drizzle_migrations')).toBe('platform none');
  });

  test('a table called migrations that a migration service sells is not a journal', async () => {
    const inferred = await model(
      `${tenants} create table migrations (id int primary key, name text, source text, target text, payload jsonb, price numeric, starts date, ends date)`,
    );
    expect(told(inferred, 'migrations')).toBe('unclassified');
  });

  test.each([
    ['solid_queue_jobs', 'id bigint, arguments text'],
    ['good_jobs', 'id uuid, serialized_params jsonb'],
    ['delayed_jobs', 'id int, handler text'],
    ['que_jobs', 'id bigint, args jsonb'],
    ['jobs', 'id int, queue text, payload text, attempts int'],
    ['solid_cache_entries', 'key bytea, value bytea'],
    ['rate_limits', 'key text, count int'],
  ])('%s holds rows of everybody, and says so', async (table, columns) => {
    const inferred = await model(`${tenants} create table ${table} (${columns})`);
    expect(told(inferred, table)).toBe('platform write');
    expect(why(inferred, table)).toContain('of all tenants');
  });

  test('queues in a schema of their own are queues too', async () => {
    const inferred = await model(
      `${tenants} create schema pgboss; create table pgboss.job (id uuid, data jsonb); create schema graphile_worker; create table graphile_worker._private_jobs (id int)`,
    );
    expect(told(inferred, 'pgboss.job')).toBe('platform write');
    expect(told(inferred, 'graphile_worker._private_jobs')).toBe('platform write');
  });

  test('jobs that are offered to people are no queue', async () => {
    expect(told(await model(`${tenants} create table jobs (id int, title text, salary numeric)`), 'jobs')).toBe('unclassified');
  });

  test.each([
    ['versions', 'id int, item_type text, item_id int, object jsonb'],
    ['audits', 'id int, auditable_type text, auditable_id int, audited_changes jsonb'],
    ['audit_logs', 'id int, action text, payload jsonb'],
    ['active_storage_attachments', 'id int, record_type text, record_id int'],
    ['active_storage_blobs', 'id int, key text, filename text'],
    ['action_text_rich_texts', 'id int, body text, record_type text, record_id int'],
    ['outbox_events', 'id int, payload jsonb'],
  ])('%s is a question', async (table, columns) => {
    const inferred = await model(`${tenants} create table ${table} (${columns})`);
    expect(told(inferred, table)).toBe('unclassified');
    expect(candidates(inferred, table).length).toBeGreaterThan(0);
  });

  test('they are scoped when they carry the tenant or refer to what does', async () => {
    const inferred = await model(
      `${tenants} create table audit_logs (id int, tenant_id uuid not null, payload jsonb); create table jobs (id int, customer_id uuid not null references customers, payload text, attempts int)`,
    );
    expect(told(inferred, 'audit_logs')).toBe('scoped by tenant_id');
    expect(told(inferred, 'jobs')).toBe('scoped through public.customers(customer_id)');
  });
});

describe('tenants named in values', () => {
  test.each([
    ['a (type, id) pair', 'owner_type text not null, owner_id uuid not null', '(owner_type, owner_id)'],
    ['a (type, id) pair in camel case', '"ownerType" text not null, "ownerId" uuid not null', '(ownerType, ownerId)'],
    ['an array of ids', 'tenant_ids uuid[] not null', 'tenant_ids lists tenants'],
    ['a document', 'tenant_settings jsonb', 'tenant_settings is a document'],
    ['a column of a related word', 'workspace_id uuid', 'workspace_id may name a tenant'],
  ])('by %s make a question', async (_case, columns, reason) => {
    const inferred = await model(`${tenants} create table things (id int primary key, ${columns})`);
    expect(told(inferred, 'things')).toBe('unclassified');
    expect(why(inferred, 'things')).toContain(reason);
  });
});

describe('rows that a wall cannot hold', () => {
  test("foreign tables and materialised views of tenants' rows are closed, those of shared rows are shared", async () => {
    const inferred =
      await model(`${tenants} create extension if not exists postgres_fdw schema public; create server if not exists elsewhere foreign data wrapper postgres_fdw;
      create foreign table remote_orders (id int, tenant_id uuid) server elsewhere; create table countries (code text primary key);
      create materialized view totals as select tenant_id, count(*) from customers group by 1; create view shown as select * from customers; create materialized view through_view as select * from shown;
      create materialized view country_list as select * from countries; create materialized view numbers as select generate_series(1, 3) as n`);
    expect(told(inferred, 'remote_orders')).toBe('platform none');
    expect(told(inferred, 'totals')).toBe('platform none');
    expect(why(inferred, 'through_view')).toContain('public.customers');
    expect(told(inferred, 'country_list')).toBe('shared');
    expect(told(inferred, 'numbers')).toBe('platform none');
    expect(inferred.model.tables.has(named('shown'))).toBe(false);
  });

  test('tables of extensions are left out', async () => {
    const inferred = await model(
      `${tenants} create extension pg_stat_statements schema public; create table spatial_ref_sys (srid int); alter extension pg_stat_statements add table spatial_ref_sys`,
    );
    expect(inferred.model.tables.has(named('spatial_ref_sys'))).toBe(false);
  });
});

describe('unique constraints of scoped tables', () => {
  test('are per tenant, or global where the value is looked up first, cannot be guessed or comes from one source', async () => {
    const inferred = await model(`${tenants}
      create table users (id uuid primary key, tenant_id uuid not null references tenants, email text not null constraint users_email unique, number int constraint users_number unique);
      create table app_settings (tenant_id uuid not null references tenants, key text not null constraint settings_key unique, id int primary key);
      create table things (id int primary key, tenant_id uuid not null references tenants, reference text constraint t_reference unique, api_token text constraint t_token unique, storage_key text constraint t_storage unique,
        public_uuid uuid constraint t_uuid unique, stripe_customer_id text constraint t_stripe unique, domain text constraint t_domain unique, serial_no bigserial constraint t_serial unique, email text constraint t_email unique,
        constraint t_own unique (tenant_id, reference));
      create unique index t_lower on things (lower(reference)); create unique index t_partial on things (reference) where api_token is null; create unique index t_hash on things (md5(api_token))`);
    expect(Object.fromEntries(uniques(inferred, 'users'))).toEqual({ users_email: 'global', users_number: 'per tenant' });
    expect(Object.fromEntries(uniques(inferred, 'app_settings'))).toEqual({ settings_key: 'per tenant' });
    expect(Object.fromEntries(uniques(inferred, 'things'))).toEqual({
      t_domain: 'global',
      t_email: 'per tenant',
      t_hash: 'global',
      t_lower: 'per tenant',
      t_partial: 'per tenant',
      t_reference: 'per tenant',
      t_serial: 'global',
      t_storage: 'global',
      t_stripe: 'global',
      t_token: 'global',
      t_uuid: 'global',
    });
  });

  test('stay global where a table outside the wall refers to them', async () => {
    const inferred =
      await model(`${tenants} alter table customers add code text constraint code unique; create table schema_migrations (version text, customer text references customers (code));
      create table good_jobs (id int, args text)`);
    expect(uniques(inferred, 'customers').get('code')).toBe('per tenant');
    const foreign =
      await model(`${tenants} create table users (id uuid primary key, email text unique, badge text); alter table customers add badge text constraint badge unique; alter table users add foreign key (badge) references customers (badge);
      create table memberships (tenant_id uuid references tenants, user_id uuid references users, primary key (tenant_id, user_id))`);
    expect(told(foreign, 'users')).toBe('platform write');
    expect(uniques(foreign, 'customers').get('badge')).toBe('global');
    expect(foreign.uniqueWhy.get(named('customers'))?.get('badge')).toContain('public.users refers to it');
  });
});

describe('roles', () => {
  test('are the owner of most tables and three named after the database', async () => {
    const inferred = await model(tenants);
    expect(inferred.model.roles).toEqual({
      owner: 'postgres',
      app: `${database.name}_app`,
      system: `${database.name}_system`,
      service: `${database.name}_service`,
    });
  });

  test('fit into 63 bytes and stay four for any name of a database', async () => {
    const given = await catalog(tenants);
    const long = inferModel({ ...given, database: 'ü'.repeat(40) }).model.roles;
    for (const role of Object.values(long)) expect(Buffer.byteLength(role)).toBeLessThanOrEqual(63);
    expect(new Set(Object.values(long)).size).toBe(4);
    const owned = [...given.relations].map(([table, relation]) => [table, { ...relation, owner: 'shop_app' }] as const);
    const own = inferModel({ ...given, database: 'shop', relations: new Map(owned) }).model.roles;
    expect(own).toEqual({ owner: 'shop_app', app: 'shop_walled_app', system: 'shop_system', service: 'shop_service' });
  });
});

describe('a database of one tenant', () => {
  const lessons = `create table organizations (id uuid primary key, name text); create table member (organization_id uuid not null references organizations, user_id int);
    create table students (id int primary key, name text); create table lessons (id int primary key, student_id int not null references students, teacher text);
    create table notes (id int primary key, lesson_id int references lessons); create table app_settings (id int primary key, key text not null unique, value jsonb);
    create table schema_migrations (version text); create table countries (code text primary key); create table versions (id int, item_type text, item_id int)`;

  test('leaves what leads nowhere to a person', async () => {
    expect(told(await model(lessons, { root: named('organizations') }), 'students')).toBe('unclassified');
  });

  test('gives it to the bootstrap tenant, and what refers to it follows', async () => {
    const inferred = await model(lessons, { root: named('organizations'), bootstrap: '0b5e' });
    expect(inferred.model.bootstrap).toBe('0b5e');
    expect(told(inferred, 'students')).toBe('scoped through nothing');
    expect(told(inferred, 'lessons')).toBe('scoped through public.students(student_id)');
    expect(told(inferred, 'notes')).toBe('scoped through public.lessons(lesson_id)');
    expect(told(inferred, 'versions')).toBe('scoped through nothing');
    expect(told(inferred, 'schema_migrations')).toBe('platform none');
    expect(told(inferred, 'countries')).toBe('shared');
    expect(uniques(inferred, 'app_settings').get('app_settings_key_key')).toBe('per tenant');
  });
});

test('every table of the CRM example gets its rule', async () => {
  const schema = readFileSync(new URL('../../../../examples/crm/schema.sql', import.meta.url), 'utf8');
  const given = await catalog(schema);
  const inferred = inferModel(given);
  expect(Object.fromEntries([...inferred.model.tables.keys()].map((table) => [table, told(inferred, table)]))).toEqual({
    'public.activities': 'scoped through public.deals(deal_id), public.contacts(contact_id), public.users(user_id)',
    'public.contacts': 'scoped through public.customers(customer_id)',
    'public.countries': 'shared',
    'public.customer_tags': 'scoped through public.customers(customer_id)',
    'public.customers': 'scoped by tenant_id',
    'public.deal_stages': 'scoped through public.pipelines(pipeline_id)',
    'public.deals': 'scoped through public.customers(customer_id)',
    'public.files': 'scoped through public.deals(dealId)',
    'public.notes': 'scoped through public.customers(customer_id)',
    'public.pipelines': 'scoped by tenant_id',
    'public.schema_migrations': 'platform none',
    'public.sessions': 'scoped through public.users(user_id)',
    'public.tags': 'scoped by tenant_id',
    'public.users': 'scoped by tenant_id',
  });
  expect(inferred.model.tenant.status).toEqual({ column: 'status', values: { suspended: 'suspended', cancelled: 'cancelled' } });
  expect(uniques(inferred, 'files').get('files_storageKey_key')).toBe('global');
  expect(uniques(inferred, 'customers').get('customers_reference_key')).toBe('per tenant');
  expect(checkModel(inferred.model, given)).toEqual([]);
});

function uniques(inferred: Awaited<ReturnType<typeof model>>, table: string): ReadonlyMap<string, string> {
  const rule = ruleOf(inferred, table);
  return rule.scope === 'scoped' ? rule.uniques : new Map();
}
