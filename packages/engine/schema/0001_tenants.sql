-- Plans and the directory of tenants. Tenants are keyed by the text of their key, whatever its type: so is everything in this schema.

create table partywall_control.plans (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  title text not null,
  -- Recovery and retention promise.
  tier text not null check (tier in ('free', 'starter', 'pro', 'enterprise')),
  -- Quota → limit; a quota that is not named has none.
  limits jsonb not null check (jsonb_typeof(limits) = 'object'),
  requests_per_minute integer check (requests_per_minute > 0),
  -- How long a cancelled or deleted tenant can be restored.
  retention_days integer not null check (retention_days >= 0),
  audit_retention_days integer not null check (audit_retention_days > 0),
  changed_at timestamptz not null default now()
);

insert into partywall_control.plans (name, title, tier, limits, requests_per_minute, retention_days, audit_retention_days) values
  ('free', 'Free', 'free', '{"customers": 100, "users": 3, "storage": 104857600, "api_calls": 10000}', 60, 30, 90),
  ('starter', 'Starter', 'starter', '{"customers": 1000, "users": 10, "storage": 1073741824, "api_calls": 100000}', 300, 30, 365),
  ('pro', 'Pro', 'pro', '{"customers": 25000, "users": 100, "storage": 21474836480, "api_calls": 2000000}', 1200, 30, 1095),
  ('enterprise', 'Enterprise', 'enterprise', '{}', null, 90, 2555);

create table partywall_control.directory (
  tenant_id text primary key,
  name text not null,
  contact_email text,
  plan text not null references partywall_control.plans (name),
  status text not null default 'active' check (status in ('active', 'suspended', 'cancelled', 'deleted', 'erasing')),
  reason text,
  status_changed_at timestamptz not null default now(),
  -- What the root's own status column said while the tenant was active (such as `trial`), so that reactivating says it again.
  root_status text,
  -- Cancelled or deleted: until then it can be brought back.
  retained_until timestamptz,
  hold_reason text,
  held_at timestamptz,
  -- What a provision asked for, so that asking again finds it; null where the tenant came by itself.
  provision_key text unique,
  provision_hash bytea,
  created_at timestamptz not null default now(),
  check ((provision_key is null) = (provision_hash is null)),
  check ((hold_reason is null) = (held_at is null))
);
create index directory_name_idx on partywall_control.directory (lower(name), tenant_id);
create index directory_created_idx on partywall_control.directory (created_at, tenant_id);
create index directory_retained_idx on partywall_control.directory (retained_until) where retained_until is not null;
