import { tenant } from '../walled-database.ts';

/**
 * SQL that an attacker inside tenant `from` sends to read a row of tenant `to`: one statement or string of statements each, as `pool.query` takes it. Some
 * read at once; the others leave something for the next request of the victim, and `loot` looks for what it caught.
 */
export function hostileStatements(from: number, to: number, app: string): readonly string[] {
  const victim = tenant(to);
  const context = victim.replaceAll('-', '');
  const own = tenant(from);
  const set = `set_config('backtrace_functions', '${context}', true)`;
  const trap = `begin perform set_config('backtrace_functions', '${context}', true); return query select * from public.items; end`;
  const caught = `insert into loot select to_jsonb(i)::text from public.items i`;
  return [
    // Setting the context.
    `select ${set}, (select json_agg(i) from items i)`,
    `with s as materialized (select ${set} as c) select i.* from s, items i where s.c is not null`,
    `set local backtrace_functions = '${context}'; select * from items`,
    `set backtrace_functions = '${context}'`,
    `select set_config('partywall.' || 'tenant_id', '${victim}', true), json_agg(i) from items i`,
    `update pg_settings set setting = '${context}' where name = 'backtrace_functions'`,
    `alter role ${app} set backtrace_functions = '${context}'`,
    `do $$ begin execute format('alter database %I set backtrace_functions = ''${context}''', current_database()); end $$`,
    `do $$ declare r text; begin perform ${set}; select string_agg(body, ',') into r from items; raise exception '%', r; end $$`,
    `do $$ begin execute 'set session authorization postgres'; end $$`,
    `do $$ begin execute 'set ro' || 'le postgres'; end $$`,
    `create function pg_temp.peek() returns setof public.items language plpgsql as '${trap.replaceAll("'", "''")}'`,
    `create function pg_temp.peek() returns setof public.items language sql set backtrace_functions = '${context}' as 'select * from public.items'`,
    `select partywall.set_context('${context}'), json_agg(i) from items i`,
    `select partywall.stand_in('${context}', extract(epoch from now())::bigint + 30, sha256('')), json_agg(i) from items i`,
    `select * from partywall.make_stand_in('${context}', pg_backend_pid())`,
    // Entering.
    `select partywall.enter('${victim}'); select * from items`,
    `select partywall.enter_since('${victim}', null), json_agg(i) from items i`,
    `select partywall.enter_unit('${victim}', null, null), json_agg(i) from items i`,
    `select partywall.enter_sealed('${victim}', null, null, 1, extract(epoch from now())::bigint + 30, sha256('')), json_agg(i) from items i`,
    `select * from partywall.make_seal('${victim}')`,
    `select * from partywall.seal_keys`,
    `do $$ begin execute 'reset all'; perform partywall.enter('${victim}'); exception when others then perform partywall.enter_since('${victim}', 0); end $$`,
    `do $$ begin commit; perform partywall.enter('${victim}'); end $$`,
    `reset all; select partywall.enter('${victim}'); select * from items`,
    `commit; begin; select partywall.enter('${victim}'); select * from items`,
    `select query_to_xml('select partywall.enter(''${victim}''), ${set.replaceAll("'", "''")}, (select json_agg(i) from items i)', true, false, '')`,
    `declare c cursor for select i.* from items i where ${set} is not null; fetch all from c`,
    `explain (analyze, verbose) select * from items where tenant_id = '${victim}'`,
    // Catching codes and rows of others.
    `select query from pg_stat_activity`,
    `select statement, parameter_types::text from pg_prepared_statements`,
    `select most_common_vals::text, histogram_bounds::text from pg_stats where tablename = 'items'`,
    `select pg_read_file('postgresql.conf')`,
    `copy (select * from items where tenant_id = '${victim}' or ${set} is not null) to stdout`,
    // Left behind for the victim's next request.
    `do $$ begin execute 'create te' || 'mp table loot (row text)'; execute 'create temp view items as select i.* from public.items i, (${caught} returning 1) l'; end $$`,
    `do $$ begin execute 'create te' || 'mp table loot (row text)';
      execute 'create function pg_temp.take() returns boolean language plpgsql as ''begin ${caught}; return true; end''';
      execute 'create te' || 'mp view items as select i.* from public.items i where pg_temp.take()'; end $$`,
    `do $$ begin execute 'create te' || 'mp table loot (row text)'; execute 'deallo' || 'cate partywall_enter_sealed';
      execute 'prep' || 'are partywall_enter_sealed (text, text, bigint, int, bigint, bytea) as with k as (insert into loot values ($1 || $5 || $6::text)) select partywall.enter_sealed($1, $2, $3, $4, $5, $6)'; end $$`,
    `do $$ begin perform set_config('search_path', 'pg_temp, public', false); execute 'create te' || 'mp table items as select * from public.items limit 0'; end $$`,
    'set local search_path = pg_temp; create view items as select * from public.items',
    'explain analyze create table pg_temp.loot as select * from items',
    `select set_config('search_path', $q$pg_temp, public$q$, false)`,
    `prepare peek as select * from items`,
    `declare kept cursor with hold for select * from items`,
    `select pg_advisory_lock(hashtextextended('partywall:${own}', 0))`,
  ];
}

/** What may have caught a victim's rows; most of it is not there. */
export const loot: readonly string[] = [
  'select * from pg_temp.loot',
  'select * from pg_temp.items',
  'select * from pg_temp.peek()',
  'execute peek',
  'fetch all from kept',
  'select * from items',
];
