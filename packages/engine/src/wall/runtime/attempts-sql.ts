import { dollarQuote } from '../../db/sql.ts';
import { unlessTaken } from './unless-taken.ts';

/**
 * Attempts on other tenants, and the sources that are blocked because of them. The tables are closed; the application reaches two functions, by which it
 * records an attempt and asks whether sources that it names are blocked.
 *
 * Both tables are rings: when one is full the oldest rows give way, so a flood ends neither recording nor blocking. How full that of the records is need not be
 * counted: their numbers come from a sequence, which is the same in every snapshot, so it holds in every isolation level. What gave way is told by a row of its own (`gone`).
 *
 * Threat model: the application's role may run any SQL, so it can make attempts up, and so have an address blocked that is somebody else's, or push out
 * what was recorded before. That is bounded (so many automatic blocks at a time, each for a limited time, never an exempt network), seen (`attempts list` and the
 * alert show the attempts, and how many gave way) and lifted by `attempts unblock`. It cannot fill the database, keep others from recording, or read what is recorded.
 */
export const attemptLimits = {
  /** Records of one source in a minute; what comes after is counted in one more. */
  perSourceMinute: 10,
  /** Records; made-up sources by 83 a second push out what is ten minutes old. A full record is 4 KiB, an ordinary one 300 bytes. */
  rowsMax: 50_000,
  /** One record in so many takes along what is too old or too many: each look passes what went since the last VACUUM. */
  makesRoomEvery: 20,
  /** Automatic blocks; each look-up of a source compares it with those in force. */
  blocksMax: 1_000,
  daysKept: 30,
  /** Rows that it takes along. */
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
  kind text not null,
  source cidr,
  route text,
  actor text,
  tenant text,
  claimed text,
  request_id text
)`,
    // None by time alone: a plan that was made of an empty table may look by it for a source's last minute in everybody's.
    `create index if not exists attempts_source on partywall.attempts ((${sourceKey('source')}), at)`,
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
    'create index if not exists attempt_blocks_automatic on partywall.attempt_blocks (blocked_at) where blocked_by is null',
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

/** What an index finds attempts of unknown source by too. */
function sourceKey(source: string): string {
  return `coalesce(${source}, '0.0.0.0/0'::cidr)`;
}

const text = (member: string): string => `regexp_replace(left(attempt ->> '${member}', ${attemptLimits.textCharacters}), '[[:cntrl:]]', ' ', 'g')`;

/** Counts in the row of this kind and source of the last minute, or in a new one. */
const countIn = (kind: 'more' | 'gone', source: string, times: string): string => `counter := null;
    ${unlessTaken(`update partywall.attempts u set times = u.times + ${times}, last_at = moment where u.id = (
      select a.id from partywall.attempts a where ${sourceKey('a.source')} = ${sourceKey(source)} and a.at > moment - interval '1 minute' and a.kind = '${kind}'
      order by a.at desc limit 1 for update skip locked) returning u.id into counter;`)}
    if counter is null then
      insert into partywall.attempts (at, last_at, times, kind, source) values (moment, moment, ${times}, '${kind}', ${source}) returning id into placed;
    end if;`;

/**
 * Records an attempt and returns for how many seconds its source is blocked, NULL where it is not. One address counts as itself, one of IPv6 with its whole /64,
 * which is what one customer has.
 *
 * Nothing here waits for another session but the insert of the same block, and that for 200 ms: whoever keeps a transaction open after calling it keeps
 * nobody from recording. Every statement reads a bounded part of an index, also by a plan that was made when the tables were empty (with an index by time
 * alone and sequential scans such a plan took 26 ms for a record among 50,000; so it takes 0.16 ms, whether there are none or 50,000).
 */
function recordSql(): string {
  const { perSourceMinute, rowsMax, makesRoomEvery, blocksMax, daysKept, purgedAtOnce, timesMax } = attemptLimits;
  const oldest = (rows: string, order: string): string => `${rows} order by ${order} limit ${purgedAtOnce} for update skip locked`;
  const isGone = `id <= placed - ${rowsMax}`;
  const isOld = `at < moment - interval '${daysKept} days'`;
  return `create or replace function partywall.record_attempt(attempt jsonb) returns integer language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' set enable_seqscan = off as ${dollarQuote(`declare
  moment timestamptz := clock_timestamp();
  origin cidr;
  rules partywall.attempt_settings;
  said bigint := case when attempt ->> 'times' ~ '^\\d{1,4}$' then least(greatest((attempt ->> 'times')::bigint, 1), ${timesMax}) else 1 end;
  what text := case when attempt ->> 'kind' in ('unit', 'row') then attempt ->> 'kind' else 'tenant' end;
  placed bigint;
  counter bigint;
  gone bigint;
  since timestamptz;
  counted bigint;
