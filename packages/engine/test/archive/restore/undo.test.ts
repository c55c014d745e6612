import { connect, restoreFrom, type UndoBackup } from '@partywall/engine';
import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { schemaMark } from '../../../src/archive/restore/schema-mark.ts';
import { kept } from './kept-source.ts';

const fixture = await controlDatabase({
  schema: 'create table letters (id integer primary key, tenant_id uuid not null references tenants (id), title text not null, unique (tenant_id, id));',
  tables: { 'public.letters': { scope: 'scoped', column: 'tenant_id' } },
});
const { database } = fixture;
const operation = fixture.operation();
let last = 0;

async function damaged(name: string) {
  const tenant = await fixture.tenant(name);
  const first = last + 1;
  last += 10;
  await database.query(`insert into letters select n, '${tenant}', 'letter ' || n from generate_series(${first}, ${last}) n`);
  const source = await kept(operation, tenant);
  const whole = await letters(tenant);
  await database.query(`delete from letters where tenant_id = '${tenant}' and id % 2 = 0; update letters set title = 'wrong' where tenant_id = '${tenant}'`);
  return { tenant, source, whole, damage: await letters(tenant) };
}

async function letters(tenant: string): Promise<unknown> {
  return (await database.query(`select id, title from letters where tenant_id = '${tenant}' order by id`)).rows;
}

async function stateOf(tenant: string): Promise<string | undefined> {
  return (await database.query<{ state: string }>(`select state from partywall.registry where tenant_id = '${tenant}'`)).rows[0]?.state;
}

/** Until the restore has done all but to commit. */
async function applied(): Promise<void> {
  const waiting = `select from pg_stat_activity where datname = current_database() and state = 'idle in transaction' and query like '%hashtextextended(row(%'`;
  await expect.poll(async () => (await database.query(waiting)).rowCount, { timeout: 20_000, interval: 20 }).toBe(1);
}

describe('a restore', () => {
  test('goes on once the moment of its undo backup is fixed, and commits after that is stored', async () => {
    const { tenant, source, whole, damage } = await damaged('Alder');
    const seen: unknown[] = [];
    const undo: UndoBackup = async (_tenant, { fixed }) => {
      fixed();
      await applied();
      seen.push(await letters(tenant), await stateOf(tenant));
      return 'stored';
    };
    expect(await restoreFrom(operation, source, { undo })).toMatchObject({ applied: true, undo: 'stored' });
    expect(seen).toEqual([damage, 'fenced']);
    expect(await letters(tenant)).toEqual(whole);
    expect(await stateOf(tenant)).toBe('active');
  });

  test('whose undo backup fails after all has changed nothing and lets the tenant in', async () => {
    const { tenant, source, damage } = await damaged('Birch');
    const undo: UndoBackup = async (_tenant, { fixed }) => {
      fixed();
      await applied();
      throw new Error('the store is gone');
    };
    await expect(restoreFrom(operation, source, { undo })).rejects.toThrow('the store is gone');
    expect(await letters(tenant)).toEqual(damage);
    expect(await stateOf(tenant)).toBe('active');
  });

  test('that fails itself stops its undo backup, and ends after it', async () => {
    const { tenant, source, damage } = await damaged('Cedar');
    let ended = false;
    const undo: UndoBackup = async (_tenant, { fixed, signal }) => {
      const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      await database.query(`select partywall.set_state('${tenant}', 'active')`);
      fixed();
      await stopped;
      ended = true;
      return 'too late';
    };
    await expect(restoreFrom(operation, source, { undo })).rejects.toMatchObject({ code: 'restore_refused', message: expect.stringContaining('let it in') });
    expect(ended).toBe(true);
    expect(await letters(tenant)).toEqual(damage);
  });

  test('changes nothing before an undo backup that does not say when its moment is', async () => {
    const { tenant, source, whole } = await damaged('Dogwood');
    const undo: UndoBackup = async () => {
      const { rows } = await database.query(
        `select count(*)::int as inside from pg_stat_activity where datname = current_database() and state = 'idle in transaction'`,
      );
      expect(rows).toEqual([{ inside: 0 }]);
      return 'stored';
    };
    await restoreFrom(operation, source, { undo });
    expect(await letters(tenant)).toEqual(whole);
  });

  test('compares anew where a table was changed while it waited', async () => {
    const { tenant, source, whole } = await damaged('Elm');
    const undo: UndoBackup = async () => {
      await database.query(`alter table letters add column colour text default 'red'`);
      return 'stored';
    };
    const report = await restoreFrom(operation, source, { undo });
    expect(report.notes).toEqual([expect.stringContaining('public.letters.colour is new')]);
    expect(await letters(tenant)).toEqual(whole);
  });

  test('stages once more where its session was lost while it waited', async () => {
    const { tenant, source, whole } = await damaged('Fir');
    const undo: UndoBackup = async () => {
      const { rowCount } = await database.query(
        `select pg_terminate_backend(a.pid) from pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid() and a.state = 'idle' and a.query = 'commit'`,
      );
      expect(rowCount).toBeGreaterThan(0);
      await expect.poll(() => fixture.control.pool.idleCount).toBe(0);
      return 'stored';
    };
    await restoreFrom(operation, source, { undo });
    expect(await letters(tenant)).toEqual(whole);
  });

  test('beside more of them than may wait with what they staged succeeds like they do', async () => {
    const found = [];
    for (const name of ['Gorse', 'Hazel', 'Ivy']) found.push(await damaged(name));
    const all = Promise.withResolvers<void>();
    let waiting = 0;
    const undo: UndoBackup = async (_tenant, { fixed }) => {
      waiting += 1;
      if (waiting === found.length) all.resolve();
      await all.promise;
      fixed();
      return 'stored';
    };
    await Promise.all(found.map(({ source }) => restoreFrom(operation, source, { undo })));
    for (const { tenant, whole } of found) expect(await letters(tenant)).toEqual(whole);
  });
});

test('the mark of the schema changes with a table and what belongs to it, and not with rows, statistics and temporary tables', async () => {
  const client = await connect(database.url, { purpose: 'test' });
  try {
    let mark = await schemaMark(client);
    for (const same of [
      `insert into public.letters select 9000, id, 'x' from public.tenants limit 1`,
      'analyze public.letters',
      'create temporary table passing (id integer primary key)',
      'vacuum public.letters',
    ]) {
      await client.query(same);
      expect(await schemaMark(client), same).toBe(mark);
    }
    for (const other of [
      'alter table public.letters add column size integer',
      'alter table public.letters rename column size to weight',
      'alter table public.letters alter column weight type bigint',
      `alter table public.letters alter column weight set default 1`,
      'alter table public.letters drop column weight',
      'alter table public.letters add check (id > 0)',
      'create index on public.letters (title)',
      'create table public.sub (id integer primary key, letter integer references public.letters (id) on delete cascade)',
      'drop table public.sub',
      'create policy more on public.letters using (true)',
      'drop policy more on public.letters',
      'create trigger nothing before update on public.letters for each row execute function suppress_redundant_updates_trigger()',
      'alter table public.letters disable trigger nothing',
      'truncate public.letters',
    ]) {
      await client.query(other);
      const now = await schemaMark(client);
      expect(now, other).not.toBe(mark);
      mark = now;
    }
  } finally {
    await client.end();
  }
});
