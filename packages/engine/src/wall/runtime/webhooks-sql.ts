import { dollarQuote } from '../../db/sql.ts';

/**
 * Messages of webhooks that were received, so that each is worked on once, whichever process it reaches. A message is *claimed* for the length of a lease, and
 * then *done*, or free again where its handler failed; a claim whose process has died is free when its lease has ended.
 *
 * Threat model: the application's role may run any SQL. It can claim what it can name (the hash of a sender and an id), and settle what it claimed: the
 * token is told to nobody else. It can read no message of others, and make none of them unseen. What it makes up is bounded by the size of the table, past
 * which no message is taken: a message that could not be remembered might be taken twice.
 */
export const webhookLimits = {
  leaseSecondsMax: 3_600,
  keepSecondsMax: 604_800,
  digestBytes: 32,
  /** A table of more bytes takes a message in place of those past their time, or while it holds fewer rows. What was deleted still counts as bytes. */
  tableBytesMax: 268_435_456,
  rowsMax: 1_000_000,
  /** Messages past their time that one claim takes along. */
  purgedAtOnce: 100,
} as const;

/** What the application may call. */
export const webhookAppFunctions = ['claim_message(bytea, integer, integer)', 'settle_message(bytea, uuid, boolean)'] as const;

/** Statements, each idempotent, in the order they need. */
export function webhooksSql(): string[] {
  const { leaseSecondsMax, keepSecondsMax, digestBytes, tableBytesMax, rowsMax, purgedAtOnce } = webhookLimits;
  return [
    `create table if not exists partywall.messages (
  digest bytea primary key check (octet_length(digest) = ${digestBytes}),
  token uuid,
  until timestamptz not null,
  keep_until timestamptz not null
)`,
    'create index if not exists messages_keep_until on partywall.messages (keep_until)',
    // A token: claimed, and free again after `until`. None: done.
    `create or replace function partywall.claim_message(message bytea, lease_seconds integer, keep_seconds integer) returns text language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as ${dollarQuote(`declare
  moment timestamptz := clock_timestamp();
  given uuid := gen_random_uuid();
  purged bigint;
begin
  if lease_seconds is null or keep_seconds is null or lease_seconds not between 1 and ${leaseSecondsMax} or keep_seconds not between 1 and ${keepSecondsMax} then
    raise exception 'claiming a message for % and % seconds', lease_seconds, keep_seconds using errcode = '22023';
  end if;
  delete from partywall.messages d where d.digest in (
    select m.digest from partywall.messages m where m.keep_until < moment order by m.keep_until limit ${purgedAtOnce} for update skip locked);
  get diagnostics purged = row_count;
  -- Refusing undoes the purge, so whoever purged is not refused; and the table does not shrink, so what it holds is counted.
  if purged = 0 and pg_relation_size('partywall.messages') > ${tableBytesMax}
     and (select count(*) from (select from partywall.messages limit ${rowsMax}) m) >= ${rowsMax} then
    raise exception 'too many messages are remembered' using errcode = '53400';
  end if;
  insert into partywall.messages as m (digest, token, until, keep_until)
    values (message, given, moment + make_interval(secs => lease_seconds), moment + make_interval(secs => keep_seconds))
    on conflict (digest) do update set token = excluded.token, until = excluded.until, keep_until = excluded.keep_until
      where m.keep_until < moment or (m.token is not null and m.until < moment);
  if found then
    return given::text;
  end if;
  return (select case when m.token is null then 'done' else 'busy' end from partywall.messages m where m.digest = message);
exception when lock_not_available then
  return 'busy'; -- another session is claiming it
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
