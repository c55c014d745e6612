import { parseModel, type TenancyConfig, type TenancyModel } from '../../src/model/model.ts';

/**
 * A small schema with everything in it that makes a wall hard to build: each table is there for one reason, which its comment
 * names. The rows are those of two tenants and a third that has none; nothing crosses. `key` is the type of the tenant key.
 */
export interface KeyKind {
  readonly type: string;
  /** Two tenants with rows and one without, as SQL literals of any type take them. */
  readonly ids: readonly [string, string, string];
}

export const keyKinds = {
  uuid: { type: 'uuid', ids: ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-00000000000c'] },
  bigint: { type: 'bigint', ids: ['9007199254740993', '-2', '3'] },
  integer: { type: 'integer', ids: ['1', '2', '3'] },
  text: { type: 'text', ids: ["o'reilly \\ sons", 'b"b', '$$'] },
  varchar: { type: 'character varying(40)', ids: ['acme', 'Beta', ' c '] },
} as const satisfies Record<string, KeyKind>;

/** 63 bytes, which is as long as a name can be, with a character at the end that two bytes make. */
export const longName = `${'n'.repeat(61)}é`;
export const oddName = `we"ird $$ na'me`;
/** As a regular expression over a definition would misread it. */
export const usingName = 'a USING btree (b) WHERE c';

const q = (name: string) => `"${name.replaceAll('"', '""')}"`;

export function fixtureSql({ type, ids }: KeyKind): string {
  const [a, b, c] = ids.map((id) => `'${id.replaceAll("'", "''")}'::${type}`);
  return `
create schema "Sales Dept";
create schema "select";

-- The root points back into a scoped table.
create table tenants (id ${type} primary key, name text not null, status text not null default 'live', owner_id bigint);
insert into tenants (id, name) values (${a}, 'A'), (${b}, 'B'), (${c}, 'C');

create table countries (code text primary key);
insert into countries values ('DE'), ('FR');
create table schema_migrations (version text primary key);
insert into schema_migrations values ('1');
create sequence ticket_numbers;

-- Own column, self-reference, identity, global unique, deferrable unique.
create table users (
  id bigint generated always as identity primary key, tenant_id ${type} not null references tenants, email text not null, seat int,
  manager_id bigint references users on delete set null,
  constraint users_email_key unique (email), constraint users_seat_key unique (seat) deferrable initially deferred);
insert into users (tenant_id, email, seat, manager_id) values (${a}, 'ann@a', 1, null), (${a}, 'abe@a', 2, 1), (${b}, 'bob@b', 3, null), (${b}, 'bea@b', 4, 3);
alter table tenants add constraint tenants_owner_id_fkey foreign key (owner_id) references users on delete set null deferrable initially deferred;
update tenants set owner_id = 1 where id = ${a};

-- Own column that takes NULL; uniques of every kind, one of them referenced.
create table customers (
  id serial primary key, tenant_id ${type}, code text not null, name text not null, phone text, vat text, country text references countries,
  archived boolean not null default false, label text generated always as (code || ':' || name) stored,
  constraint customers_code_key unique (code), constraint customers_phone_key unique nulls not distinct (phone, name));
create unique index customers_vat_active on customers (vat) include (name) where not archived;
create unique index customers_lower_name on customers (lower(name) text_pattern_ops desc nulls last);
insert into customers (tenant_id, code, name, phone, vat, country) values
  (${a}, 'a1', 'Alpha', null, 'v1', 'DE'), (${a}, 'a2', 'Aleph', '1', 'v2', 'FR'), (${b}, 'b1', 'Bravo', null, 'v3', 'DE'), (${b}, 'b2', 'Beth', '2', null, null);

-- Child, and grandchild over two nullable ways, neither of which every row takes.
create table contacts (id serial primary key, customer_id int not null references customers on delete cascade on update cascade, name text, touched int not null default 0);
insert into contacts (customer_id, name) values (1, 'c1'), (2, 'c2'), (3, 'c3'), (4, 'c4');
create table notes (
  id serial primary key, contact_id int references contacts on delete set null, user_id bigint references users on delete cascade, body text,
  ticket bigint not null default nextval('ticket_numbers'), touched int not null default 0);
insert into notes (contact_id, user_id, body) values (1, null, 'by contact'), (null, 3, 'by user'), (4, 4, 'by both');

-- A reference to a key that is not the primary one, and a SET DEFAULT and an ON UPDATE SET NULL action.
create table invoices (
  id serial primary key, customer_code text not null references customers (code) on update cascade, payer_id int default 1 references customers on delete set default on update set null);
insert into invoices (customer_code, payer_id) values ('a1', 1), ('a2', 2), ('b1', null);

-- Ownership against the reference: settings exist before the order that owns them.
create table settings (id serial primary key, colour text);
create table orders (id serial primary key, customer_id int not null references customers, settings_id int not null references settings);
insert into settings (colour) values ('red'), ('blue');
insert into orders (customer_id, settings_id) values (1, 1), (3, 2);

-- No primary key; mixed case, dots and spaces; a reserved word; a quote and dollars; 63 bytes.
create table "Sales Dept"."Order.Lines" ("orderId" int not null references orders on delete cascade, "Qty" int not null);
insert into "Sales Dept"."Order.Lines" values (1, 5), (1, 6), (2, 7);
create table "select"."table" ("user" int references contacts, "order" int unique, "row" text, "key" text, primary key ("user"));
insert into "select"."table" values (1, 1, 'r1', 'k1'), (3, 2, 'r2', 'k2');
create table ${q(oddName)} (${q(`i"d`)} int primary key, ${q(`fk $$ '`)} int constraint ${q(`c"on $$ '`)} references contacts, note text);
insert into ${q(oddName)} values (1, 1, 'x'), (2, 3, 'y');
create table ${q(longName)} (id int primary key, ${q(longName)} int constraint ${q(longName)} references contacts, u text);
create unique index ${q(longName.slice(1))} on ${q(longName)} (u);
insert into ${q(longName)} values (1, 1, 'u1'), (2, 3, 'u2');
create table ${q(usingName)} (id int primary key, customer_id int references customers, ${q('x USING (y')} text);
create unique index ${q('i USING (z')} on ${q(usingName)} (${q('x USING (y')}) where ${q('x USING (y')} <> ' USING (';
insert into ${q(usingName)} values (1, 1, 'p'), (2, 3, 'q');

-- Two tables that point at each other.
create table hens (id int primary key, customer_id int not null references customers, egg_id int);
create table eggs (id int primary key, hen_id int not null references hens deferrable initially deferred);
alter table hens add constraint hens_egg_id_fkey foreign key (egg_id) references eggs deferrable;
insert into hens values (1, 1, null), (2, 3, null);
insert into eggs values (10, 1), (20, 2);
update hens set egg_id = id * 10;

-- Many to many; tags own their column.
create table tags (id serial primary key, tenant_id ${type} not null, name text not null, unique (tenant_id, name));
insert into tags (tenant_id, name) values (${a}, 'vip'), (${b}, 'vip');
create table customer_tags (customer_id int references customers on delete cascade, tag_id int references tags on delete cascade, primary key (customer_id, tag_id));
insert into customer_tags values (1, 1), (3, 2);

-- The tenant is in the primary key already, and a reference with it would set it to NULL.
create table docs (tenant_id ${type} references tenants, no int, title text, primary key (no, tenant_id));
create table pages (
  id int primary key, tenant_id ${type}, doc_no int, constraint pages_doc_fkey foreign key (doc_no, tenant_id) references docs (no, tenant_id) on delete set null);
insert into docs values (${a}, 1, 'd'), (${b}, 1, 'e');
insert into pages values (1, ${a}, 1), (2, ${b}, 1);

-- Partitioned by range, then by list, with a default; referenced and referring.
create table events (id bigint generated by default as identity, at date not null, kind text not null, customer_id int references customers on delete cascade, seq int, primary key (id, at, kind)) partition by range (at);
create table events_2024 partition of events for values from ('2024-01-01') to ('2025-01-01');
create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01') partition by list (kind);
create table events_2025_a partition of events_2025 for values in ('a');
create table events_2025_rest partition of events_2025 default;
create table events_rest partition of events default;
create unique index events_seq on events (seq, at, kind);
insert into events (at, kind, customer_id, seq) values ('2024-02-02', 'a', 1, 1), ('2025-02-02', 'a', 1, 1), ('2025-02-02', 'z', 3, 1), ('1999-09-09', 'z', 3, 1);
create table event_notes (id int primary key, event_id bigint, event_at date, event_kind text, foreign key (event_id, event_at, event_kind) references events on delete cascade);
insert into event_notes values (1, 1, '2024-02-02', 'a'), (2, 3, '2025-02-02', 'z');
create table days (day date, customer_id int references customers, constraint days_once unique (day, customer_id)) partition by range (day);
create table days_old partition of days for values from (minvalue) to ('2025-01-01');
create table days_new partition of days for values from ('2025-01-01') to (maxvalue);
insert into days values ('2024-01-01', 1), ('2026-01-01', 3);
create table empty_parts (id int, at date, customer_id int references customers, primary key (id, at)) partition by range (at);

-- Inheritance, the child with a key and a reference of its own.
create table assets (id int primary key, customer_id int references customers, name text);
create table cars (plate text, primary key (id), foreign key (customer_id) references customers) inherits (assets);
insert into assets values (1, 1, 'desk');
insert into cars values (2, 3, 'van', 'B-1');

create unlogged table cache_entries (key text primary key, user_id bigint not null references users on delete cascade);
insert into cache_entries values ('k1', 1), ('k2', 3);
create table bookings (id int primary key, customer_id int references customers, during int4range, exclude using gist (during with &&));
insert into bookings values (1, 1, '[1,2)'), (2, 3, '[2,3)');

create view customer_list as select c.id, c.name, count(k.id) as contacts from customers c left join contacts k on k.customer_id = c.id group by c.id;
create view busy_customers with (security_barrier = true) as select * from customer_list where contacts > 0;
create view "select"."view" with (security_invoker = false) as select * from "select"."table";
create view country_list as select code from countries;
create materialized view customer_totals as select country, count(*) as n from customers group by country;

-- Belongs to an extension, so it is nobody's in the model.
create table extension_rows (id int primary key);
alter extension plpgsql add table extension_rows;

create function touch() returns trigger language plpgsql as $$ begin new.touched := new.touched + 1; return new; end $$;
create trigger touch_contact before update on contacts for each row execute function touch();
create trigger touch_note before update on notes for each row execute function touch();
`;
}

const through = (table: string, columns: string | string[], references?: string | string[]) => ({ table, columns, ...(references && { references }) });

/** The model of the fixture. Uniques are per tenant where the fixture names them so. */
export function fixtureConfig(roles: TenancyConfig['roles']): TenancyConfig {
  return {
    tenant: { table: 'tenants', key: 'id', status: { column: 'status', values: { frozen: 'suspended', gone: 'cancelled', archive: 'read_only' } } },
    schemas: ['public', 'Sales Dept', 'select'],
    roles,
    tables: {
      countries: { scope: 'shared' },
      schema_migrations: { scope: 'platform' },
      customer_totals: { scope: 'platform' },
      users: { scope: 'scoped', column: 'tenant_id', uniques: { users_seat_key: 'per tenant' } },
      customers: {
        scope: 'scoped',
        column: 'tenant_id',
        uniques: {
          customers_code_key: 'per tenant',
          customers_phone_key: 'per tenant',
          customers_vat_active: 'per tenant',
          customers_lower_name: 'per tenant',
        },
      },
      contacts: { scope: 'scoped', through: through('customers', 'customer_id') },
      notes: { scope: 'scoped', through: [through('contacts', 'contact_id'), through('users', 'user_id')] },
      invoices: { scope: 'scoped', through: through('customers', 'customer_code', 'code') },
      settings: { scope: 'scoped', through: through('orders', 'id', 'settings_id') },
      orders: { scope: 'scoped', through: through('customers', 'customer_id') },
      '"Sales Dept"."Order.Lines"': { scope: 'scoped', through: through('orders', 'orderId') },
      '"select"."table"': { scope: 'scoped', through: through('contacts', 'user'), uniques: { table_order_key: 'per tenant' } },
      [q(oddName)]: { scope: 'scoped', column: `t"enant $$ '`, through: through('contacts', `fk $$ '`) },
      [longName]: { scope: 'scoped', column: longName.slice(1), through: through('contacts', longName), uniques: { [longName.slice(1)]: 'per tenant' } },
      [q(usingName)]: { scope: 'scoped', through: through('customers', 'customer_id'), uniques: { 'i USING (z': 'per tenant' } },
      hens: { scope: 'scoped', through: through('customers', 'customer_id') },
      eggs: { scope: 'scoped', through: through('hens', 'hen_id') },
      tags: { scope: 'scoped', column: 'tenant_id' },
      customer_tags: { scope: 'scoped', through: through('customers', 'customer_id') },
      docs: { scope: 'scoped', column: 'tenant_id' },
      pages: { scope: 'scoped', column: 'tenant_id' },
      events: { scope: 'scoped', through: through('customers', 'customer_id'), uniques: { events_seq: 'per tenant' } },
      event_notes: { scope: 'scoped', through: through('events', ['event_id', 'event_at', 'event_kind'], ['id', 'at', 'kind']) },
      days: { scope: 'scoped', through: through('customers', 'customer_id'), uniques: { days_once: 'per tenant' } },
      empty_parts: { scope: 'scoped', through: through('customers', 'customer_id') },
      assets: { scope: 'scoped', through: through('customers', 'customer_id') },
      cache_entries: { scope: 'scoped', through: through('users', 'user_id') },
      bookings: { scope: 'scoped', through: through('customers', 'customer_id') },
    },
  };
}

export function fixtureModel(roles: TenancyConfig['roles']): TenancyModel {
  return parseModel(fixtureConfig(roles));
}
