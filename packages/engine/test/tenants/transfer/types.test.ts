import fc from 'fast-check';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { exportDocument, exportText, importText } from './documents.ts';

const chars = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !text.includes('\0') && text.isWellFormed());
const json = fc
  .jsonValue({ maxDepth: 3 })
  .filter((value) => !JSON.stringify(value).includes('\\u0000') && JSON.stringify(value).isWellFormed())
  .map((value) => JSON.stringify(value, undefined, 1));
const double = fc.double().map((value) => (Object.is(value, -0) ? '-0' : String(value)));
const integer = fc.integer().map(String);
const among = (...values: string[]) => fc.constantFrom(...values);

/** Column type → texts that the server reads as a value of it. */
const values: Readonly<Record<string, fc.Arbitrary<string>>> = {
  smallint: fc.integer({ min: -32_768, max: 32_767 }).map(String),
  bigint: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
  numeric: fc.oneof(
    double.filter((text) => text !== '-0'),
    among('NaN', 'Infinity', '-Infinity', '1.000', `1${'0'.repeat(300)}.5`, '0.0000000000000000000000001'),
  ),
  'numeric(14,2)': among('12.50', '-0.01', 'NaN'),
  real: among('NaN', 'Infinity', '-0', '1e-45', '3.4028235e38', '0.1'),
  'double precision': double,
  boolean: among('t', 'f'),
  text: fc.oneof(chars, among('', '\\N', '\\.', '\t', '\n', '\r\n', '\\', "'", '"', 'NULL', '\u2028', '\u007f', '\b\f\v')),
  'character varying(10)': among('', 'a ', ' b', 'äöü€😀'),
  'character(5)': among('', 'a', 'a b', 'abcde'),
  '"char"': among('a', ''),
  name: among('a name', ''),
  bytea: fc.uint8Array({ maxLength: 40 }).map((bytes) => `\\x${Buffer.from(bytes).toString('hex')}`),
  date: among('2024-02-29', '0044-03-15 BC', 'infinity', '-infinity', '5874897-12-31'),
  'time without time zone': among('00:00:00', '24:00:00', '12:34:56.789012'),
  'time with time zone': among('12:00:00+05:30', '00:00:00.000001-12'),
  'timestamp without time zone': among('infinity', '4713-01-01 00:00:00 BC', '2024-06-30 23:59:59.999999'),
  'timestamp with time zone': among('-infinity', '2024-03-31 02:30:00+02', '1883-11-18 12:03:58-05'),
  interval: among('1 year -2 mons 3 days -04:05:06.789', '-00:00:00.000001', '178000000 years', '0'),
  uuid: fc.uuid(),
  json,
  jsonb: json,
  'text[]': fc
    .array(fc.option(chars), { maxLength: 4 })
    .map((items) => `{${items.map((item) => (item === null ? 'NULL' : `"${item.replace(/["\\]/g, '\\$&')}"`)).join(',')}}`),
  'integer[]': among('{}', '{1,NULL,3}', '[0:1][2:3]={{1,2},{3,4}}', '{{1},{2}}'),
  int4range: among('empty', '[1,5)', '(,3)', '[7,)', '(,)'),
  numrange: among('[1.50,2.5]', '(-Infinity,NaN)'),
  tstzmultirange: among('{}', '{[2024-01-01 00:00:00+00,2024-02-01 00:00:00+00),[2024-03-01 00:00:00+00,)}'),
  inet: among('::1', '192.168.0.1/24', '10.0.0.0'),
  cidr: among('10.0.0.0/8', '2001:db8::/32'),
  macaddr: among('08:00:2b:01:02:03'),
  'bit(3)': among('101', '000'),
  'bit varying': among('', '1', '10101'),
  point: among('(0,-0)', '(1e-300,NaN)', '(0.1,0.2)'),
  polygon: among('((0,0),(1,1),(2,0))'),
  circle: among('<(1,2),3>'),
  money: among('1234.56', '-0.01'),
  xml: among('<a b="1">&amp;</a>', 'only text'),
  tsvector: among("'a':1A 'b c':2,3", ''),
  tsquery: among("'a' & !'b'", ''),
  pg_lsn: among('16/B374D848'),
  oid: among('4294967295', '0'),
  jsonpath: among('$."a"[*]?(@ > 1)'),
  'public.mood': among('happy', 'it\'s "so", so'),
  'public.percent': among('0', '100'),
  'public.address': fc
    .tuple(fc.option(chars), fc.option(integer))
    .map(([street, number]) => `(${street === null ? '' : `"${street.replace(/["\\]/g, '$&$&')}"`},${number ?? ''})`),
  'public.address[]': among('{}', '{"(\\"a, \\"\\"b\\",1)",NULL}'),
};
const types = Object.keys(values);
const columns = types.map((type, at) => `"Column ${at}" ${type}`);

