import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseSchema, runSchema, schemaDdl, schemaFingerprint, schemaFor, schemaText, startEmbedded, tableName, writeSchema } from '@partywall/engine';
import { afterAll, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase, suffix, type TestDatabase } from '../../../../../test/support/database.ts';
import { nastySchema } from './nasty.ts';
import { randomSchema } from './random.ts';
import { dumped, plainCatalog, type Recreated, recreated, withClient } from './recreated.ts';

const hasDump = existsSync('/usr/lib/postgresql/15/bin/pg_dump');

async function expectSame({ source, target, schema, again }: Recreated): Promise<void> {
  expect(await plainCatalog(target.url)).toEqual(await plainCatalog(source.url));
  expect(again.items.map(({ id }) => id)).toEqual(schema.items.map(({ id }) => id));
  expect(again).toEqual(schema);
}

async function nastyDatabase(): Promise<TestDatabase> {
  const source = await createDatabase();
  const owner = `owner_${suffix()}`;
  const reader = `reader_${suffix()}`;
  await source.query(`create role ${owner}; create role ${reader}`);
  await source.query(nastySchema(owner, reader));
  await source.query(`do $$ begin execute format('alter database %I set search_path to "$user", second, public', current_database()); end $$`);
  afterAll(async () => {
    for (const role of [reader, owner]) await source.query(`drop owned by ${role} cascade`);
    await source.query(`drop role ${owner}, ${reader}`);
  });
  return source;
}

describe('a schema made anew from its statements', () => {
  test('is the same for one of everything that has gone wrong somewhere', async () => {
    const both = await recreated(await nastyDatabase());
    await expectSame(both);
    expect(both.schema.unsupported).toEqual([]);
    expect(parseSchema(writeSchema(both.schema))).toEqual(both.schema);
    expect(schemaFingerprint(both.again)).toBe(schemaFingerprint(both.schema));
  });

  test('is the same for the wall and its control plane', async () => {
    await expectSame(await recreated((await controlDatabase()).database));
  });

  test('is the same for the CRM', async () => {
    const source = await createDatabase();
    await source.query(await readFile(new URL('../../../../../examples/crm/schema.sql', import.meta.url), 'utf8'));
    await expectSame(await recreated(source));
  });

  const first = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
  test.for([first, first + 1, first + 2, first + 3])('is the same for generated schema %i', async (seed) => {
    const source = await createDatabase();
    await source.query(randomSchema(seed));
    await expectSame(await recreated(source));
  });

  test('is the same without the schema that every database begins with', async () => {
    const source = await createDatabase();
    await source.query('drop schema public; create schema app; create table app.t (a int)');
    await expectSame(await recreated(source));
  });
});

