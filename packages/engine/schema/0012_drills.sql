-- Which recovery point of a tenant was last restored, and proved to be whole.
create table partywall_control.proved_points (
  tenant_id text primary key references partywall_control.directory (tenant_id) on delete cascade,
  drill uuid not null,
  backup text not null,
  -- When the rows were so.
  at timestamptz not null,
  proved_at timestamptz not null
);
