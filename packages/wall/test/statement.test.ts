import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splitStatements } from '../src/lexer.ts';
import { classify } from '../src/statement.ts';

function count(text: string): number {
  return splitStatements(text).length;
}

describe('telling statements apart', () => {
  test.each([
    ['', 0],
    ['  \n\t', 0],
    [';;;', 0],
    ['-- only a comment', 0],
    ['/* a /* nested */ one; */', 0],
    ['select 1', 1],
    ['select 1;', 1],
    ['select 1; -- the end', 1],
    ['select 1; select 2', 2],
    ['/* ; */ select 1 /* ; */; select 2', 2],
    ['select 1 -- ; not here\n; select 2', 2],
    ["select ';'", 1],
    ["select 'it''s; one'", 1],
    [String.raw`select '\'; select 2`, 2],
    [String.raw`select E'\'; select 2'`, 1],
    [String.raw`select e'\\'; select 2`, 2],
    ["select E'a'\n'b\\'; still one'", 1],
    ["select E'a' -- comment\n 'b\\'; still one'", 1],
    ["select E'a' 'b\\'; select 2", 2],
    ['select ";" from t', 1],
    ['select "a"";" from t', 1],
    ["select U&'d\\0061t;a'", 1],
    ['select U&"a;b" from t', 1],
    ['select $$ ; $$', 1],
    ['select $tag$ ; $$ ; $other$ ; $tag$; select 2', 2],
    ['select a$b$; select 2, c$b$', 2],
    ['select $1; select $2', 2],
    ['select $1::text || $$;$$', 1],
    ['select a$$;', 1],
    ['create rule r as on insert to t do also (insert into a values (1); insert into b values (2))', 1],
    ['create function f() returns int begin atomic select 1; select case when true then 1 end; end; select 2', 2],
    ['create or replace procedure p() begin atomic insert into t values (1); end', 1],
    ['create function f() returns int language sql as $$ select 1; select 2 $$', 1],
    ['create function f() returns int begin atomic select 1 as end; select 2; end; select 3', 2],
    ["select 'open; string", 1],
    ['select /* open; comment', 1],
    ['select $$ open; quote', 1],
    ['select\u00a0; select 2', 2],
  ])('%j has %i statements', (text, expected) => {
    expect(count(text)).toBe(expected);
  });

  test('quoting anything in any way never changes the number of statements', () => {
    const anything = fc.string({ unit: fc.constantFrom(...`;'"$\\-/*\n eE&uU(){}tag$$`) });
    fc.assert(
      fc.property(anything, (content) => {
        const single = `'${content.replaceAll("'", "''")}'`;
        const escaped = `E'${content.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
        const name = `"${content.replaceAll('"', '""')}"`;
        const comment = `/* ${content.replaceAll('/*', '').replaceAll('*/', '').replaceAll(/[*/]/g, '')} */`;
        const dollars = content.includes('$q$') || content.endsWith('$q') ? 'null' : `$q$${content}$q$`;
        const text = `select ${single}, ${escaped}, ${comment} ${dollars} as ${name}; select 2`;
        expect(count(text)).toBe(2);
      }),
      { numRuns: 2_000 },
    );
  });

  test('reads any text to its end', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(count(text)).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  test('reads a long text in linear time', () => {
    const text = `insert into t values ${Array.from({ length: 20_000 }, (_, n) => `(${n}, 'value ''${n}''')`).join(', ')}`;
    const started = performance.now();
    expect(count(text)).toBe(1);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe('what a statement is', () => {
  test.each([
    ['', 'empty'],
    ['select 1', 'data'],
    ['  /* hint */ SELECT 1', 'data'],
    ['with x as (select 1) select * from x', 'data'],
    ['values (1)', 'data'],
    ['table t', 'data'],
    ['explain analyze select 1', 'data'],
    ['call p()', 'data'],
    ['do $$ begin end $$', 'data'],
    ['BEGIN', 'begin'],
    ['begin isolation level serializable', 'begin'],
    ['START TRANSACTION READ ONLY', 'begin'],
    ['commit', 'commit'],
    ['commit\u00a0', 'data'],
    ['END', 'commit'],
    ['commit and chain', 'commit'],
    ['rollback', 'rollback'],
    ['ABORT', 'rollback'],
    ['rollback work', 'rollback'],
    ['rollback to a', 'rollback_to'],
    ['ROLLBACK TO SAVEPOINT a', 'rollback_to'],
    ['rollback work to a', 'rollback_to'],
    ['rollback transaction to savepoint a', 'rollback_to'],
    ["commit prepared 'x'", 'alone'],
    ['savepoint a', 'plain'],
    ['release a', 'plain'],
    ['set transaction isolation level repeatable read', 'plain'],
    ['SET LOCAL statement_timeout = 1000', 'plain'],
    ['show search_path', 'plain'],
    ['copy t to stdout', 'copy'],
    ['vacuum t', 'alone'],
    ['create index concurrently on t (a)', 'alone'],
    ['create unique index concurrently i on t (a)', 'alone'],
    ['drop index concurrently i', 'alone'],
    ['reindex table t', 'alone'],
    ['create database d', 'alone'],
    ['alter system set work_mem = 1', 'alone'],
    ['create index on t (a)', 'data'],
    ['refresh materialized view concurrently m', 'data'],
  ] as const)('%j is %s', (text, kind) => {
    expect(classify(text)).toMatchObject({ kind, refusal: null, many: false });
  });

  test('commit and chain is told from commit and no chain', () => {
    expect(classify('commit and chain').chain).toBe(true);
    expect(classify('rollback work and chain').chain).toBe(true);
    expect(classify('commit and no chain').chain).toBe(false);
  });

  test.each([
    'listen changes',
    'UNLISTEN *',
    "set partywall.tenant_id = 'x'",
    "set local partywall.tenant_id to 'x'",
    'SET SESSION "partywall"."tenant_id" = \'x\'',
    'reset partywall.tenant_id',
    'reset all',
    'discard all',
    'deallocate all',
    'deallocate prepare all',
    'set role other',
    'set local role other',
    'reset role',
    'set session authorization other',
    'set session session authorization other',
    'reset session authorization',
    "select set_config('role', 'other', true)",
    "select set_config('partywall.tenant_id', $1, true)",
    "select pg_catalog.set_config(E'partywall\\x2etenant_id', $1, true)",
    'set standard_conforming_strings = off',
    "prepare transaction 'x'",
    'declare c cursor with hold for select 1',
    'declare c scroll cursor with hold for select 1',
    'begin; select 1',
    'select 1; commit',
    'commit; begin',
    'select 1; rollback to a; select 2',
    'set transaction isolation level serializable; select 1',
    'select 1; listen x',
  ])('%j is refused with a reason', (text) => {
    expect(classify(text).refusal).toMatch(/\w{3}/);
  });

  test.each([
    'declare c cursor without hold for select 1',
    "declare c cursor for select 'with hold'",
    'select a.role from a',
    "select set_config('app.user', 'x', true)",
    'savepoint a; insert into t values (1); release a',
    'set constraints all deferred',
    'select listen, "set", discard from t',
    "insert into logs values ('set role admin; begin; commit')",
  ])('%j is not refused', (text) => {
    expect(classify(text).refusal).toBeNull();
  });

  test.each([
    'set search_path = a',
    'set session work_mem = 1',
    "set time zone 'UTC'",
    'set session characteristics as transaction read only',
    'reset work_mem',
    'prepare p as select 1',
    'create temp table x (a int)',
    'create temporary view x as select 1',
    'create local temporary table x (a int)',
    'create or replace temp view x as select 1',
    'create unlogged table pg_temp.x (a int)',
    'select 1 as a into temp x',
    'select 1 as a into x',
    'with a as (select 1) select * into x from a',
    'create table t (temporary boolean)',
    'create view x as select 1',
    'explain analyze create table x as select 1',
    "do $$ begin execute 'dis' || 'card temp'; end $$",
    "select set_config('app.user', 'x', false)",
    "select set_config('app.user', 'x', $1)",
    "select set_config('app.user', f('a', true), false)",
    'select pg_advisory_lock(1)',
    'select pg_catalog.pg_try_advisory_lock_shared(1, 2)',
    "select dblink_connect('x', 'y')",
    "select query_to_xml('select pg_advisory_lock(1)', true, false, '')",
    "select pg_catalog.query_to_xml_and_xmlschema($1, true, false, '')",
    "select * from ts_stat('select pg_advisory_lock(1)::text::tsvector')",
    'select U&"pg_adv\\0069sory_lock"(1)',
    `select u&"set!005fconfig" uescape '!' ('app.user', 'x', false)`,
    "load 'auto_explain'",
    "do $$ begin perform set_config('app.user', 'x', false); end $$",
    'select 1; set search_path = a',
  ])('%j leaves something in the session', (text) => {
    expect(classify(text).leftover).toMatch(/\w/);
  });

  test.each([
    'set local search_path = a',
    'set transaction read only',
    'select temp, temporary from t',
    'insert into temp values (1)',
    'create temp table x (a int) on commit drop',
    "select set_config('app.user', 'x', true)",
    "select set_config('app.user', lower('X'), true)",
    'select pg_advisory_xact_lock(1)',
    "select 'pg_advisory_lock(1)'",
    'with a as (insert into t values (1) returning 1) select * from a',
    'merge into t using s on t.id = s.id when matched then delete',
  ])('%j leaves nothing in the session', (text) => {
    expect(classify(text).leftover).toBeNull();
  });
});
