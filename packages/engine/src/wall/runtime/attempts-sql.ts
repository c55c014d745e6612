import { dollarQuote } from '../../db/sql.ts';

/**
 * Attempts on other tenants, and the sources that are blocked because of them. The tables are closed; the application reaches two functions, by which it
 * records an attempt and asks whether sources that it names are blocked.
 *
 * Threat model: the application's role may run any SQL, so it can make attempts up, and so have an address blocked that is somebody else's. That is bounded (so
 * many automatic blocks a day, each for a limited time, never an exempt network), seen (`attempts list` and the alert show them) and lifted by `attempts unblock`. It
 * cannot fill the database, keep others from recording, read what is recorded, or lift a block.
 */
export const attemptLimits = {
  /** Records of one source in a minute; what comes after is counted in one more. */
  perSourceMinute: 10,
  /** Records in a day; after them one of each source and minute, and after `rowsPerDay` one for all. */
  detailsPerDay: 5_000,
  rowsPerDay: 10_000,
  /** Automatic blocks in a day. */
  blocksPerDay: 500,
  daysKept: 30,
  /** Old rows that one record takes along. */
  purgedAtOnce: 100,
  textCharacters: 200,
  /** Attempts that one record may stand for. */
  timesMax: 1_000,
  /** Sources of one look-up. */
  lookedUpMax: 200,
} as const;

/** What the application may call. */
export const attemptAppFunctions = ['record_attempt(jsonb)', 'blocked_sources(text[])'] as const;

/** Statements, each idempotent, in the order they need. */
export function attemptsSql(): string[] {
  return [
    `create table if not exists partywall.attempts (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  last_at timestamptz not null,
  times bigint not null,
  kind text not null check (kind in ('tenant', 'unit', 'row', 'more')),
  source cidr,
  route text,
  actor text,
  tenant text,
  claimed text,
  request_id text
)`,
    'create index if not exists attempts_at on partywall.attempts (at)',
    // A row for each source: when it was blocked last, and until when.
    `create table if not exists partywall.attempt_blocks (
  source cidr primary key,
  blocked_at timestamptz not null,
  until timestamptz not null,
  attempts bigint not null,
  blocked_by text,
  reason text,
  told boolean not null
)`,
    'create index if not exists attempt_blocks_until on partywall.attempt_blocks (until)',
    `create table if not exists partywall.attempt_settings (
  only_one boolean primary key default true check (only_one),
  threshold integer not null default 5 check (threshold between 0 and 1000),
  window_minutes integer not null default 10 check (window_minutes between 1 and 1440),
  block_minutes integer not null default 15 check (block_minutes between 1 and 10080),
  exempt cidr[] not null default '{}' check (cardinality(exempt) <= 1000),
  changed_at timestamptz not null default now()
)`,
    'insert into partywall.attempt_settings default values on conflict do nothing',
    recordSql(),
    blockedSql(),
  ];
}

const text = (member: string): string => `regexp_replace(left(attempt ->> '${member}', ${attemptLimits.textCharacters}), '[[:cntrl:]]', ' ', 'g')`;
const rowsSince = (since: string, most: number): string =>
  `(select count(*) from (select from partywall.attempts a where a.at > moment - ${since} limit ${most}) c)`;

/**
 * Records an attempt and returns for how many seconds its source is blocked, NULL where it is not. One address counts as itself, one of IPv6 with its whole /64,
 * which is what one customer has.
 *
 * Nothing here waits for another session but the insert of the same block, and that for 200 ms: whoever keeps a transaction open after calling it keeps
 * nobody from recording.
 */
