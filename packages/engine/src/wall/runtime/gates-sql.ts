/**
 * What the gates of a roll-out keep: thresholds that an operator has changed, the stages that the roll-out went through, and the last count of rows.
 * Closed to everybody but the service role; no function here is the application's.
 */
export function gatesSql(): string[] {
  return [
    `create table if not exists partywall.rollout_thresholds (
  name text primary key check (name ~ '^[a-z][a-z0-9_]{0,39}$'),
  value double precision not null,
  changed_at timestamptz not null default now(),
  changed_by text
)`,
    // 0: all is observed; 100: all is enforced. A row for each change, and whether the gates made it.
    `create table if not exists partywall.rollout_stages (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  percent integer not null check (percent between 0 and 100),
  automatic boolean not null,
  changed_by text,
  reason text,
  gates jsonb
)`,
    'create index if not exists rollout_stages_at on partywall.rollout_stages (at)',
    // Tenants by a hash of their key: whoever is erased leaves no key here.
    `create table if not exists partywall.integrity_counts (
  relation text primary key,
  counted_at timestamptz not null,
  row_count bigint not null,
  tenants jsonb not null
)`,
  ];
}
