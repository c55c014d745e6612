import { describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import type { BackupReport } from '../../../src/archive/backup/report.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { openBackup } from '../../../src/archive/read/open-backup.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { expectSame } from './stored.ts';

const fixture = await controlDatabase();
const { control, database, operation } = fixture;
const { archive } = await archiveFixture({ keyring: control.keyring });
const [amber, brass] = [await fixture.tenant('Amber'), await fixture.tenant('Brass')];
const tenants = [amber, brass];
for (const tenant of tenants) {
  await database.query(`insert into customers (tenant_id, name) select $1, 'Customer ' || n from generate_series(1, 200) n`, [tenant]);
  await database.query(`insert into files (tenant_id, name, size_bytes) select $1, 'file ' || n, n from generate_series(1, 20) n`, [tenant]);
}

const backUp = (): Promise<BackupReport> => runBackup(operation(), archive, { reason: 'by hand' });
const readOf = (report: BackupReport, table: string): string | undefined => {
  const found = report.tables.find((each) => each.table === table);
  return found && `${found.reading} ${found.changed}`;
};
const refOf = (tenant: string): string => archive.keys.subjects().find(({ subject }) => subject === tenantSubject(tenant))?.ref ?? '';
/** Which backup stored each segment of a tenant's table. */
const storedBy = async (id: string, tenant: string, table: string): Promise<string[]> =>
  (await (await openBackup(archive, id)).page(refOf(tenant))).tables.find((each) => each.table === table)?.segments.map(({ backup }) => backup) ?? [];

describe('of a tenant that did not change', () => {
  test('nothing is read or stored again, and the manifest goes on pointing at its page', async () => {
    const first = await backUp();
    expect(first).toMatchObject({ base: null, unchanged: 0 });
    const second = await backUp();
    expect(second).toMatchObject({ base: first.id, unchanged: 2 });
    expect(readOf(second, 'public.customers')).toBe('nothing 0');
    const subject = (await openBackup(archive, second.id)).subjects.get(refOf(amber));
    expect(subject?.page.backup).toBe(first.id);
    // The platform's pack (the record of the first backup), the pages, the manifest.
    expect(second.stored?.objects).toBe(3);
    await expectSame(archive, second.id, { url: database.url, tenants });
  });
});

test('the page of a tenant that did not change is not read', async () => {
  const first = await backUp();
  const { subjects } = await openBackup(archive, first.id);
  const read: string[] = [];
  const store: typeof archive.store = {
    ...archive.store,
    get: (key, range) => {
      read.push(`${key} ${range?.offset}`);
      return archive.store.get(key, range);
    },
  };
  const report = await runBackup(operation(), { ...archive, store }, { reason: 'by hand' });
  expect(report).toMatchObject({ base: first.id, unchanged: 2 });
  const pageOf = (ref: string): string => `backups/${subjects.get(ref)?.page.backup}/pages ${subjects.get(ref)?.page.offset}`;
  const platform = [...subjects.keys()].find((ref) => !tenants.map(refOf).includes(ref)) ?? '';
  expect(read).toContain(pageOf(platform));
  for (const tenant of tenants) expect(read).not.toContain(pageOf(refOf(tenant)));
});

describe('a change is seen, in its table and of its tenant alone:', () => {
  const changes: Readonly<Record<string, string>> = {
    insert: `insert into customers (tenant_id, name) values ($1, 'New')`,
    update: `update customers set name = name || '.' where tenant_id = $1 and name = 'Customer 7'`,
    'update of a value to itself': `update customers set name = name where tenant_id = $1 and name = 'Customer 8'`,
    delete: `delete from customers where tenant_id = $1 and name = 'Customer 9'`,
    'delete of a row and insert of its like': `with gone as (delete from customers where tenant_id = $1 and name = 'Customer 10' returning *)
      insert into customers (id, tenant_id, name, created_at) select id, tenant_id, name, created_at from gone`,
  };
  test.for(Object.entries(changes))('%s', async ([, statement]) => {
    await backUp();
    await database.query(statement, [amber]);
    const report = await backUp();
    expect(report).toMatchObject({ unchanged: 1 });
    expect(readOf(report, 'public.customers')).toMatch(/^(tenants|whole) 1$/);
    expect(readOf(report, 'public.files')).toBe('nothing 0');
    expect(await storedBy(report.id, brass, 'public.customers')).not.toContain(report.id);
    await expectSame(archive, report.id, { url: database.url, tenants });
  });

  test('the last row of a table', async () => {
    await backUp();
    await database.query('delete from files where tenant_id = $1', [amber]);
    const report = await backUp();
    expect((await (await openBackup(archive, report.id)).page(refOf(amber))).tables.map(({ table }) => table)).not.toContain('public.files');
    await expectSame(archive, report.id, { url: database.url, tenants });
  });

  test('a new tenant', async () => {
    await backUp();
    const cobalt = await fixture.tenant('Cobalt');
    const report = await backUp();
    expect(report).toMatchObject({ tenants: 3, unchanged: 2 });
    await expectSame(archive, report.id, { url: database.url, tenants: [...tenants, cobalt] });
  });
});

describe('no change to the rows', () => {
  test('is a transaction that was rolled back, a vacuum, a new index', async () => {
    await backUp();
    await database.query('begin');
    await database.query('update customers set name = $1', ['gone']);
    await database.query('rollback');
    await database.query('vacuum (freeze) customers');
    await database.query('create index customers_name_idx on customers (name)');
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('nothing 0');
    await expectSame(archive, report.id, { url: database.url, tenants });
  });

  test('is a rebuilt table: it is read again, and nothing of it is stored again', async () => {
    // Its rows are without gaps and in order now, so rebuilding it once more leaves them so.
    await database.query('vacuum full customers');
    const before = await backUp();
    await database.query('vacuum full customers');
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('whole 2');
    expect(await storedBy(report.id, amber, 'public.customers')).toEqual(await storedBy(before.id, amber, 'public.customers'));
    await expectSame(archive, report.id, { url: database.url, tenants });
  });
});

describe('marks are not believed', () => {
  test('where the columns of a table changed, and of other tables they are', async () => {
    await backUp();
    await database.query(`alter table customers add column vip boolean not null default false`);
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('whole 2');
    expect(readOf(report, 'public.users')).toBe('nothing 0');
    await expectSame(archive, report.id, { url: database.url, tenants });
  });

  test('where a label of an enum was renamed, which changes texts and no row', async () => {
    await database.query(`create type tone as enum ('low', 'high'); alter table customers add column tone tone not null default 'low'`);
    await backUp();
    await database.query(`alter type tone rename value 'low' to 'deep'`);
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('whole 2');
    await expectSame(archive, report.id, { url: database.url, tenants });
  });

  test('where a column was dropped and made again with another default, which is written into no row', async () => {
    await database.query(`alter table customers add column shade text default 'pale'`);
    await backUp();
    await database.query(`alter table customers drop column shade; alter table customers add column shade text default 'dark'`);
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('whole 2');
    await expectSame(archive, report.id, { url: database.url, tenants });
  });

  test('where a composite type lost a part, which changes texts and no row', async () => {
    await database.query(`create type place as (street text, town text); create type stay as (at place, nights integer);
      alter table customers add column stays stay[] not null default array[row(row('Here', 'There'), 2)::stay]`);
    await backUp();
    await database.query('alter type place drop attribute town');
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('whole 2');
    await expectSame(archive, report.id, { url: database.url, tenants });
    await database.query('alter table customers drop column stays');
  });

  test('of composite columns that name objects', async () => {
    await database.query(`create type about as (what regclass); alter table customers add column about about not null default row('public.countries')`);
    await backUp();
    await database.query('alter table countries rename to lands; alter table lands rename to countries');
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('whole 2');
    await database.query('alter table customers drop column about');
  });

  test('of columns that name objects', async () => {
    await database.query(`alter table customers add column about regclass not null default 'public.countries'`);
    await backUp();
    await database.query('alter table countries rename to lands; alter table lands rename to countries');
    const report = await backUp();
    expect(readOf(report, 'public.customers')).toBe('whole 2');
    await database.query('alter table customers drop column about');
  });

  test('where the tenant has a new key: all of it is stored again under that', async () => {
    await backUp();
    const key = await archive.keys.rekey(tenantSubject(amber));
    const report = await backUp();
    expect(report).toMatchObject({ tenants: 3, unchanged: 2 });
    const page = await (await openBackup(archive, report.id)).page(refOf(amber));
    expect(new Set(page.tables.flatMap(({ segments }) => segments.map((segment) => segment.key)))).toEqual(new Set([key.id]));
  });

  test('in a copy of the database, which has the row that says which history it is of', async () => {
    await backUp();
    const { rows } = await database.query<{ lineage: string; backup: string; owner: string }>(
      'select lineage, backup, owner from partywall_control.archive_lineage, partywall_control.archive_owner',
    );
    const copy = await controlDatabase();
    await copy.database.query('insert into partywall_control.archive_owner (owner) values ($1)', [rows[0]?.owner]);
    await copy.database.query('insert into partywall_control.archive_lineage (lineage, backup) values ($1, $2)', [rows[0]?.lineage, rows[0]?.backup]);
    const report = await runBackup(operation({ database: { ...copy.control, keyring: control.keyring } }), archive, { reason: 'by hand' });
    expect(report).toMatchObject({ base: null, unchanged: 0 });
  });

  test('where a backup went to another archive since: its value is the one that the database holds', async () => {
    const first = await backUp();
    const other = await archiveFixture();
    expect(await runBackup(operation(), other.archive, { reason: 'by hand' })).toMatchObject({ base: null });
    expect(await backUp()).toMatchObject({ base: null });
    expect((await backUp()).base).not.toBe(first.id);
  });

  test('of a backup of some tenants; the one before it goes on being the base', async () => {
    const whole = await backUp();
    await runBackup(operation(), archive, { reason: 'before restore', tenants: [amber] });
    expect(await backUp()).toMatchObject({ base: whole.id });
  });
});

test('few changed tenants of many are read by index', async () => {
  const many = await Promise.all(Array.from({ length: 12 }, (_, at) => fixture.tenant(`Many ${at}`)));
  for (const tenant of many)
    await database.query(`insert into customers (tenant_id, name) select $1, 'Customer ' || n from generate_series(1, 200) n`, [tenant]);
  await backUp();
  await database.query(`update customers set name = 'changed' where tenant_id = $1 and name = 'Customer 3'`, [many[4]]);
  const report = await backUp();
  expect(readOf(report, 'public.customers')).toBe('tenants 1');
  await expectSame(archive, report.id, { url: database.url, tenants: [...tenants, ...many] });
});

test('a row in the very place of one that is gone is another row', async () => {
  const put = async (name: string): Promise<string | undefined> => {
    // Vacuum gives an empty table's blocks back, so the next row lies where the first one lay.
    await database.query('delete from files');
    await database.query('vacuum files');
    await database.query('insert into files (tenant_id, name, size_bytes) values ($1, $2, 1)', [amber, name]);
    return (await database.query<{ place: string }>('select ctid::text as place from files')).rows[0]?.place;
  };
  expect(await put('first')).toBe('(0,1)');
  const first = await backUp();
  expect(await put('second')).toBe('(0,1)');
  const second = await backUp();
  expect(second.base).toBe(first.id);
  expect(readOf(second, 'public.files')).toMatch(/^(tenants|whole) 1$/);
  await expectSame(archive, second.id, { url: database.url, tenants });
});
