import { dollarQuote } from '../../db/sql.ts';
import { unlessTaken } from './unless-taken.ts';

/**
 * Messages of webhooks that were received, so that each is worked on once, whichever process it reaches. A message is *claimed* for the length of a lease, and
 * then *done*, or free again where its handler failed; a claim whose process has died is free when its lease has ended.
 *
 * A message is named by digests that the application makes with its secrets, one for each that is current, and is claimed by all of them or not at all: so it is
 * one message to a process that has only the former secret, and to one that has only the next.
 *
 * Threat model: the application's role may run any SQL. It can claim what it can name, so no message that is to come: for that it needs a secret, which is in
 * no database. It settles what it claimed: the token is told to nobody else. It can read no message of others, and make none of them unseen. What it makes up is bounded by the
 * size of the table, past which no message is taken: a message that could not be remembered might be taken twice.
 */
export const webhookLimits = {
  leaseSecondsMax: 3_600,
  keepSecondsMax: 604_800,
  digestBytes: 32,
  /** Of one message: as many as there are secrets. */
  digestsMax: 8,
  /** A table of more bytes takes a message in place of those past their time, or while it holds fewer rows. What was deleted still counts as bytes. */
  tableBytesMax: 268_435_456,
  rowsMax: 1_000_000,
  /** Messages past their time that one claim takes along. */
  purgedAtOnce: 100,
} as const;

/** What the application may call. */
export const webhookAppFunctions = ['claim_message(bytea[], integer, integer)', 'settle_message(bytea, uuid, boolean)'] as const;

/** Statements, each idempotent, in the order they need. */
export function webhooksSql(): string[] {
  const { leaseSecondsMax, keepSecondsMax, digestBytes, digestsMax, tableBytesMax, rowsMax, purgedAtOnce } = webhookLimits;
  return [
    `create table if not exists partywall.messages (
  digest bytea primary key check (octet_length(digest) = ${digestBytes}),
  token uuid,
  until timestamptz not null,
  keep_until timestamptz not null
)`,
    'create index if not exists messages_keep_until on partywall.messages (keep_until)',
    // A token: claimed, and free again after `until`. None: done.
    `create or replace function partywall.claim_message(digests bytea[], lease_seconds integer, keep_seconds integer) returns text language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as ${dollarQuote(`declare
  moment timestamptz := clock_timestamp();
  given uuid := gen_random_uuid();
  purged bigint := 0;
begin
  if (lease_seconds between 1 and ${leaseSecondsMax} and keep_seconds between 1 and ${keepSecondsMax} and cardinality(digests) between 1 and ${digestsMax}) is not true then
    raise exception 'claiming a message by % digests for % and % seconds', cardinality(digests), lease_seconds, keep_seconds using errcode = '22023';
  end if;
  ${unlessTaken(`delete from partywall.messages d where d.digest in (
      select m.digest from partywall.messages m where m.keep_until < moment order by m.keep_until limit ${purgedAtOnce} for update skip locked);
    get diagnostics purged = row_count;`)}
  -- Refusing undoes the purge, so whoever purged is not refused; and the table does not shrink, so what it holds is counted.
  if purged = 0 and pg_relation_size('partywall.messages') > ${tableBytesMax}
     and (select count(*) from (select from partywall.messages limit ${rowsMax}) m) >= ${rowsMax} then
    raise exception 'too many messages are remembered' using errcode = '53400';
  end if;
  -- In one order, so that two sessions that claim some of the same wait for each other one way.
  ${unlessTaken(`insert into partywall.messages as m (digest, token, until, keep_until)
      select d.digest, given, moment + make_interval(secs => lease_seconds), moment + make_interval(secs => keep_seconds)
      from (select distinct u.digest from unnest(digests) as u (digest) order by u.digest) d
      on conflict (digest) do update set token = excluded.token, until = excluded.until, keep_until = excluded.keep_until
        where m.keep_until < moment or (m.token is not null and m.until < moment);
    if (select bool_and(exists (select from partywall.messages m where m.digest = u.digest and m.token = given)) from unnest(digests) as u (digest)) then
      return given::text;
    end if;
    raise lock_not_available; -- undoes what was taken of it`)}
  return case when exists (select from partywall.messages m where m.digest = any (digests) and m.token is null and m.keep_until >= moment) then 'done' else 'busy' end;
end`)}`,
    `create or replace function partywall.settle_message(message bytea, given uuid, done boolean) returns boolean language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`begin
  if done then
    update partywall.messages m set token = null where m.digest = message and m.token = given;
  else
    delete from partywall.messages m where m.digest = message and m.token = given;
  end if;
  return found;
end`)}`,
  ];
}
