/** A schema with one of everything that has gone wrong somewhere, for the role `owner` beside the one that is connected. */
export function nastySchema(owner: string, reader: string): string {
  return `
create schema "Odd Schema";
create schema second;
create type second.mood as enum ('sad', 'it''s ok', 'happy');
create type second.address as (street text, "Post Code" text collate "C", moods second.mood[]);
create domain second.positive as integer default 1 not null constraint above_zero check (value > 0) check (value < 1000000);
create domain second.email as text collate "C" check (value ~ '@');
create type second.span as range (subtype = numeric, multirange_type_name = second.spans);
create collation second.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create sequence second.counter as smallint increment by -2 minvalue -100 maxvalue 10 start with 4 cache 5 cycle;
create unlogged table second.scratch (a int);

create function second.next_code() returns text language sql volatile as $$ select 'c' || nextval('second.counter') $$;
create function second.is_fine(a second.address) returns boolean language plpgsql immutable as $f$ begin return (a).street <> 'semi;colon'; end $f$;
create procedure second.noop(inout a int default 3) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin null; end $$;
create function second.add_up(state bigint, more int) returns bigint language sql immutable as $$ select state + more $$;
create aggregate second.total(int) (sfunc = second.add_up, stype = bigint, initcond = '0', parallel = safe);
create function second.same_mood(a second.mood, b text) returns boolean language sql immutable as $$ select a::text = b $$;
create operator second.=== (function = second.same_mood, leftarg = second.mood, rightarg = text);
create function second.to_mood(a int) returns second.mood language sql immutable as $$ select 'sad'::second.mood $$;
create cast (int as second.mood) with function second.to_mood(int) as assignment;
create text search dictionary second.simple_words (template = pg_catalog.simple, accept = false);
create text search configuration second.words (parser = "default");
alter text search configuration second.words add mapping for asciiword, word with second.simple_words, simple;

create table "Odd Schema"."Order ""Lines"".x" (
  "select" bigint generated always as identity (start with 7 increment by 3) primary key,
  "Näme; drop table x" text collate "C" not null default 'it''s; --',
  mood second.mood not null default 'happy',
  "where" second.address check (second.is_fine("where")),
  amount numeric(12, 3) default 0.000,
  doubled numeric generated always as (amount * 2) stored,
  code text default second.next_code(),
  tags text[] not null default '{}',
  level second.positive,
  during second.span,
  at timestamptz(3) not null default now(),
  bits bit varying(8),
  age interval day to second(2),
  ${'x'.repeat(63)} int,
  constraint "no overlap" exclude using gist (during with &&) deferrable initially deferred,
  constraint amount_key unique nulls not distinct (amount, code) include (at) with (fillfactor = 70)
) with (fillfactor = 80, autovacuum_enabled = false, toast.autovacuum_enabled = false);
alter table "Odd Schema"."Order ""Lines"".x" alter column tags set storage external, alter column tags set (n_distinct = 5), alter column code set statistics 300;
alter table "Odd Schema"."Order ""Lines"".x" add parent bigint references "Odd Schema"."Order ""Lines"".x" on delete set null on update cascade deferrable;
alter table "Odd Schema"."Order ""Lines"".x" drop column bits;
alter table "Odd Schema"."Order ""Lines"".x" add check (amount >= 0) not valid;
create index "odd;idx" on "Odd Schema"."Order ""Lines"".x" using btree (lower("Näme; drop table x") text_pattern_ops desc nulls last) where amount > 1;
create index on "Odd Schema"."Order ""Lines"".x" using gin (tags) with (fastupdate = off);
create unique index chosen on "Odd Schema"."Order ""Lines"".x" (at);
alter table "Odd Schema"."Order ""Lines"".x" replica identity using index chosen;
alter table "Odd Schema"."Order ""Lines"".x" cluster on chosen;
create statistics second.together (dependencies, ndistinct) on mood, amount from "Odd Schema"."Order ""Lines"".x";
alter statistics second.together set statistics 50;

create table empty_table ();
create table serials (id serial primary key, big bigserial, note text);
create table cyc_a (id int primary key, b int);
create table cyc_b (id int primary key, a int references cyc_a, foreign key (a) references cyc_a (id) match full on delete restrict);
alter table cyc_a add foreign key (b) references cyc_b (id) on delete set null (b) not valid;

create table base (id int not null, kind text default 'base', seen boolean constraint seen_ok check (seen is not false), check (id > 0) no inherit);
create table derived (extra int, constraint seen_ok check (seen is not false)) inherits (base);
alter table derived alter column kind set default 'derived', alter column seen set not null;
create table mixin (tag text);
create table twice (id int not null, own text) inherits (base, mixin);

create table events (tenant uuid not null, at date not null, body text default 'x', id bigint generated by default as identity, primary key (tenant, at, id), check (body <> 'bad')) partition by range (at);
create table events_old partition of events for values from (minvalue) to ('2020-01-01');
create table events_new (id bigint not null, body text, at date not null, tenant uuid not null, constraint events_body_check check (body <> 'bad'));
alter table events attach partition events_new for values from ('2020-01-01') to ('2030-01-01');
create table events_rest partition of events default partition by list (tenant);
create table events_rest_all partition of events_rest default;
create index events_body on events (body);
create index only_new on events_new (tenant);
alter table events_old alter column body set default 'old';
create table hashed (id int) partition by hash (id);
create table hashed_0 partition of hashed for values with (modulus 2, remainder 0);
create table hashed_1 partition of hashed for values with (modulus 2, remainder 1);
create table refers (tenant uuid, at date, event bigint, foreign key (tenant, at, event) references events (tenant, at, id) on delete cascade);

create view second.open_lines with (security_invoker = true, security_barrier = true) as
  select o."select" as id, o.mood, row_number() over (order by o.at) as nr from "Odd Schema"."Order ""Lines"".x" o where o.amount > 0;
create view second.over_view as select l.id, l.mood from second.open_lines l where exists (select from serials);
create view updatable as select id, note from serials where id > 3 with local check option;
alter view updatable alter column note set default 'from the view';
create view grouped as select s.id, s.note, count(*) as n from serials s left join base b on b.id = s.id group by s.id;
create materialized view second.summary as select mood, count(*) as n from second.over_view group by mood;
create unique index on second.summary (mood);
create materialized view second.upon as select * from second.summary with no data;
create view circular as select 1 as id, 'a'::text as note;
create function takes_view(v circular) returns text language sql stable as $$ select v.note $$;
create or replace view circular as select c.id, c.note from (select id, note from serials) c;
create function takes_row(s serials) returns text language sql stable return s.note || 'x';
create function from_row() returns setof grouped language sql stable begin atomic select * from grouped; end;
create view computed as select takes_row(s) as t from serials s;
create view knotted as select 1 as one;
create function of_knotted(k knotted) returns int language sql immutable return k.one;
create or replace view knotted as select of_knotted(row (2)::knotted) as one;

create rule redirect as on insert to twice where new.id > 100 do also insert into mixin values (new.own);
create rule ignored as on delete to twice do instead nothing;
alter table twice disable rule ignored;
create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger touched before update of note on serials for each row when (old.note is distinct from new.note) execute function touch('arg', 'it''s');
create trigger after_all after insert on serials referencing new table as added for each statement execute function touch();
create trigger on_view instead of insert on updatable for each row execute function touch();
create constraint trigger late after insert on cyc_a from cyc_b deferrable initially deferred for each row execute function touch();
create trigger on_events before insert on events for each row execute function touch();
alter table serials disable trigger touched;
alter table cyc_a enable always trigger late;
alter table only events_old disable trigger on_events;

alter table serials enable row level security;
alter table cyc_a enable row level security;
alter table cyc_a force row level security;
create policy own on serials as permissive for select to ${reader} using (note = current_user);
create policy "Odd policy; --" on serials as restrictive for all to public using (id > 0) with check (note <> '');
create policy ins on cyc_a for insert with check (exists (select from cyc_b));

alter table serials owner to ${owner};
alter schema second owner to ${owner};
alter view updatable owner to ${owner};
alter function touch() owner to ${owner};
alter type second.mood owner to ${owner};
grant usage on schema second to ${reader};
grant select, insert on serials to ${reader} with grant option;
set role ${reader};
grant select on serials to public;
reset role;
grant select (a), update (a) on second.scratch to ${reader};
grant usage on sequence second.counter to ${reader};
grant usage on serials_big_seq to ${reader};
revoke execute on function touch() from public;
grant execute on function touch() to ${reader};
revoke usage on type second.mood from public;
revoke all on empty_table from current_user;
alter default privileges for role ${owner} in schema second grant select on tables to ${reader};
alter default privileges for role ${owner} revoke execute on functions from public;
alter default privileges grant usage on sequences to ${reader};

comment on schema second is 'it''s the second';
comment on table serials is E'two\\nlines';
comment on column serials.note is 'a note';
comment on constraint cyc_a_pkey on cyc_a is 'a key';
comment on constraint above_zero on domain second.positive is 'positive';
comment on index "Odd Schema"."odd;idx" is 'odd';
comment on function second.is_fine(second.address) is 'fine';
comment on procedure second.noop(int) is 'nothing';
comment on aggregate second.total(int) is 'total';
comment on type second.address is 'address';
comment on column second.address.street is 'street';
comment on domain second.email is 'mail';
comment on view computed is 'computed';
comment on column computed.t is 't';
comment on materialized view second.summary is 'summary';
comment on trigger touched on serials is 'touched';
comment on policy own on serials is 'own';
comment on rule redirect on twice is 'redirect';
comment on sequence second.counter is 'counter';
comment on statistics second.together is 'together';
comment on collation second.nocase is 'case';
comment on cast (int as second.mood) is 'cast';
comment on operator second.=== (second.mood, text) is 'same';
create publication chosen_rows for table serials (id, note) where (id > 3), table only base with (publish = 'insert, update');
create publication by_schema for tables in schema second with (publish_via_partition_root = true);
create function watched() returns event_trigger language plpgsql as $$ begin null; end $$;
create event trigger watch on ddl_command_end when tag in ('DROP TABLE', 'ALTER TABLE') execute function watched();
alter event trigger watch disable;
`;
}
