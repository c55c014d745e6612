import pg from 'pg';
import { createDatabase, suffix, type TestDatabase } from '../../../../test/support/database.ts';
import { parseModel, type TenancyModel } from '../../src/model/model.ts';
import { applyWall } from '../../src/wall/apply.ts';

/** A walled database with everything in it that makes a wall hard, and tenants with rows. */
export interface SoundDatabase {
  readonly database: TestDatabase;
  readonly model: TenancyModel;
  readonly appUrl: string;
  readonly systemUrl: string;
  /** Of three tenants: two active, one suspended. */
  readonly tenants: readonly [string, string, string];
}

/** 63 bytes, quotes, dots and dollars: whatever is not quoted everywhere breaks on it. */
export const nastySchema = 'Sales$$"Dept".x';
export const nastyTable = `Order "Lines".$$ ${'ä'.repeat(22)}xx`;

const tenantIds = ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-00000000000c'] as const;

export async function createSoundDatabase(): Promise<SoundDatabase> {
  const database = await createDatabase();
  const name = suffix();
  const roles = { owner: `own_${name}`, app: `app_${name}`, system: `sys_${name}`, service: `svc_${name}` };
  await database.query(`create role ${roles.owner} login`);
  await database.query(`create schema "${nastySchema.replaceAll('"', '""')}" authorization ${roles.owner}`);
  await database.query(`alter schema public owner to ${roles.owner}`);
  const owner = new pg.Client(database.urlAs(roles.owner));
  await owner.connect();
  try {
    await owner.query(schemaSql);
    await owner.query(rowsSql);
  } finally {
    await owner.end();
  }
  const model = parseModel(config(roles));
  await applyWall({ url: database.url, model, phase: 'expand' });
  await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
  return { database, model, appUrl: database.urlAs(roles.app), systemUrl: database.urlAs(roles.system), tenants: tenantIds };
}

function config(roles: { owner: string; app: string; system: string; service: string }): unknown {
  const nasty = `"${nastySchema.replaceAll('"', '""')}"."${nastyTable.replaceAll('"', '""')}"`;
  return {
    tenant: { table: 'tenants', status: { column: 'status', values: { suspended: 'suspended' } } },
    schemas: ['public', nastySchema],
    roles,
    tables: {
      customers: { scope: 'scoped', column: 'tenant_id', uniques: { customers_reference_key: 'per tenant' } },
      contacts: { scope: 'scoped', through: { table: 'customers', columns: 'customer_id' } },
      'public."Tags"': { scope: 'scoped', column: 'tenantId' },
      customer_tags: { scope: 'scoped', through: { table: 'customers', columns: 'customer_id' } },
      events: { scope: 'scoped', column: 'tenant_id' },
      documents: { scope: 'scoped', column: 'tenant_id' },
      log_lines: { scope: 'scoped', column: 'tenant_id' },
      slots: { scope: 'scoped', column: 'tenant_id' },
      files: { scope: 'scoped', through: { table: 'customers', columns: 'owner' }, uniques: { files_storage_key_key: 'global' } },
      [nasty]: { scope: 'scoped', through: { table: 'customers', columns: 'customerId' } },
      countries: { scope: 'shared' },
      settings: { scope: 'shared', access: 'write' },
      customer_totals: { scope: 'platform' },
      schema_migrations: { scope: 'platform' },
      job_queue: { scope: 'platform', access: 'write' },
      sessions: { scope: 'platform', access: 'read' },
    },
  };
}

const quotedNasty = `"${nastySchema.replaceAll('"', '""')}"."${nastyTable.replaceAll('"', '""')}"`;

