import { planRestore, type RestoreInput, restoreFrom, type TenantSource } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { kept } from './kept-source.ts';

const fixture = await controlDatabase({
  schema: `
    create type mood as enum ('good', 'bad');
    create table things (id integer primary key, tenant_id uuid not null references tenants (id), name varchar(20) not null, size integer, price numeric(10,2), mood mood, old text, gone text);
    create table logs (tenant_id uuid not null references tenants (id), line text not null);`,
  tables: { 'public.things': { scope: 'scoped', column: 'tenant_id' }, 'public.logs': { scope: 'scoped', column: 'tenant_id' } },
});
const { database } = fixture;
const operation = fixture.operation();
const leave = ['public.logs'];

/** Changes the schema in a transaction of its own and takes it back after the test. */
async function drifted(forward: string, back: string, work: () => Promise<void>): Promise<void> {
  await database.query(forward);
  try {
    await work();
  } finally {
    await database.query(back);
  }
}

function restore(source: TenantSource, input: RestoreInput = {}): Promise<unknown> {
  return restoreFrom(operation, source, { leave, ...input, undo: async () => 'none' });
}

let next = 0;
async function furnished(): Promise<{ tenant: string; source: TenantSource; rows: () => Promise<unknown[]> }> {
  next += 10;
  const tenant = await fixture.tenant(`Drift ${next}`);
  await database.query(
    `insert into things values (${next}, '${tenant}', 'first', 7, 1.50, 'good', 'old', 'gone'), (${next + 1}, '${tenant}', E'se\\\\cond', null, null, null, null, null)`,
  );
  const source = await kept(operation, tenant);
  await database.query(`delete from things where id = ${next + 1}; update things set name = 'wrong', size = 0 where id = ${next}`);
  return { tenant, source, rows: async () => (await database.query(`select * from things where tenant_id = '${tenant}' order by id`)).rows };
}

test('a column that was added since gets its default in rows that come back, and keeps its value in rows that are there', async () => {
  const { source, rows } = await furnished();
  await drifted(
    `alter table things add column colour text not null default 'red', add column note text`,
    'alter table things drop column colour, drop column note',
    async () => {
      await database.query(`update things set colour = 'blue' where id = ${next}`);
      const plan = await planRestore(operation, source, { leave });
      expect(plan.notes).toEqual([
        'public.things.colour is new: rows that come back get its default, rows that are there keep theirs',
        'public.things.note is new: rows that come back get its default, rows that are there keep theirs',
      ]);
      await restore(source);
      expect(await rows()).toMatchObject([
        { name: 'first', size: 7, colour: 'blue' },
        { name: 'se\\cond', colour: 'red', note: null },
      ]);
    },
  );
});

test('a column that is not here any more is left out with a line, and one that is new and must have a value is refused', async () => {
  const { source, rows } = await furnished();
  await drifted('alter table things drop column gone', 'alter table things add column gone text', async () => {
    expect((await planRestore(operation, source, { leave })).notes).toEqual(['public.things.gone is not here any more: left out']);
    await restore(source);
    expect(await rows()).toMatchObject([{ name: 'first' }, { name: 'se\\cond' }]);
  });
  await drifted(
    `alter table things add column must bigint; update things set must = 1; alter table things alter column must set not null`,
    'alter table things drop column must',
    async () => {
      await expect(restore(source)).rejects.toMatchObject({
        code: 'restore_refused',
        details: ['public.things.must is new, has no default and must have a value'],
      });
    },
  );
});

test('what may be a rename is asked, and done as answered', async () => {
  const { source, rows } = await furnished();
  await drifted('alter table things rename column old to older', 'alter table things rename column older to old', async () => {
    await expect(planRestore(operation, source, { leave })).rejects.toMatchObject({
      details: ['public.things.old is not here, and older is new: rename public.things.old=older if it is the same column, else leave public.things.old'],
    });
    await restore(source, { rename: { 'public.things.old': 'older' } });
    expect(await rows()).toMatchObject([{ older: 'old' }, { older: null }]);
    await database.query('update things set older = null');
    await restore(source, { leave: [...leave, 'public.things.old'] });
    expect(await rows()).toMatchObject([{ older: null }, { older: null }]);
  });
  await expect(restore(source, { rename: { 'public.things.nothing': 'x' } })).rejects.toMatchObject({ code: 'restore_refused' });
  await expect(restore(source, { rename: { 'public.things.old': 'x' } })).rejects.toMatchObject({ code: 'restore_refused' });
});

test('a type that changed is converted where every value comes back as it was', async () => {
  const { source, rows } = await furnished();
  await drifted(
    `alter table things alter column size type bigint, alter column price type numeric(12,4), alter column name type text, alter column mood type text`,
    `alter table things alter column size type integer, alter column price type numeric(10,2), alter column name type varchar(20), alter column mood type mood using mood::mood`,
    async () => {
      expect((await planRestore(operation, source, { leave })).notes).toContain(
        'public.things.size was integer and is bigint: converted where nothing is lost',
      );
      await restore(source);
      expect(await rows()).toMatchObject([
        { size: '7', price: '1.5000', mood: 'good' },
        { size: null, price: null, mood: null },
      ]);
    },
  );
});

test('a type that would lose something is refused with a list, whatever it is', async () => {
  const { source, rows } = await furnished();
  const before = await rows();
  await drifted(
    `update things set name = left(name, 3), price = round(price); alter table things alter column name type varchar(3), alter column price type integer, alter column old type date using null`,
    'alter table things alter column name type varchar(20), alter column price type numeric(10,2), alter column old type text',
    async () => {
      await expect(restore(source)).rejects.toMatchObject({
        code: 'restore_refused',
        details: [
          'public.things.name: some values would not be the same as character varying(3), where they were character varying(20)',
          'public.things.price: some values would not be the same as integer, where they were numeric(10,2)',
          'public.things.old: text cannot become date (SQLSTATE 22007)',
        ],
      });
    },
  );
  expect(await rows()).toMatchObject([{ id: next, name: 'wro' }]);
  expect(before).toHaveLength(1);
});

test('a type that a forged source names is a type, and no statement', async () => {
  const { source } = await furnished();
  const forged: TenantSource = {
    ...source,
    tables: source.tables.map((table) => ({
      ...table,
      columns: table.columns.map((column) =>
        column.name === 'size' ? { ...column, type: 'integer)::text from public.tenants; drop table public.things; --' } : column,
      ),
    })),
  };
  await restore(forged).catch(() => undefined);
  expect((await database.query(`select to_regclass('public.things') is not null as there`)).rows).toEqual([{ there: true }]);
});

test('a table without a key is named, a table that is gone is left out, a new one stays as it is', async () => {
  const { source, tenant, rows } = await furnished();
  await expect(restoreFrom(operation, source, { undo: async () => 'none' })).rejects.toMatchObject({
    details: ['public.logs has no key, so its rows cannot be told apart: leave public.logs'],
  });
  await database.query(`insert into logs values ('${tenant}', 'stays')`);
  await restore(source);
  const older: TenantSource = { ...source, tables: source.tables.filter(({ name }) => name !== 'public.things' && name !== 'public.logs') };
  const plan = await planRestore(operation, older);
  expect(plan.notes).toContain('public.things is newer than the backup: its rows stay as they are');
  await restoreFrom(operation, older, { undo: async () => 'none' });
  expect(await rows()).toHaveLength(2);
  expect((await database.query(`select from logs where tenant_id = '${tenant}'`)).rowCount).toBe(1);
});