function recordSql(): string {
  const { perSourceMinute, detailsPerDay, rowsPerDay, blocksPerDay, daysKept, purgedAtOnce, timesMax } = attemptLimits;
  return `create or replace function partywall.record_attempt(attempt jsonb) returns integer language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as ${dollarQuote(`declare
  moment timestamptz := clock_timestamp();
  origin cidr;
  rules partywall.attempt_settings;
  said bigint := case when attempt ->> 'times' ~ '^\\d{1,4}$' then least(greatest((attempt ->> 'times')::bigint, 1), ${timesMax}) else 1 end;
  what text := case when attempt ->> 'kind' in ('unit', 'row') then attempt ->> 'kind' else 'tenant' end;
  since timestamptz;
  counted bigint;
begin
  begin
    origin := network(set_masklen((attempt ->> 'source')::inet, case family((attempt ->> 'source')::inet) when 4 then 32 else 64 end));
  exception when data_exception then
    origin := null;
  end;
  delete from partywall.attempts d where d.id in (
    select a.id from partywall.attempts a where a.at < moment - interval '${daysKept} days' order by a.at limit ${purgedAtOnce} for update skip locked);
  delete from partywall.attempt_blocks d where d.source in (
    select b.source from partywall.attempt_blocks b where b.until < moment - interval '${daysKept} days' order by b.until limit ${purgedAtOnce} for update skip locked);
  if (select count(*) from partywall.attempts a where a.at > moment - interval '1 minute' and a.source is not distinct from origin) < ${perSourceMinute}
     and ${rowsSince("interval '1 day'", detailsPerDay)} < ${detailsPerDay} then
    insert into partywall.attempts (at, last_at, times, kind, source, route, actor, tenant, claimed, request_id)
      values (moment, moment, said, what, origin, ${text('route')}, ${text('actor')}, ${text('tenant')}, ${text('claimed')}, ${text('requestId')});
  else
    if ${rowsSince("interval '1 day'", rowsPerDay)} >= ${rowsPerDay} then
      origin := null;
    end if;
    update partywall.attempts u set times = u.times + said, last_at = moment where u.id = (
      select a.id from partywall.attempts a where a.kind = 'more' and a.source is not distinct from origin
        and a.at > moment - (case when origin is null then interval '1 day' else interval '1 minute' end)
      order by a.at desc limit 1 for update skip locked);
    if not found and (origin is not null or ${rowsSince("interval '1 day'", rowsPerDay + 100)} < ${rowsPerDay + 100}) then
      insert into partywall.attempts (at, last_at, times, kind, source) values (moment, moment, said, 'more', origin);
    end if;
  end if;

  select s.* into rules from partywall.attempt_settings s;
  if origin is null or rules.threshold = 0 or origin <<= any (rules.exempt) then
    return null;
  end if;
  since := greatest(moment - make_interval(mins => rules.window_minutes), (select b.until from partywall.attempt_blocks b where b.source = origin and b.until <= moment));
  counted := (select sum(a.times) from partywall.attempts a where a.source = origin and a.last_at > since and a.at > since - interval '1 minute');
  -- A block that is in force is left alone: to look at it by an insert would lock it against the operator who lifts it.
  if counted >= rules.threshold and not exists (select from partywall.attempt_blocks b where b.source = origin and b.until > moment)
     and (select count(*) from (select from partywall.attempt_blocks b where b.blocked_by is null and b.blocked_at > moment - interval '1 day' limit ${blocksPerDay}) b)
       < ${blocksPerDay} then
    begin
      insert into partywall.attempt_blocks as b (source, blocked_at, until, attempts, told)
        values (origin, moment, moment + make_interval(mins => rules.block_minutes), counted, false)
        on conflict (source) do update set blocked_at = excluded.blocked_at, until = excluded.until, attempts = excluded.attempts, blocked_by = null, reason = null,
          told = false where b.until <= excluded.blocked_at;
    exception when lock_not_available then
      null; -- another session is blocking it
    end;
  end if;
  return (select ceil(extract(epoch from max(b.until) - moment))::integer from partywall.attempt_blocks b where b.source >>= origin and b.until > moment);
end`)}`;
}

/** For each of the named sources that is blocked, for how many seconds. Who lists them is told; who guesses may ask for each. */
function blockedSql(): string {
  return `create or replace function partywall.blocked_sources(sources text[]) returns table (source text, seconds integer)
language sql stable security definer rows 10 set search_path = pg_catalog, pg_temp as ${dollarQuote(`select s.address, ceil(extract(epoch from max(b.until) - now()))::integer
from (select unnest(sources[1:${attemptLimits.lookedUpMax}]) as address) s join partywall.attempt_blocks b on b.source >>= s.address::inet and b.until > now()
group by s.address`)}`;
}