const schemaSql = `
create table tenants (id uuid primary key default gen_random_uuid(), name text not null, status text not null default 'active' check (status in ('active', 'suspended')));
create table countries (code char(2) primary key, name text not null);
create table settings (key text primary key, value jsonb not null default '{}');
create table schema_migrations (version text primary key);
create type contact_kind as enum ('person', 'company');
create domain email_address as text check (value ~ '^[^@]+@[^@]+$');
create table customers (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references tenants on delete cascade,
  parent_id uuid references customers on delete set null,
  reference text not null unique,
  email email_address not null,
  country_code char(2) not null references countries,
  rating integer check (rating between 1 and 5),
  unique (tenant_id, email),
  check (parent_id <> id)
);
create index customers_parent on customers (parent_id);
create index customers_reference_like on customers (reference text_pattern_ops);
create table contacts (
  id bigserial primary key,
  customer_id uuid not null references customers on delete cascade,
  name varchar(20) not null,
  kind contact_kind not null,
  status text not null check (status in ('new', 'known')),
  score numeric(6, 2) not null check (score >= 10 and score < 20),
  reached_at timestamptz not null default now()
);
create table "Tags" (id integer generated always as identity primary key, "tenantId" uuid not null references tenants, "Name" text not null, unique ("tenantId", "Name"));
create table customer_tags (
  customer_id uuid not null references customers on delete cascade,
  tag_id integer not null references "Tags" on delete cascade,
  primary key (customer_id, tag_id)
);
create table events (
  id bigint generated by default as identity,
  tenant_id uuid not null references tenants,
  customer_id uuid references customers on delete cascade,
  at timestamptz not null,
  payload jsonb not null,
  primary key (id, at)
) partition by range (at);
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01');
create table documents (id uuid primary key default gen_random_uuid(), tenant_id uuid not null references tenants, title text not null);
create table "documents.special" (grade smallint not null) inherits (documents);
alter table "documents.special" add primary key (id);
create table log_lines (tenant_id uuid not null references tenants, line text not null);
create table slots (id bigint generated always as identity primary key, tenant_id uuid not null references tenants, during tstzrange not null, exclude using gist (during with &&));
create table files (id uuid primary key default gen_random_uuid(), owner uuid not null references customers on delete cascade, storage_key text not null unique, bytes bytea, meta jsonb not null default '{}');
create index files_meta on files using gin (meta);
create table ${quotedNasty} (
  "Id" bigint generated by default as identity primary key,
  "customerId" uuid not null references customers on delete cascade,
  "replaces" bigint references ${quotedNasty} on delete set null,
  "select" text not null,
  "total$$" numeric(12, 2) not null check ("total$$" > 0),
  "Codes" text[] not null
);
create table job_queue (id bigserial primary key, payload jsonb not null);
create table sessions (id text primary key, customer_id uuid references customers);
create view customer_overview as
select c.id, c.tenant_id, c.reference, count(t.id) as contacts from customers c left join contacts t on t.customer_id = c.id group by c.id;
create view busy_customers as select id, reference from customer_overview where contacts > 100;
create materialized view customer_totals as select tenant_id, count(*) from customers group by 1;
create function touch() returns trigger language plpgsql as $$ begin new.reached_at := now(); return new; end $$;
create trigger contacts_touch before update on contacts for each row execute function touch();
`;

const rowsSql = `
insert into tenants (id, name, status) values ('${tenantIds[0]}', 'A', 'active'), ('${tenantIds[1]}', 'B', 'active'), ('${tenantIds[2]}', 'C', 'suspended');
insert into countries values ('DE', 'Germany'), ('FR', 'France');
insert into customers (tenant_id, reference, email, country_code, rating)
select t.id, t.name || '-' || n, t.name || n || '@example.org', 'DE', 1 + n % 5 from tenants t, generate_series(1, 20) n;
insert into contacts (customer_id, name, kind, status, score) select id, 'Kim', 'person', 'new', 12.5 from customers;
insert into "Tags" ("tenantId", "Name") select id, 'vip' from tenants;
insert into customer_tags select c.id, t.id from customers c join "Tags" t on t."tenantId" = c.tenant_id;
insert into events (tenant_id, customer_id, at, payload) select tenant_id, id, '2026-05-05', '{}' from customers;
insert into documents (tenant_id, title) select id, 'plain' from tenants;
insert into "documents.special" (tenant_id, title, grade) select id, 'special', 1 from tenants;
insert into log_lines select id, 'hello' from tenants;
insert into slots (tenant_id, during) select id, tstzrange('2026-01-01'::timestamptz + row_number() over () * interval '1 day', '2026-01-01 12:00'::timestamptz + row_number() over () * interval '1 day') from tenants;
insert into files (owner, storage_key) select id, reference from customers;
insert into ${quotedNasty} ("customerId", "select", "total$$", "Codes") select id, 'x', 10, '{a}' from customers;
insert into sessions select reference, id from customers;
refresh materialized view customer_totals;
`;
