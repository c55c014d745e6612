import { PartywallError } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contentHash, type Document, exportDocument, exportText, importText, sealed } from './documents.ts';

const fixture = await controlDatabase();
const { database } = fixture;
const operation = fixture.operation();
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
for (const tenant of [alder, birch]) {
  await database.query(`insert into users (tenant_id, email, name) values ('${tenant}', 'a@x.example', 'A')`);
  await database.query(
    `insert into customers (tenant_id, owner_id, country_code, name, revenue) select '${tenant}', id, 'NO', 'First', 12.50 from users where tenant_id = '${tenant}'`,
  );
  await database.query(
    `insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', '${tenant}' from customers where tenant_id = '${tenant}'`,
  );
  await database.query(`insert into files (tenant_id, name, size_bytes) values ('${tenant}', 'a', 10)`);
}
const sound = await exportText(operation, alder);
const foreign = await exportDocument(operation, birch);
const before = await Promise.all([contentHash(operation, alder), contentHash(operation, birch)]);

/** A document with a change, hashed anew as whoever forges one would. */
function forged(change: (document: Document) => void): string {
  const document: Document = JSON.parse(sound);
  change(document);
  return sealed(document);
}
const rows = (document: Document, table: string): Record<string, string | null>[] => document.tables[`public.${table}`] ?? [];
const first = (document: Document, table: string): Record<string, string | null> => rows(document, table)[0] ?? {};

test('a document that was hashed anew without a change is taken, whatever its chunks and white space', async () => {
  expect(
    await importText(
      operation,
      forged(() => undefined),
      { dryRun: true },
    ),
  ).toMatchObject({ applied: false });
  expect(await importText(operation, JSON.stringify(JSON.parse(sound), undefined, 3), { dryRun: true, chunkBytes: 7 })).toMatchObject({ applied: false });
  expect(await importText(operation, sound, { dryRun: true, chunkBytes: 1 })).toMatchObject({ applied: false });
});

