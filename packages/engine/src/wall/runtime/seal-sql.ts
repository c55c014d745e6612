import { dollarQuote } from '../../db/sql.ts';
import { type ContextForm, setContext } from '../context-sql.ts';

/**
 * Keys that seals are made with, and what the owner of schema `partywall` makes with a key of the database's own (number 0, which nobody else
 * has): seals for sessions of the application's role that Partywall opens itself, and stand-ins for `verify`.
 *
 * A key is kept as the two blocks that HMAC-SHA256 (RFC 2104) makes of it, so that `sha256(opad || sha256(ipad || message))` is the code.
 * Nobody but the owner reads the table: whoever has a key can enter every tenant.
 */
export function sealSql(form: ContextForm, refused: string): string[] {
  return [
    `create table if not exists partywall.seal_keys (
  id integer primary key,
  ipad bytea not null check (length(ipad) = 64),
  opad bytea not null check (length(opad) = 64),
  created_at timestamptz not null default now(),
  retired_at timestamptz
)`,
    makeOwnKey,
    makeSealSql(),
    makeStandInSql(),
    standInSql(form, refused),
  ];
}

/** How far ahead the end of a seal may be, in seconds: what a clock that is wrong, or a seal that got out, can gain. */
export const sealSecondsMax = 600;
/** How long the database's own seals last, in seconds. */
const ownSealSeconds = 60;

/**
 * The bytes that a seal is the code of, a line each: what it is, its end, the unit with its length before it or nothing, and the tenant, which may
 * hold line ends itself. Converted at once: each conversion costs 0.8 µs.
 */
export function sealMessage({ tenant, unit, expires }: { readonly tenant: string; readonly unit: string; readonly expires: string }): string {
  const and = ' operator(pg_catalog.||) ';
  const unitLine = `coalesce(${[`pg_catalog.length(${unit})::pg_catalog.text`, "':'", unit].join(and)}, ''::pg_catalog.text)`;
  return `pg_catalog.convert_to(${["'partywall seal v1\n'", `${expires}::pg_catalog.text`, "'\n'", unitLine, "'\n'", tenant].join(and)}, 'UTF8')`;
}

export function hmac(ipad: string, opad: string, message: string): string {
  return `pg_catalog.sha256(${opad} operator(pg_catalog.||) pg_catalog.sha256(${ipad} operator(pg_catalog.||) ${message}))`;
}

/**
 * Part of a function with the parameters tenant, unit, key, expires and mac: raises where the seal is not good. What `=` of two byteas takes tells
 * nothing that could be measured: it compares 32 bytes in a few nanoseconds, and the way to it takes microseconds.
 */
export function refuseBadSeal(state: string): string {
  const message = sealMessage({ tenant: 'tenant', unit: 'unit', expires: 'expires' });
  const expected = hmac('ipad', 'opad', message);
  const refuse = (text: string, more = ''): string => `raise exception '${text}' using errcode = '${state}'${more};`;
  return `  select k.ipad, k.opad into ipad, opad from partywall.seal_keys k where k.id operator(pg_catalog.=) key and k.retired_at is null;
  if not found then
    ${refuse('the seal names a key that is unknown or retired')}
  end if;
  if (mac operator(pg_catalog.=) ${expected}) is not true then
    ${refuse('the seal does not fit the tenant and the key')}
  end if;
  lasts := expires::pg_catalog.float8 operator(pg_catalog.-) pg_catalog.date_part('epoch', pg_catalog.clock_timestamp());
  if lasts operator(pg_catalog.<=) 0::pg_catalog.float8 then
    ${refuse('the seal has expired', ", hint = 'compare the clocks of the application and the database'")}
  end if;
  if lasts operator(pg_catalog.>) ${sealSecondsMax}::pg_catalog.float8 then
    ${refuse(`the seal lasts longer than ${sealSecondsMax} seconds`, ", hint = 'compare the clocks of the application and the database'")}
  end if;
`;
}

/** 64 bytes; a uuid has 122 random bits. */
const randomBlock = `sha512(${Array.from({ length: 4 }, () => 'uuid_send(gen_random_uuid())').join(' || ')})`;

/** Makes the database's own key where it has none: it is no part of a backup. */
export const makeOwnKey = `insert into partywall.seal_keys (id, ipad, opad) values (0, ${randomBlock}, ${randomBlock}) on conflict do nothing`;

/** Part of a function with the variable `own`. A key that is there is read in read-only transactions too. */
const takeOwnKey = `  if not exists (select from partywall.seal_keys k where k.id = 0) then
    ${makeOwnKey};
  end if;
  select k.* into strict own from partywall.seal_keys k where k.id = 0;
  expires := floor(extract(epoch from clock_timestamp()))::bigint + ${ownSealSeconds};
`;

/** A seal by the database's own key. Closed to the application. */
function makeSealSql(): string {
  return `create or replace function partywall.make_seal(tenant text, unit text default null) returns table (key integer, expires bigint, mac bytea) language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`#variable_conflict use_variable
declare
  own partywall.seal_keys%rowtype;
begin
${takeOwnKey}  key := own.id;
  mac := ${hmac('own.ipad', 'own.opad', sealMessage({ tenant: 'tenant', unit: 'unit', expires: 'expires' }))};
  return next;
end`)}`;
}

const standInMessage = [
  "pg_catalog.convert_to('partywall stand-in v1', 'UTF8')",
  "pg_catalog.convert_to(process::pg_catalog.text, 'UTF8')",
  "pg_catalog.convert_to(expires::pg_catalog.text, 'UTF8')",
  "pg_catalog.convert_to(context, 'UTF8')",
].join(" operator(pg_catalog.||) '\\x00'::pg_catalog.bytea operator(pg_catalog.||) ");

/**
 * What lets one server process take on a context, any context, without entering it: `verify` attacks as a tenant that the registry does not
 * know, and as a second tenant in the transaction that planted the first one's rows. Closed to the application.
 */
function makeStandInSql(): string {
  return `create or replace function partywall.make_stand_in(context text, process integer) returns table (expires bigint, mac bytea) language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`#variable_conflict use_variable
declare
  own partywall.seal_keys%rowtype;
begin
${takeOwnKey}  mac := ${hmac('own.ipad', 'own.opad', standInMessage)};
  return next;
end`)}`;
}

function standInSql(form: ContextForm, state: string): string {
  return `create or replace function partywall.stand_in(context text, expires bigint, mac bytea) returns void language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(`declare
  own partywall.seal_keys%rowtype;
  process integer := pg_backend_pid();
begin
  select k.* into own from partywall.seal_keys k where k.id = 0;
  if (sha256(mac) = sha256(${hmac('own.ipad', 'own.opad', standInMessage)})) is not true
     or (expires between extract(epoch from clock_timestamp()) and extract(epoch from clock_timestamp()) + ${ownSealSeconds}) is not true then
    raise exception 'this is no stand-in' using errcode = '${state}';
  end if;
  perform ${setContext(form, 'context')};
end`)}`;
}
