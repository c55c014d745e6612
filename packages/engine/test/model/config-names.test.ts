import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { afterAll, describe, expect, test } from 'vitest';
import { ident } from '../../src/db/sql.ts';
import { checkModel } from '../../src/model/check.ts';
import { object, print, printComment } from '../../src/model/config-text.ts';
import { modelFingerprint } from '../../src/model/fingerprint.ts';
import { inferModel } from '../../src/model/infer.ts';
import { parseModel } from '../../src/model/model.ts';
import { renderConfig } from '../../src/model/render-config.ts';
import { parseTableName, partsOf, tableName } from '../../src/model/table-name.ts';
import { inferring, named, told } from './inferring.ts';

const { catalog, model } = await inferring();
const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-config-'));
afterAll(() => fs.rm(folder, { recursive: true }));

/** Every one is a legal name of a schema, table, column and constraint. */
const hostile = [
  'select',
  'Mixed Case',
  'a.b',
  'a"b',
  '"quoted"',
  "it's",
  '$$',
  '$pw$ $1',
  '`$' + '{process.exit(1)}`',
  'line\nbreak',
  'carriage\r\nreturn',
  'end */ of // comment',
  '\\',
  'tab\there',
  ' leading and trailing ',
  'größe',
  '表',
  '\u2028',
  '__proto__',
  'constructor',
  '-- drop',
  'x'.repeat(63),
  `${'ü'.repeat(31)}x`,
];

describe('names of any kind', () => {
  test.each(hostile)('%j is found, written to a config that can be imported, read back and checked', async (name) => {
    const quoted = ident(name);
    const own = ident(
      Buffer.from(`s${name}`)
        .subarray(0, 62)
        .toString('utf8')
        .replace(/\uFFFD+$/u, ''),
    );
    const given = await catalog(`create schema ${own}; create table ${own}.tenants (id uuid primary key, ${quoted} text);
      create table ${own}.${quoted} (${quoted} uuid primary key, "tenantId" uuid not null references ${own}.tenants, other text constraint ${ident(`u${name}`.slice(0, 30))} unique);
      create table ${own}.child (id int primary key, ${quoted} uuid not null references ${own}.${quoted}); create table ${own}.${ident(`q${name}`.slice(0, 30))} (id int)`);
    const inferred = inferModel(given);
    expect(inferred.model.tables.size).toBe(3);

    const file = path.join(folder, `config-${hostile.indexOf(name)}.ts`);
    const source = pathToFileURL(path.resolve(import.meta.dirname, '../../src/model/model.ts')).href;
    await fs.writeFile(file, renderConfig(inferred).replace("from 'partywall'", `from ${JSON.stringify(source)}`));
    const imported: { default: unknown } = await import(pathToFileURL(file).href);
    const again = parseModel(imported.default);

    expect(modelFingerprint(again)).toBe(modelFingerprint(inferred.model));
    expect(checkModel(again, given).map(({ kind }) => kind)).toEqual(['unclassified']);
  });

  test('a dot inside a name is no schema', async () => {
    const inferred = await model(
      'create table tenants (id uuid primary key); create table "crm.deals" (tenant_id uuid not null references tenants); create schema crm; create table crm.deals (id int)',
    );
    expect(told(inferred, '"crm.deals"')).toBe('scoped by tenant_id');
    expect(told(inferred, 'crm.deals')).toBe('unclassified');
  });

  test('names that differ only in case are different tables', async () => {
    const inferred = await model(
      'create table tenants (id uuid primary key); create table users (tenant_id uuid not null); create table "Users" (tenant_id uuid not null); create table "USERS" (id int)',
    );
    expect(['users', '"Users"', '"USERS"'].map((table) => told(inferred, table))).toEqual(['scoped by tenant_id', 'scoped by tenant_id', 'unclassified']);
  });
});

test.each(hostile)('%j is printed as a key and as a value that evaluate to it', (name) => {
  const source = print(object([[name, name]]));
  expect(Object.entries(vm.runInNewContext(`(${source})`))).toEqual([[name, name]]);
  expect(vm.runInNewContext(`(${source} ${printComment(name)}\n)`)).toBeDefined();
});

describe('a table name', () => {
  test.each(hostile)('%j has one canonical form, which parses back to its parts', (name) => {
    const table = tableName(name, name);
    expect(parseTableName(table)).toBe(table);
    expect(partsOf(table)).toEqual({ schema: name, name });
  });

  test.each(['', '.', 'a.', '.a', 'a.b.c', '"a', 'a"b', 'a b', '""'])('cannot be %j', (text) => {
    expect(parseTableName(text)).toBeUndefined();
  });

  test('is in public where no schema is named', () => {
    expect(named('User')).toBe('public."User"');
    expect(named('"a.b"')).toBe('public."a.b"');
  });
});