const broken: readonly (readonly [string, string, string])[] = [
  ['nothing', '', 'export_invalid'],
  ['a word', 'hello', 'export_invalid'],
  ['an empty object', '{}', 'export_invalid'],
  ['a list', '[]', 'export_invalid'],
  ['bytes that are no text', '\u0000\u0001', 'export_invalid'],
  ['a byte order mark', `\uFEFF${sound}`, 'export_invalid'],
  ['an export cut in its header', sound.slice(0, 100), 'export_invalid'],
  ['an export cut in a row', sound.slice(0, sound.indexOf('"First"') + 3), 'export_invalid'],
  ['an export cut between rows', sound.slice(0, sound.lastIndexOf(']')), 'export_invalid'],
  ['an export without its trailer', sound.slice(0, sound.indexOf('"trailer"')), 'export_invalid'],
  ['an export without its last bracket', sound.trimEnd().slice(0, -1), 'export_invalid'],
  ['garbage after the end', `${sound}{}`, 'export_invalid'],
  ['two exports', sound + sound, 'export_invalid'],
  ['a changed value', sound.replace('"First"', '"Firsd"'), 'export_invalid'],
  ['a changed count', sound.replace(/"rows":1,/, '"rows":2,'), 'export_invalid'],
  ['a changed hash', sound.replace(/"sha256":"./, (text) => text.slice(0, -1) + (text.endsWith('0') ? '1' : '0')), 'export_invalid'],
  ['a key of a row twice', sound.replace('"name":"First"', '"name":"First","name":"First"'), 'export_invalid'],
  ['a key of the header twice', sound.replace('"version":1', '"version":1,"version":1'), 'export_invalid'],
  ['__proto__ in a row', sound.replace('"name":"First"', '"name":"First","__proto__":{"polluted":"yes"}'), 'export_invalid'],
  ['__proto__ for a column', sound.replace('"name":"First"', '"__proto__":"First"'), 'export_invalid'],
  ['__proto__ in the header', sound.replace('"version":1', '"version":1,"__proto__":{"polluted":"yes"}'), 'export_invalid'],
  ['a number for a value', sound.replace('"12.50"', '12.50'), 'export_invalid'],
  ['a huge number', sound.replace('"12.50"', `1${'0'.repeat(100_000)}`), 'export_invalid'],
  ['deep nesting in a row', sound.replace('"First"', `${'['.repeat(100_000)}${']'.repeat(100_000)}`), 'export_invalid'],
  ['deep nesting in the header', sound.replace('"version":1', `"version":${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`), 'export_invalid'],
  ['nothing but brackets', '['.repeat(1_000_000), 'export_invalid'],
  ['nothing but white space', ' '.repeat(1_000_000), 'export_invalid'],
  ['a header that does not end', `{"header":"${'a'.repeat(9_000_000)}`, 'export_invalid'],
  ['half of a surrogate pair', forged((document) => Object.assign(first(document, 'customers'), { name: '\ud800' })), 'export_invalid'],
  ['a NUL', forged((document) => Object.assign(first(document, 'customers'), { name: 'a\0b' })), 'export_invalid'],
  ['another format', forged((document) => Object.assign(document.header, { format: 'partywall.other' })), 'export_invalid'],
  ['another version', forged((document) => Object.assign(document.header, { version: 2 })), 'export_invalid'],
  ['a table twice', forged(({ header }) => header.tables.push(...header.tables.slice(1, 2))), 'export_invalid'],
  ['another model', forged((document) => Object.assign(document.header, { model: '0'.repeat(64) })), 'export_mismatch'],
  ['an unknown table', forged(addTable), 'export_mismatch'],
  ['a table of the server', forged((document) => renameTable(document, 'public.files', 'pg_catalog.pg_authid')), 'export_mismatch'],
  ['SQL for the name of a table', forged((document) => renameTable(document, 'public.files', 'public.files; drop table public.files')), 'export_mismatch'],
  ['a table that is missing', forged((document) => document.header.tables.pop()), 'export_mismatch'],
  ['a column of another type', forged((document) => Object.assign(document.header.tables[1]?.columns[0] ?? {}, { type: 'json' })), 'export_mismatch'],
  ['the id of no tenant', forged((document) => Object.assign(document.header.tenant, { id: '00000000-0000-4000-8000-000000000000' })), 'tenant_unknown'],
  ['an id that is no key', forged((document) => Object.assign(document.header.tenant, { id: "' or true --" })), 'tenant_unknown'],
  ['the id of a neighbour', forged((document) => Object.assign(document.header.tenant, { id: birch })), 'export_invalid'],
  ["a row with a neighbour's id", forged((document) => Object.assign(first(document, 'customers'), { tenant_id: birch })), 'export_invalid'],
  ['a row without a tenant', forged((document) => Object.assign(first(document, 'customers'), { tenant_id: null })), 'export_invalid'],
  [
    "a neighbour's row under the own id",
    forged((document) => rows(document, 'customers').push({ ...first(foreign, 'customers'), tenant_id: alder, owner_id: null })),
    'import_conflict',
  ],
  [
    "a reference to a neighbour's row",
    forged((document) => Object.assign(first(document, 'customers'), { owner_id: first(foreign, 'users')['id'] })),
    'import_conflict',
  ],
  ['a reference to a row that is not there', forged((document) => Object.assign(first(document, 'customers'), { country_code: 'XX' })), 'import_conflict'],
  ['a key twice', forged((document) => rows(document, 'customers').push({ ...first(document, 'customers') })), 'export_invalid'],
  ['a second root', forged((document) => rows(document, 'tenants').push({ ...first(document, 'tenants') })), 'export_invalid'],
  ['no root', forged((document) => rows(document, 'tenants').pop()), 'export_invalid'],
  ['a key that is null', forged((document) => Object.assign(first(document, 'files'), { id: null })), 'export_invalid'],
  [
    'a value of another type',
    forged((document) => Object.assign(first(document, 'customers'), { revenue: "1'); drop table customers; --" })),
    'export_invalid',
  ],
  ['a number out of range', forged((document) => Object.assign(first(document, 'customers'), { revenue: '1e999999' })), 'export_invalid'],
  ['null where it may not be', forged((document) => Object.assign(first(document, 'customers'), { name: null })), 'import_conflict'],
  ['what a constraint refuses', forged((document) => Object.assign(first(document, 'files'), { size_bytes: '-1' })), 'import_conflict'],
  [
    'a unique value twice',
    forged((document) => rows(document, 'users').push({ ...first(document, 'users'), id: 'aaaaaaaa-0000-4000-8000-000000000000' })),
    'import_conflict',
  ],
];

test.for(broken)('%s is refused and changes nothing', async ([, text, code]) => {
  const refused = await importText(operation, text).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(PartywallError);
  expect(refused).toMatchObject({ code });
  expect(JSON.stringify(refused).length).toBeLessThan(10_000);
  expect(await Promise.all([contentHash(operation, alder), contentHash(operation, birch)])).toEqual(before);
});

test('SQL, markup and ten megabytes in a string are a string', async () => {
  const name = `'); drop table customers; -- \\. \\N \t\r\n <script> ${'x'.repeat(10_000_000)}`;
  const text = forged((document) => Object.assign(first(document, 'customers'), { name }));
  expect(await importText(operation, text)).toMatchObject({ hashEqual: true });
  const { rows: stored } = await database.query(`select name = $1 as same from customers where tenant_id = '${alder}'`, [name]);
  expect(stored).toEqual([{ same: true }]);
  expect(await importText(operation, sound)).toMatchObject({ hashEqual: true });
});

function addTable(document: Document): void {
  document.header.tables.push({ name: 'public.countries', key: ['code'], columns: [{ name: 'code', type: 'text' }] });
  document.tables['public.countries'] = [];
}

function renameTable(document: Document, from: string, to: string): void {
  for (const head of document.header.tables) if (head.name === from) head.name = to;
  document.tables = Object.fromEntries(Object.entries(document.tables).map(([name, members]) => [name === from ? to : name, members]));
}
