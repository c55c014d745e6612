import fc from 'fast-check';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { backupSource } from '../../../src/archive/read/backup-source.ts';
import { openBackup } from '../../../src/archive/read/open-backup.ts';
import { restoreFrom } from '../../../src/archive/restore/restore.ts';
import { ident } from '../../../src/db/sql.ts';
import { type TenancyConfig, tableName } from '../../../src/index.ts';
import { expectSame, liveRows, storedRows } from './stored.ts';

/** Types with values that are written in odd ways, as SQL. */
const valuesOf: Readonly<Record<string, readonly string[]>> = {
  text: [`''`, `'\\N'`, `E'a\\tb\\nc\\\\ \\r'`, `'långt 🧱'`, `repeat('many ', 30000)`, `E'\\\\.'`],
  'character varying(20)': [`'short'`, `E'tab\\t'`],
  'character(5)': [`'ab'`, `''`],
  numeric: [`'NaN'`, '0.10', '1e50', '-0.000000000000000000001'],
  'double precision': [`'NaN'`, `'-Infinity'`, '0.1::float8 + 0.2', '1e-300'],
  real: ['3.4e38', '0.1'],
  bytea: [`'\\x00ff0a09'`, `''`],
  jsonb: [`'{"a": [1, null, "\\u00e5"]}'`, `'null'`, `'[]'`],
  json: [`'{"b":1,  "a":2}'`, `'[ ]'`],
  'timestamp with time zone': [`'infinity'`, `'2026-03-29 01:30:00.123456+00'`, `'0044-03-15 12:00:00+00 BC'`],
  date: [`'0001-01-01'`, `'-infinity'`],
  interval: [`'1 year -2 days'`, `'-00:00:00.000001'`],
  'integer[]': [`'{1,null,3}'`, `'{}'`, `'{{1,2},{3,4}}'`],
  'text[]': [`array['a,b', null, '"', '', 'NULL']`, `'{}'`],
  inet: [`'10.0.0.1/8'`, `'::1'`],
  int4range: [`'[1,5)'`, `'empty'`],
  boolean: ['true', 'false'],
  'bit varying': [`B'0101'`, `B''`],
};

const column = fc.record({ type: fc.constantFrom(...Object.keys(valuesOf)), values: fc.array(fc.nat({ max: 9 }), { minLength: 1, maxLength: 6 }) });
const table = fc.record({
  odd: fc.constantFrom('', ' "quoted"', '\ttab', '.dotted', 'Grünes', `'s`, ' '.repeat(3), `_${'long'.repeat(10)}`),
  owner: fc.constantFrom('own', 'own', 'added'),
  shape: fc.constantFrom('plain', 'generated', 'partitioned', 'dropped'),
  identity: fc.constantFrom('always', 'by default'),
  rows: fc.integer({ min: 0, max: 40 }),
  columns: fc.array(column, { minLength: 1, maxLength: 7 }),
});
type Table = typeof table extends fc.Arbitrary<infer Value> ? Value : never;

