import { pipeline } from 'node:stream/promises';
import { openSqlite, readCatalog, type SqliteFile, sqliteSource, sqliteSources, unownedRows, unownedText } from '@partywall/engine';
import fc from 'fast-check';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../../../test/support/database.ts';
import { type FileFixture, fileModel, linesOf, sqliteFixture, tableOf } from './chatbot-file.ts';

const clock = (): Date => new Date('2026-11-21T02:00:00Z');

async function opened<Result>(fixture: FileFixture, work: (file: SqliteFile) => Promise<Result> | Result): Promise<Result> {
  const file = await openSqlite(fixture.file, { model: fileModel, workFolder: fixture.workFolder, clock });
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

describe('a tenant of a SQLite file', () => {
  it('has its own rows alone, those that only a parent gives it too', async () => {
    await opened(await sqliteFixture(), async (file) => {
      const acme = sqliteSource(file, 'acme');
      expect(acme.tables.map(({ name, count, key }) => ({ name, count, key }))).toEqual([
        { name: 'public.tenants', count: 1, key: ['id'] },
        { name: 'public.agents', count: 1, key: ['id'] },
        { name: 'public.messages', count: 2, key: ['id'] },
      ]);
      expect(await linesOf(acme, 'public.agents')).toEqual(['1\tacme\tGreeter\t0.7\tt\t2026-11-01 10:00:00+00']);
      expect(await linesOf(acme, 'public.messages')).toEqual(['1\t1\tone\t\\\\x00ff', '2\t1\ttwo\t\\N']);
    });
  });

  it('is told from one whose key differs in case only, also where a column is declared to ignore it', async () => {
    const fixture = await sqliteFixture();
    fixture.writer.exec(`drop table agents; create table agents (id integer primary key, tenant_id text collate nocase references tenants (id), name text);
      insert into agents values (1, 'acme', 'a'), (2, 'ACME', 'b')`);
    await opened(fixture, async (file) => {
      expect(await linesOf(sqliteSource(file, 'acme'), 'public.agents')).toEqual(['1\tacme\ta']);
      expect(await linesOf(sqliteSource(file, 'ACME'), 'public.agents')).toEqual(['2\tACME\tb']);
    });
  });

  it.each(["acme'", 'Acme', "x' or '1'='1", '../../etc/passwd', 'acme\0', ''])('%j is none', async (tenant) => {
    await opened(await sqliteFixture(), (file) => expect(() => sqliteSource(file, tenant)).toThrow(expect.objectContaining({ code: 'tenant_unknown' })));
  });

  it('is one of all, each visited once', async () => {
    await opened(await sqliteFixture(), async (file) => {
      const seen: [string, number][] = [];
      for await (const { tenant, tables } of sqliteSources(file)) seen.push([tenant, tables.reduce((sum, { count }) => sum + count, 0)]);
      expect(seen).toEqual([
        ['ACME', 3],
        ['acme', 4],
      ]);
    });
  });

  it('does not have rows of nobody, which are counted and named', async () => {
    const fixture = await sqliteFixture();
    fixture.writer.exec(
      "insert into agents values (7, null, 'lost', 0, 0, null), (8, 'gone', 'lost', 0, 0, null); insert into messages values (9, 8, 'lost', null), (10, null, 'lost', null)",
    );
    await opened(fixture, (file) => {
      expect(unownedRows(file)).toEqual([
        { table: 'public.agents', rows: 2, examples: ['rowid 7', 'rowid 8'] },
        { table: 'public.messages', rows: 2, examples: ['rowid 9', 'rowid 10'] },
      ]);
      expect(unownedText(unownedRows(file))[0]).toBe('public.agents: 2 rows of no tenant of the file (rowid 7, rowid 8)');
    });
    await opened(await sqliteFixture(), (file) => expect(unownedRows(file)).toEqual([]));
  });

  it.each<[string, string, string]>([
    ['a text that is no UTF-8', "update agents set name = cast(x'c328' as text)", 'public.agents of .*: rowid 1, column name: a text that is no UTF-8'],
    ['a text with a NUL', "update agents set name = 'a' || char(0) || 'b'", 'column name: a text with a NUL character'],
    ['a blob in a text', "update agents set name = x'00'", 'column name: a blob for a text'],
    ['a word in a boolean', "update agents set active = 'maybe'", 'column active: a text that is neither 0 nor 1 for a boolean'],
    ['a two in a boolean', 'update agents set active = 2', 'column active: an integer that is neither 0 nor 1 for a boolean'],
    ['a word in a time', "update agents set created_at = 'yesterday'", 'column created_at: a text that is no date and time'],
    ['a word in a number', "update agents set temperature = 'hot'", 'column temperature: a text for a number'],
    ['settings that are no JSON', "update tenants set settings = '{tier: pro}'", 'public.tenants of .*: rowid 1, column settings: a text that is no JSON'],
  ])('that holds %s is refused with table, row and column, and without the value', async (_, change, message) => {
    const fixture = await sqliteFixture();
    fixture.writer.exec(change);
    await opened(fixture, async (file) => {
      const read = async (): Promise<void> => {
        const source = sqliteSource(file, 'acme');
        for (const { name } of source.tables) await linesOf(source, name);
      };
      await expect(read()).rejects.toMatchObject({ code: 'backup_refused', message: expect.stringMatching(message) });
      await expect(read()).rejects.not.toThrow(/maybe|yesterday|hot|tier/);
    });
  });
});

describe('values of SQLite', () => {
  let database: TestDatabase;
  let client: pg.Client;
  beforeAll(async () => {
    database = await createDatabase();
    client = new pg.Client(database.url);
    await client.connect();
    await client.query('set timezone = utc');
  });
  afterAll(() => client.end());

  /** Writes rows into a table of SQLite and takes them through a source into the same table of PostgreSQL. */
  async function through(declared: string, type: string, values: readonly (string | number | bigint | Uint8Array | null)[]): Promise<(string | null)[]> {
    await client.query(`drop table if exists agents, tenants; create table tenants (id text primary key, name text, settings jsonb);
      create table agents (id bigint primary key, tenant_id text, partywall_tenant_id text, v ${type})`);
    const fixture = await sqliteFixture();
    fixture.writer.exec(`drop table agents; create table agents (id integer primary key, tenant_id text, v ${declared})`);
    const insert = fixture.writer.prepare("insert into agents values (?, 'acme', ?)");
    for (const [at, value] of values.entries()) insert.run(at, value);
    const catalog = await readCatalog(client);
    const count = await opened(fixture, async (file) => {
      const source = sqliteSource(file, 'acme', { into: catalog });
      const { columns } = tableOf(source, 'public.agents');
      const lines = await linesOf(source, 'public.agents');
      await pipeline(
        [Buffer.from(lines.map((line) => `${line}\n`).join(''))],
        client.query(copyFrom(`copy agents (${columns.map(({ name }) => name).join(', ')}) from stdin`)),
      );
      return lines.length;
    });
    const { rows } = await client.query<{ v: string | null }>('select v::text from agents order by id');
    expect(rows).toHaveLength(count);
    fixture.writer.close();
    return rows.map(({ v }) => v);
  }

  it.each<[string, string, (string | number | bigint | Uint8Array | null)[], (string | null)[]]>([
    [
      'integer',
      'bigint',
      [0, 9_223_372_036_854_775_807n, -9_223_372_036_854_775_808n, 9_007_199_254_740_993n, null],
      ['0', '9223372036854775807', '-9223372036854775808', '9007199254740993', null],
    ],
    ['boolean', 'boolean', [0, 1, 'true', 'F', null], ['false', 'true', 'true', 'false', null]],
    [
      'real',
      'double precision',
      [0.1, -0, 1e300, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN],
      ['0.1', '0', '1e+300', 'Infinity', '-Infinity', null],
    ],
    ['numeric', 'numeric(14,2)', [12, 12.5, '99999999999.99'], ['12.00', '12.50', '99999999999.99']],
    ['text', 'text', ['', 'a\tb\\c\nd\re', '\\N', '\\.', '🙂 é', 'e\u0301'], ['', 'a\tb\\c\nd\re', '\\N', '\\.', '🙂 é', 'e\u0301']],
    ['blob', 'bytea', [new Uint8Array([0, 255, 92]), new Uint8Array()], ['\\x00ff5c', '\\x']],
    ['', 'text', ['any', 1n, 1.5], ['any', '1', '1.5']],
    ['text', 'uuid', ['0A1DE7F0-5d0c-4b5e-9a57-3c1f6b7a2e01'], ['0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e01']],
    ['json', 'jsonb', ['{"b":1,"a":[1,2]}', 'null', null], ['{"a": [1, 2], "b": 1}', 'null', null]],
    ['date', 'date', ['2026-02-28', '2026-02-28 00:00:00', 86_400], ['2026-02-28', '2026-02-28', '1970-01-02']],
    [
      'datetime',
      'timestamp with time zone',
      ['2026-11-01 10:00:00', '2026-11-01T10:00:00.25+02:00', '2026-11-01', 1_793_534_400, 1_793_534_400_000, 2_440_587.5, -1],
      [
        '2026-11-01 10:00:00+00',
        '2026-11-01 08:00:00.25+00',
        '2026-11-01 00:00:00+00',
        '2026-11-01 12:00:00+00',
        '2026-11-01 12:00:00+00',
        '1970-01-01 00:00:00+00',
        '1969-12-31 23:59:59+00',
      ],
    ],
    ['timestamp', 'timestamp without time zone', ['2026-11-01 10:00'], ['2026-11-01 10:00:00']],
  ])('declared %j are for PostgreSQL what they are for %s', async (declared, type, values, expected) => {
    expect(await through(declared, type, values)).toEqual(expected);
  });

  it('carry the tenant in the column that the wall added, and in no other', async () => {
    await client.query('create table messages (id bigint primary key, agent_id bigint, body text, attachment bytea, partywall_tenant_id text)');
    const into = await readCatalog(client);
    await opened(await sqliteFixture(), async (file) => {
      const walled = sqliteSource(file, 'ACME', { into });
      expect(await linesOf(walled, 'public.messages')).toEqual(['3\t2\tthree\t\\N\tACME']);
      expect(tableOf(walled, 'public.messages')).toMatchObject({ tenantColumn: 'partywall_tenant_id' });
      expect(tableOf(sqliteSource(file, 'ACME'), 'public.messages').columns.map(({ name }) => name)).not.toContain('partywall_tenant_id');
    });
  });

  it.each([
    ['integer', 'smallint', 40_000, 'outside of smallint'],
    ['integer', 'integer', 3_000_000_000, 'outside of integer'],
    ['real', 'bigint', 1.5, 'a real for bigint'],
    ['date', 'date', '2026-02-28 10:00', 'no day'],
    ['timestamp', 'timestamp without time zone', '2026-02-28 10:00Z', 'a time with a zone'],
  ])('declared %s that do not fit %s are refused', async (declared, type, value, message) => {
    await expect(through(declared, type, [value])).rejects.toThrow(message);
  });

  it('of any kind come through as they were', async () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((value) => !value.includes('\0') && value.isWellFormed());
    await fc.assert(
      fc.asyncProperty(
        fc.array(text, { minLength: 1, maxLength: 30 }),
        fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { minLength: 1 }),
        fc.array(fc.uint8Array({ maxLength: 30 }), { minLength: 1 }),
        async (texts, integers, blobs) => {
          expect(await through('text', 'text', texts)).toEqual(texts);
          expect(await through('integer', 'bigint', integers)).toEqual(integers.map(String));
          expect(await through('blob', 'bytea', blobs)).toEqual(blobs.map((bytes) => `\\x${Buffer.from(bytes).toString('hex')}`));
        },
      ),
      { numRuns: 8 },
    );
  });

  it('in a file that keeps texts as UTF-16 are the same texts', async () => {
    const fixture = await sqliteFixture();
    const { DatabaseSync } = await import('node:sqlite');
    const file = `${fixture.file}.utf16`;
    const writer = new DatabaseSync(file);
    writer.exec("pragma encoding = 'UTF-16le'");
    writer.exec(`create table tenants (id text primary key, name text, settings json); create table agents (id integer primary key, tenant_id text, name text);
      create table messages (id integer primary key, agent_id integer, body text); insert into tenants values ('é🙂', 'n', null); insert into agents values (1, 'é🙂', 'ü')`);
    writer.close();
    await opened({ ...fixture, file }, async (read) => expect(await linesOf(sqliteSource(read, 'é🙂'), 'public.agents')).toEqual(['1\té🙂\tü']));
  });
});
