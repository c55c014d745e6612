-- The CRM after its team's first two years. It runs as one role that owns everything, the application alone keeps
-- tenants apart, and most tables reach their tenant only through a parent. This file is the state that Partywall
-- starts from, so it stays un-hardened on purpose: no row level security, plain foreign keys, one global unique
-- that should have been per tenant.

create table schema_migrations (
  version text primary key,
  name text not null,
  applied_at timestamptz not null default now()
);

-- Reference data, the same for everybody.
create table countries (
  code text primary key check (code ~ '^[A-Z]{2}$'),
  name text not null unique,
  dial_code text not null,
  currency text not null check (currency ~ '^[A-Z]{3}$')
);

create table tenants (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  slug text not null unique,
  status text not null default 'active' check (status in ('active', 'suspended', 'cancelled')),
  plan text not null default 'starter',
  created_at timestamptz not null default now()
);

create table users (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references tenants (id) on delete cascade,
  email text not null,
  name text not null,
  role text not null default 'member' check (role in ('admin', 'member', 'viewer')),
  last_seen_at timestamptz,
  created_at timestamptz not null default now(),
  unique (tenant_id, email)
);

-- Written by the session middleware; its payload holds what the user last looked at.
create table sessions (
  id text primary key,
  user_id uuid not null references users (id) on delete cascade,
  payload jsonb not null default '{}',
  expires_at timestamptz not null
);
create index sessions_user_id_idx on sessions (user_id);
create index sessions_expires_at_idx on sessions (expires_at);

create table customers (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references tenants (id) on delete cascade,
  parent_id uuid references customers (id) on delete set null,
  -- Every tenant counts its own customers from 1; the slug in front was to keep this unique.
  reference text not null unique,
  name text not null,
  industry text,
  country_code text not null references countries (code) on delete restrict,
  website text,
  phone text,
  employees integer check (employees > 0),
  annual_revenue numeric(14, 2) check (annual_revenue >= 0),
  owner_id uuid references users (id) on delete set null,
  archived boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  check (parent_id <> id)
);
create index customers_tenant_name_idx on customers (tenant_id, name, id);
create index customers_parent_id_idx on customers (parent_id);
create index customers_owner_id_idx on customers (owner_id);

create function set_updated_at() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end
$$;
create trigger customers_set_updated_at before update on customers for each row execute function set_updated_at();

create table contacts (
  id uuid primary key default gen_random_uuid(),
  customer_id uuid not null references customers (id) on delete cascade,
  first_name text not null,
  last_name text not null,
  email text,
  phone text,
  job_title text,
  is_primary boolean not null default false,
  created_at timestamptz not null default now()
);
create index contacts_customer_id_idx on contacts (customer_id);
create index contacts_email_idx on contacts (lower(email));

create table pipelines (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references tenants (id) on delete cascade,
  name text not null,
  is_default boolean not null default false,
  unique (tenant_id, name)
);

create table deal_stages (
  id uuid primary key default gen_random_uuid(),
  pipeline_id uuid not null references pipelines (id) on delete cascade,
  name text not null,
  position integer not null,
  win_probability integer not null check (win_probability between 0 and 100),
  unique (pipeline_id, position)
);

create table deals (
  id uuid primary key default gen_random_uuid(),
  customer_id uuid not null references customers (id) on delete cascade,
  stage_id uuid not null references deal_stages (id) on delete restrict,
  owner_id uuid references users (id) on delete set null,
  title text not null,
  amount numeric(12, 2) not null check (amount >= 0),
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  status text not null default 'open' check (status in ('open', 'won', 'lost')),
  expected_close date,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  check ((status = 'open') = (closed_at is null))
);
create index deals_customer_id_idx on deals (customer_id);
create index deals_stage_id_idx on deals (stage_id);
create index deals_open_close_idx on deals (expected_close) where status = 'open';

-- About a deal, a contact, or both.
create table activities (
  id bigserial primary key,
  deal_id uuid references deals (id) on delete cascade,
  contact_id uuid references contacts (id) on delete cascade,
  user_id uuid references users (id) on delete set null,
  kind text not null check (kind in ('call', 'email', 'meeting', 'task')),
  subject text not null,
  due_at timestamptz,
  done_at timestamptz,
  created_at timestamptz not null default now(),
  check (deal_id is not null or contact_id is not null)
);
create index activities_deal_id_idx on activities (deal_id);
create index activities_contact_id_idx on activities (contact_id);

create table notes (
  id bigint generated by default as identity primary key,
  customer_id uuid not null references customers (id) on delete cascade,
  author_id uuid references users (id) on delete set null,
  body text not null,
  pinned boolean not null default false,
  created_at timestamptz not null default now()
);
create index notes_customer_id_idx on notes (customer_id, created_at desc);

create table tags (
  id serial primary key,
  tenant_id uuid not null references tenants (id) on delete cascade,
  name text not null,
  color text not null default 'grey',
  unique (tenant_id, name)
);

create table customer_tags (
  customer_id uuid not null references customers (id) on delete cascade,
  tag_id integer not null references tags (id) on delete cascade,
  tagged_at timestamptz not null default now(),
  primary key (customer_id, tag_id)
);
create index customer_tags_tag_id_idx on customer_tags (tag_id);

-- Came with the upload feature, whose library names columns in camel case. The bytes are in one bucket that all
-- tenants share, so the storage key really is unique across them.
create table files (
  id uuid primary key default gen_random_uuid(),
  "dealId" uuid not null references deals (id) on delete cascade,
  "uploadedBy" uuid references users (id) on delete set null,
  "fileName" text not null,
  "contentType" text not null,
  "sizeBytes" bigint not null check ("sizeBytes" > 0),
  "storageKey" text not null unique,
  "uploadedAt" timestamptz not null default now()
);
create index "files_dealId_idx" on files ("dealId");

create view customer_overview as
select c.id, c.tenant_id, c.reference, c.name, c.country_code,
  count(d.id) filter (where d.status = 'open') as open_deals,
  coalesce(sum(d.amount) filter (where d.status = 'open'), 0) as open_amount,
  coalesce(sum(d.amount) filter (where d.status = 'won'), 0) as won_amount,
  max(d.opened_at) as last_deal_at
from customers c
left join deals d on d.customer_id = c.id
group by c.id;
