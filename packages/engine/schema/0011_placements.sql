-- Other databases that tenants are placed in, and the moves between them and this one. How to connect is in the operators' environment, never here.

create table partywall_control.placements (
  name text primary key check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
  -- user@host:port/database, without a password.
  description text not null,
  created_at timestamptz not null default now()
);

create table partywall_control.moves (
  -- Of its operation.
  id uuid primary key,
  tenant_id text not null,
  -- The database that is not this one.
  placement text not null references partywall_control.placements (name),
  -- out: from here to there. back: from there to here.
  direction text not null check (direction in ('out', 'back')),
  -- copying: can be cancelled. switching: the old home refuses the tenant, the new one may not admit it yet. switched: the new one admits it, and
  -- the old rows wait for the end of their grace. finished: they are gone.
  state text not null default 'copying' check (state in ('copying', 'switching', 'switched', 'finished', 'cancelled')),
  -- What the tenant's state was before it was fenced for the move.
  registry_state text,
  grace_seconds bigint not null check (grace_seconds >= 0),
  -- What both databases had when they were compared.
  rows bigint,
  sha256 text,
  started_at timestamptz not null,
  switched_at timestamptz,
  remove_after timestamptz,
  finished_at timestamptz,
  check ((switched_at is null) = (remove_after is null))
);
create index moves_tenant_idx on partywall_control.moves (tenant_id, started_at desc);
create index moves_due_idx on partywall_control.moves (remove_after) where state = 'switched';
-- One at a time.
create unique index moves_open_idx on partywall_control.moves (tenant_id) where state in ('copying', 'switching');