const seed = Number(process.env['PARTYWALL_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const tables = fc.sample(table, { seed, numRuns: 20 }).map((drawn, number) => ({ ...drawn, name: `t${number}${drawn.odd}` }));

function ownColumn({ owner }: Table): string {
  return owner === 'own'
    ? 'tenant_id uuid not null references tenants (id) on delete cascade'
    : 'customer_id uuid not null references customers (id) on delete cascade';
}

function createSql({ name, ...drawn }: (typeof tables)[number]): string {
  const { shape, identity, columns } = drawn;
  const isPartitioned = shape === 'partitioned';
  const written = columns.map(({ type }, at) => `${ident(`c ${at}`)} ${type}`);
  const more = shape === 'generated' ? ['twice bigint generated always as (id * 2) stored'] : shape === 'dropped' ? ['gone integer'] : [];
  const id = isPartitioned ? 'id bigint not null' : `id bigint generated ${identity} as identity`;
  const parts = isPartitioned
    ? [0, 1].map((part) => `create table ${ident(`${name.slice(0, 40)} p${part}`)} partition of ${ident(name)} for values with (modulus 2, remainder ${part})`)
    : [];
  const create = `create table ${ident(name)} (${[...more, id, ownColumn(drawn), ...written, 'primary key (id)'].join(', ')})${isPartitioned ? ' partition by hash (id)' : ''}`;
  return [create, ...parts, ...(shape === 'dropped' ? [`alter table ${ident(name)} drop column gone`] : [])].join(';\n');
}

const fixture = await controlDatabase({
  schema: `;${tables.map(createSql).join(';\n')};`,
  tables: Object.fromEntries(
    tables.map(({ name, owner }): [string, TenancyConfig['tables'][string]] => [
      tableName('public', name),
      owner === 'own' ? { scope: 'scoped', column: 'tenant_id' } : { scope: 'scoped', through: { table: 'public.customers', columns: 'customer_id' } },
    ]),
  ),
});
const { control, database, operation } = fixture;
const { archive } = await archiveFixture({ keyring: control.keyring });
const tenants = [await fixture.tenant('Amber'), await fixture.tenant('Brass')];

/** Rows of a tenant, their ids from `from` on. */
async function fill(tenant: string, from: number): Promise<void> {
  const { rows } = await database.query<{ id: string }>(`insert into customers (tenant_id, name) values ($1, 'one') returning id::text`, [tenant]);
  for (const drawn of tables) {
    const names = drawn.columns.map((_, at) => ident(`c ${at}`)).join(', ');
    const lines = Array.from({ length: drawn.rows }, (_, row) => {
      const values = drawn.columns.map(({ type, values: picks }, at) => valuesOf[type]?.[(picks[(row + at) % picks.length] ?? 0) % 10] ?? 'null');
      return `(${from + row}, '${drawn.owner === 'own' ? tenant : `${tenant}', '${rows[0]?.id}`}', ${values.join(', ')})`;
    });
    if (lines.length === 0) continue;
    const owner = drawn.owner === 'own' ? 'tenant_id' : 'partywall_tenant_id, customer_id';
    await database.query(`insert into ${ident(drawn.name)} (id, ${owner}, ${names}) overriding system value values ${lines.join(', ')}`);
  }
}

test(`whatever the tables are, a backup holds the rows of each tenant as COPY writes them, and a damaged tenant comes back (seed ${seed})`, async () => {
  const [amber = ''] = tenants;
  for (const [at, tenant] of tenants.entries()) await fill(tenant, 1 + at * 1_000);
  const { id } = await runBackup(operation(), archive, { reason: 'by hand' }, { workers: 2 });
  await expectSame(archive, id, { url: database.url, tenants });

  for (const { name, owner } of tables) {
    const mine = owner === 'own' ? 'tenant_id = $1' : 'customer_id in (select id from customers where tenant_id = $1)';
    await database.query(`delete from ${ident(name)} where ${mine} and id % 3 = 0`, [amber]);
    await database.query(`delete from ${ident(name)} where ${mine} and id = 1`, [amber]);
    await database.query(`update ${ident(name)} set "c 0" = null where ${mine} and id % 3 = 1`, [amber]);
  }
  const backup = await openBackup(archive, id);
  const differing = async (): Promise<string[]> => {
    const found: string[] = [];
    for (const { name, tenantColumn } of backup.manifest.tables.filter(({ name: of }) => of.startsWith('public.'))) {
      for (const tenant of tenantColumn === null ? [null] : tenants) {
        const [kept, live] = [await storedRows(archive, id, { tenant, table: name }), await liveRows(database.url, backup, { tenant, table: name })];
        if (JSON.stringify(kept) !== JSON.stringify(live)) found.push(`${name} of ${tenant}`);
      }
    }
    return found.sort();
  };
  const damaged = tables.filter(({ rows }) => rows > 0).map(({ name }) => `${tableName('public', name)} of ${amber}`);
  expect(await differing()).toEqual(damaged.sort());
  await restoreFrom(operation(), await backupSource(archive, backup, amber), { undo: async () => 'none: nothing is kept of it' });
  expect(await differing()).toEqual([]);
});
