-- Alert rules, the alerts that they raised, the channels that are told, and what is on its way to them.

create table partywall_control.alert_rules (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,59}$'),
  title text not null,
  -- What is measured; the names are those of metrics.ts.
  metric text not null check (metric in ('quota', 'error_rate', 'response_time', 'connections', 'total_error_rate')),
  -- Of metric quota: the quota; null stands for each one that has no rule of its own.
  quota text,
  -- In the metric's unit: per cent, or milliseconds.
  warning double precision not null check (warning > 0),
  critical double precision not null check (critical >= warning),
  -- Of metrics that are taken from requests: how far back they look, and how many requests it takes to say anything.
  window_minutes integer not null check (window_minutes between 1 and 1440),
  min_calls integer not null check (min_calls >= 0),
  -- Hysteresis: how long it must have been above before the alert opens, and below before it is resolved.
  for_minutes integer not null check (for_minutes between 0 and 1440),
  clear_minutes integer not null check (clear_minutes between 0 and 1440),
  enabled boolean not null,
  changed_at timestamptz not null default now(),
  check (quota is null or metric = 'quota')
);
create unique index alert_rules_quota_key on partywall_control.alert_rules (coalesce(quota, '')) where metric = 'quota';

insert into partywall_control.alert_rules
  (name, title, metric, quota, warning, critical, window_minutes, min_calls, for_minutes, clear_minutes, enabled) values
  ('api_calls', 'API calls this month', 'quota', 'api_calls', 80, 95, 1, 0, 0, 5, true),
  ('storage', 'Storage', 'quota', 'storage', 80, 95, 1, 0, 0, 5, true),
  ('quotas', 'Quota', 'quota', null, 80, 95, 1, 0, 0, 5, true),
  ('error_rate', 'Error rate', 'error_rate', null, 1, 5, 5, 20, 0, 5, true),
  ('response_time', 'Response time', 'response_time', null, 500, 2000, 5, 20, 0, 5, true),
  ('total_error_rate', 'Error rate of all tenants together', 'total_error_rate', null, 1, 5, 5, 100, 0, 5, true),
  ('connections', 'Database connections', 'connections', null, 80, 95, 1, 0, 0, 5, true);

-- Other thresholds for one tenant; what is null is as the rule says.
create table partywall_control.alert_overrides (
  rule text not null references partywall_control.alert_rules (name) on delete cascade,
  tenant_id text not null references partywall_control.directory (tenant_id) on delete cascade,
  warning double precision check (warning > 0),
  critical double precision check (critical > 0),
  enabled boolean,
  changed_at timestamptz not null default now(),
  primary key (rule, tenant_id),
  check (critical >= warning)
);

create table partywall_control.alerts (
  id uuid primary key default gen_random_uuid(),
  rule text not null,
  title text not null,
  -- '' is the system as a whole.
  tenant_id text not null,
  -- What of it: the quota; '' where the rule has but one.
  subject text not null,
  metric text not null,
  -- pending: above its threshold, and not yet for long enough.
  status text not null check (status in ('pending', 'open', 'resolved')),
  -- The worst that it has been.
  severity text not null check (severity in ('warning', 'critical')),
  value double precision not null,
  -- The one that was passed for this severity.
  threshold double precision not null,
  details jsonb not null,
  -- Since when the value asks for more than the severity, and since when it asks for nothing.
  rising_since timestamptz,
  falling_since timestamptz,
  opened_at timestamptz,
  escalated_at timestamptz,
  resolved_at timestamptz,
  resolution text check (resolution in ('cleared', 'tenant_inactive', 'rule_off')),
  acknowledged_at timestamptz,
  acknowledged_by text,
  note text,
  check ((status = 'pending') = (opened_at is null)),
  check ((status = 'resolved') = (resolved_at is not null)),
  check ((resolved_at is null) = (resolution is null))
);
-- However many evaluations run at once, an alert is open once.
create unique index alerts_standing_key on partywall_control.alerts (rule, tenant_id, subject) where status <> 'resolved';
create index alerts_opened_idx on partywall_control.alerts (opened_at desc, id desc) where opened_at is not null;
create index alerts_tenant_idx on partywall_control.alerts (tenant_id, opened_at desc, id desc) where opened_at is not null;
create index alerts_resolved_idx on partywall_control.alerts (resolved_at) where status = 'resolved';

-- When everything was last looked at: one row.
create table partywall_control.alert_evaluation (
  only_one boolean primary key default true check (only_one),
  evaluated_at timestamptz not null
);

create table partywall_control.alert_channels (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,59}$'),
  kind text not null check (kind in ('webhook', 'email', 'slack', 'pagerduty')),
  -- What of the target may be shown: an origin, or the addresses.
  shown text not null,
  -- The target with its secrets, sealed with a key of the keyring.
  target bytea not null,
  severities text[] not null check (cardinality(severities) > 0 and severities <@ '{warning,critical}'),
  -- Null: all of them, and of tenants also the system as a whole.
  rules text[],
  tenants text[],
  enabled boolean not null,
  changed_at timestamptz not null default now()
);

-- The outbox: written by the transaction that opens, escalates or resolves an alert.
create table partywall_control.deliveries (
  id uuid primary key default gen_random_uuid(),
  seq bigint not null generated always as identity,
  channel text not null references partywall_control.alert_channels (name) on delete cascade,
  -- Null: a test, or a digest of many.
  alert_id uuid references partywall_control.alerts (id) on delete cascade,
  event text not null check (event in ('opened', 'escalated', 'resolved', 'digest', 'test')),
  -- What is told, as it was at the time: a delivery that is repeated says the same.
  payload jsonb not null,
  status text not null default 'waiting' check (status in ('waiting', 'delivered', 'failed')),
  attempts integer not null default 0,
  -- Not before; while somebody sends it, when it is taken from them.
  due_at timestamptz not null default now(),
  -- Of whoever sends it now: who lost it to another can no longer say how it went.
  lease uuid,
  failure text,
  created_at timestamptz not null default now(),
  finished_at timestamptz
);
create index deliveries_due_idx on partywall_control.deliveries (due_at) where status = 'waiting';
create index deliveries_order_idx on partywall_control.deliveries (channel, alert_id, seq) where status = 'waiting';
create index deliveries_alert_idx on partywall_control.deliveries (alert_id, channel);
create index deliveries_finished_idx on partywall_control.deliveries (finished_at) where finished_at is not null;
create index deliveries_seq_idx on partywall_control.deliveries (seq desc);