const fixture = await controlDatabase({
  schema: `
    create type mood as enum ('happy', 'it''s "so", so');
    create domain percent as integer check (value between 0 and 100);
    create type address as (street text, number integer);
    create table "Every ""Type""" (id bigint primary key, tenant_id uuid not null references tenants (id), ${columns.join(', ')});`,
  tables: { 'public."Every ""Type"""': { scope: 'scoped', column: 'tenant_id' } },
});
const { database } = fixture;
const table = '"Every ""Type"""';

test('every value of every type comes back as it was, text for text and row for row', async () => {
  const operation = fixture.operation();
  const alder = await fixture.tenant('Alder');
  const row = fc.tuple(...types.map((type) => fc.option(values[type] ?? fc.constant(''))));
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 6 }), async (rows) => {
      await database.query(`delete from ${table}`);
      for (const [id, texts] of rows.entries()) {
        const places = types.map((type, at) => `$${at + 3}::text::${type}`);
        await database.query(`insert into ${table} values ($1, $2, ${places.join(', ')})`, [id, alder, ...texts]);
      }
      const text = await exportText(operation, alder);
      const before = await database.query(`select t::text as row from ${table} t order by id`);
      expect(JSON.parse(text).tables[`public.${table}`]).toHaveLength(rows.length);

      expect(await importText(operation, text, { dryRun: true })).toMatchObject({
        tables: expect.arrayContaining([expect.objectContaining({ inserted: 0, updated: 0, deleted: 0, unchanged: rows.length })]),
      });
      await database.query(
        `update ${table} set ${types.map((_, at) => `"Column ${at}" = null`).join(', ')} where id % 2 = 0; delete from ${table} where id % 3 = 1`,
      );
      expect(await importText(operation, text)).toMatchObject({ applied: true, hashEqual: true });

      const after = await database.query(`select t::text as row from ${table} t order by id`);
      expect(after.rows.map((found) => found['row'])).toEqual(before.rows.map((found) => found['row']));
      expect((await exportDocument(operation, alder)).trailer).toEqual(JSON.parse(text).trailer);
    }),
    { numRuns: 25 },
  );
});

test('settings of the session change no text of a value', async () => {
  const operation = fixture.operation();
  const birch = await fixture.tenant('Birch');
  await database.query(`insert into ${table} (id, tenant_id, "Column ${types.indexOf('interval')}", "Column ${types.indexOf('bytea')}", "Column ${types.indexOf('timestamp with time zone')}", "Column ${types.indexOf('money')}", "Column ${types.indexOf('double precision')}")
    values (1000, '${birch}', '1 year 2 days', '\\x00ff', '2024-03-31 02:30:00+02', '12.50', 0.1)`);
  const hash = (await exportDocument(operation, birch)).trailer.sha256;
  const client = await fixture.control.pool.connect();
  await client.query(
    "set DateStyle = 'German'; set IntervalStyle = 'iso_8601'; set TimeZone = 'Asia/Tokyo'; set bytea_output = 'escape'; set extra_float_digits = -10; set search_path = public",
  );
  client.release();
  expect((await exportDocument(operation, birch)).trailer.sha256).toBe(hash);
});