begin
  begin
    origin := network(set_masklen((attempt ->> 'source')::inet, case family((attempt ->> 'source')::inet) when 4 then 32 else 64 end));
  exception when data_exception then
    origin := null;
  end;
  if (select count(*) from (select from partywall.attempts a where ${sourceKey('a.source')} = ${sourceKey('origin')} and a.at > moment - interval '1 minute'
        and a.kind <> 'gone' limit ${perSourceMinute}) c) < ${perSourceMinute} then
    insert into partywall.attempts (at, last_at, times, kind, source, route, actor, tenant, claimed, request_id)
      values (moment, moment, said, what, origin, ${text('route')}, ${text('actor')}, ${text('tenant')}, ${text('claimed')}, ${text('requestId')})
      returning id into placed;
  else
    ${countIn('more', 'origin', 'said')}
  end if;
  if placed % ${makesRoomEvery} = 0 then
    ${unlessTaken(`with gone_now as (delete from partywall.attempts d where d.id in (
        ${oldest(
          `select a.id from partywall.attempts a where a.id <= (
          select max(o.id) from (select f.id, f.at from partywall.attempts f order by f.id limit ${purgedAtOnce}) o where o.${isGone} or o.${isOld})
          and (a.${isGone} or a.${isOld})`,
          'a.id',
        )}) returning d.times, d.at)
      select sum(g.times) filter (where not g.${isOld}) into gone from gone_now g;`)}
    ${unlessTaken(`delete from partywall.attempt_blocks d where d.source in (
        ${oldest(`select b.source from partywall.attempt_blocks b where b.until < moment - interval '${daysKept} days'`, 'b.until')});`)}
    if gone > 0 then
    ${countIn('gone', 'null', 'gone')}
    end if;
  end if;

  select s.* into rules from partywall.attempt_settings s;
  if origin is null or rules.threshold = 0 or origin <<= any (rules.exempt) then
    return null;
  end if;
  since := greatest(moment - make_interval(mins => rules.window_minutes), (select b.until from partywall.attempt_blocks b where b.source = origin and b.until <= moment));
  -- No row stands for less than one attempt, so as many rows as the threshold say enough.
  counted := (select sum(r.times) from (select a.times from partywall.attempts a where ${sourceKey('a.source')} = origin and a.at > since - interval '1 minute'
    and a.last_at > since order by a.at desc limit rules.threshold) r);
  -- A block that is in force is left alone: to look at it by an insert would lock it against the operator who lifts it.
  if counted >= rules.threshold and not exists (select from partywall.attempt_blocks b where b.source = origin and b.until > moment) then
    ${unlessTaken(`insert into partywall.attempt_blocks as b (source, blocked_at, until, attempts, told)
        values (origin, moment, moment + make_interval(mins => rules.block_minutes), counted, false)
        on conflict (source) do update set blocked_at = excluded.blocked_at, until = excluded.until, attempts = excluded.attempts, blocked_by = null, reason = null,
          told = false where b.until <= excluded.blocked_at;`)}
    ${unlessTaken(`delete from partywall.attempt_blocks d where d.source in (
      ${oldest(
        `select b.source from partywall.attempt_blocks b where b.blocked_by is null and b.blocked_at <= (
        select n.blocked_at from partywall.attempt_blocks n where n.blocked_by is null order by n.blocked_at desc offset ${blocksMax} limit 1)`,
        'b.blocked_at',
      )});`)}
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