describe.runIf(hasDump || process.env['PARTYWALL_NO_SKIPS'] === '1')('beside pg_dump of PostgreSQL 15', () => {
  test('a schema made anew dumps the same, statement by statement', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'partywall-dump-'));
    const server = await startEmbedded({ dataDir: path.join(folder, 'data'), major: 15, auth: 'trust', settings: { fsync: 'off' } });
    try {
      await withClient(server.url, async (client) => {
        await client.query('create role owner_of; create role reader_of');
        for (const [at, sql] of [nastySchema('owner_of', 'reader_of'), randomSchema(15), randomSchema(16)].entries()) {
          await client.query(`create database s${at}`);
          await client.query(`create database t${at}`);
          const schema = await withClient(server.urlFor(`s${at}`), async (source) => {
            await source.query(`set search_path = public; ${sql}`);
            return schemaDdl(source);
          });
          await withClient(server.urlFor(`t${at}`), async (target) => {
            for (const phase of ['before', 'after'] as const) await runSchema(target, schema, phase);
          });
          expect(await dumped(server.urlFor(`t${at}`))).toEqual(await dumped(server.urlFor(`s${at}`)));
        }
      });
    } finally {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('reading a schema', () => {
  test('names what no statement is made for', async () => {
    const source = await createDatabase();
    await source.query(`create foreign data wrapper far; create server away foreign data wrapper far; create foreign table distant (a int) server away;
create operator class odd_ops for type int using btree as operator 1 <, function 1 btint4cmp(int, int);
create table t (a int); insert into t values (1), (1)`);
    await source.query('create unique index concurrently broken on t (a)').catch(() => undefined);
    const { unsupported } = await withClient(source.url, schemaDdl);
    expect(unsupported).toEqual([
      'index public.broken is invalid, and is not made',
      'foreign table public.distant is not made',
      'foreign-data wrapper far is not made',
      'operator class public.odd_ops USING btree is not made',
      'operator family public.odd_ops USING btree is not made',
      'server away is not made',
    ]);
  });

  test('leaves the settings of the session and its transaction as they were', async () => {
    const source = await createDatabase();
    await withClient(source.url, async (client) => {
      await client.query("set search_path = pg_catalog, public; set DateStyle = 'German'; begin isolation level repeatable read");
      await schemaDdl(client);
      const { rows } = await client.query("select current_setting('search_path') as path, current_setting('DateStyle') as style");
      expect(rows).toEqual([{ path: 'pg_catalog, public', style: 'German, DMY' }]);
      await client.query('commit');
    });
  });

  test('gives another fingerprint for any other default, right or body', async () => {
    const source = await createDatabase();
    await source.query('create table t (a int default 1); create function f() returns int language sql as $$ select 1 $$');
    const fingerprint = async (): Promise<string> => schemaFingerprint(await withClient(source.url, schemaDdl));
    const prints = [await fingerprint()];
    for (const change of [
      'alter table t alter column a set default 2',
      'revoke execute on function f() from public',
      'create or replace function f() returns int language sql as $$ select 2 $$',
      'alter table t force row level security',
      "comment on table t is 'x'",
    ]) {
      await source.query(change);
      prints.push(await fingerprint());
    }
    expect(new Set(prints).size).toBe(prints.length);
    await source.query('insert into t values (3); analyze t');
    expect(await fingerprint()).toBe(prints.at(-1));
  });

  test('refuses what is no schema', () => {
    expect(() => parseSchema('create table t ()')).toThrow(expect.objectContaining({ code: 'archive_foreign' }));
    expect(() => parseSchema('{"format":"partywall.schema/2"}')).toThrow(expect.objectContaining({ code: 'archive_foreign' }));
  });
});

describe('making a schema', () => {
  test('finds what a check calls by its short name in public, as the database did', async () => {
    const source = await createDatabase();
    await source.query(`create function is_long(v text) returns boolean language sql immutable as $$ select length(v) > 1 $$;
create function is_fine(v text) returns boolean language sql immutable as $$ select is_long(v) $$;
create table t (a text, check (is_fine(a)))`);
    const schema = await withClient(source.url, schemaDdl);
    const target = await createDatabase();
    await withClient(target.url, async (client) => {
      await runSchema(client, schema, 'before');
      await client.query("insert into public.t values ('long')");
      await runSchema(client, schema, 'after');
      await expect(client.query("set search_path = public; insert into t values ('x')")).rejects.toThrow('check');
    });
  });

  test('refuses rows that break a constraint, naming it', async () => {
    const source = await createDatabase();
    await source.query('create table t (a int primary key)');
    const schema = await withClient(source.url, schemaDdl);
    const target = await createDatabase();
    await withClient(target.url, async (client) => {
      await runSchema(client, schema, 'before');
      await client.query('insert into public.t values (1), (1)');
      await expect(runSchema(client, schema, 'after')).rejects.toMatchObject({
        code: 'restore_refused',
        message: expect.stringContaining('making table constraint t_pkey on public.t'),
      });
    });
  });

  test('fills materialised views after those that they read, and leaves one empty that reads an empty one', async () => {
    const source = await createDatabase();
    await source.query(`create table t (a int); insert into t values (1);
create materialized view z_first as select a from t; create view between_them as select a from z_first;
create materialized view a_second as select a from between_them;
create materialized view emptied as select a from t; create materialized view stale as select a from emptied;
refresh materialized view emptied with no data;
create function fails() returns int language plpgsql as $$ begin if current_database() <> '${source.name}' then raise 'no'; end if; return 1; end $$;
create materialized view elsewhere as select fails()`);
    const schema = await withClient(source.url, schemaDdl);
    expect(schema.unsupported).toEqual(['materialized view public.stale is left empty: it reads one that is empty']);
    const target = await createDatabase();
    const unfilled: string[] = [];
    await withClient(target.url, async (client) => {
      await runSchema(client, schema, 'before');
      await client.query('insert into public.t values (1)');
      await runSchema(client, schema, 'after', { onUnfilled: ({ id }) => unfilled.push(id) });
    });
    expect(unfilled).toEqual(['rows of materialized view public.elsewhere']);
    expect((await target.query('select a from a_second')).rows).toEqual([{ a: 1 }]);
    const elsewhere = { ...schema, items: schema.items.filter(({ id }) => id === unfilled[0]) };
    await expect(withClient(target.url, (client) => runSchema(client, elsewhere, 'after'))).rejects.toMatchObject({ code: 'restore_refused' });
  });

  test('works as text too', async () => {
    const source = await nastyDatabase();
    const schema = await withClient(source.url, schemaDdl);
    const target = await createDatabase();
    for (const phase of ['before', 'after'] as const) await target.query(schemaText(schema, phase));
    expect(await withClient(target.url, schemaDdl)).toEqual(schema);
  });
});

describe('a part of a schema', () => {
  test('makes the named tables, what they stand on, and nothing that needs another table', async () => {
    const source = await createDatabase();
    await source.query(`create type mood as enum ('a'); create type unused as enum ('b');
create function code() returns text language sql as $$ select 'x' $$; create function unused_too() returns int language sql as $$ select 1 $$;
create table others (id int primary key);
create table wanted (id serial primary key, mood mood, code text default code(), other int references others, check (id > 0));
create index by_mood on wanted (mood);
create view both_tables as select w.id from wanted w join others o on o.id = w.other;
create view one_table as select id from wanted`);
    const { schema, left } = schemaFor(await withClient(source.url, schemaDdl), [tableName('public', 'wanted')]);
    const target = await createDatabase();
    const made = await withClient(target.url, async (client) => {
      for (const phase of ['before', 'after'] as const) await runSchema(client, schema, phase);
      return schemaDdl(client);
    });
    const ids = made.items.map(({ id }) => id);
    expect(ids).toEqual(
      expect.arrayContaining(['table public.wanted', 'type public.mood', 'function public.code()', 'index public.by_mood', 'view public.one_table']),
    );
    expect(ids.filter((id) => /unused|others|both_tables/.test(id))).toEqual([]);
    expect(left).toEqual(['table constraint wanted_other_fkey on public.wanted']);
  });
});
