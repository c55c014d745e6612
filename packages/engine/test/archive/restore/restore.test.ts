import { planRestore, type RestoreInput, type RestoreReport, restoreFrom, suspendTenant, type TenantSource } from '@partywall/engine';
import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { holdOut } from '../../../src/archive/restore/hold-out.ts';
import { changed, kept } from './kept-source.ts';

const fixture = await controlDatabase({
  schema: `
    create table teams (id serial primary key, tenant_id uuid not null references tenants (id), name text not null, lead_id integer, above_id integer references teams (id));
    create table players (id integer generated always as identity primary key, tenant_id uuid not null references tenants (id), team_id integer not null references teams (id) on delete cascade, name text not null);
    alter table teams add foreign key (lead_id) references players (id);
    create table steps (id integer primary key, tenant_id uuid not null references tenants (id), position integer not null, unique (tenant_id, position));
    create table step_notes (id integer primary key, step_id integer not null references steps (id) on delete cascade, body text not null);
    create table step_marks (id integer primary key, tenant_id uuid not null references tenants (id), step_id integer not null references steps (id), after_id integer references step_marks (id));
    create table outbox (id bigserial primary key, mail text not null);
    create table letters (id integer primary key, tenant_id uuid not null references tenants (id), title text not null);
    create function send() returns trigger language plpgsql security definer as $$ begin
      if current_setting('partywall.restoring', true) is distinct from 'on' then insert into public.outbox (mail) values (new.title); end if;
      return null;
    end $$;
    create trigger send after insert or update on letters for each row execute function send();
    create table tokens (id integer primary key, tenant_id uuid not null references tenants (id), token text not null unique);
    create table links (id serial primary key, token_id integer not null references tokens (id) on delete cascade);`,
  tables: {
    'public.teams': { scope: 'scoped', column: 'tenant_id' },
    'public.players': { scope: 'scoped', column: 'tenant_id' },
    'public.steps': { scope: 'scoped', column: 'tenant_id' },
    'public.step_notes': { scope: 'scoped', through: { table: 'public.steps', columns: 'step_id' } },
    'public.step_marks': { scope: 'scoped', column: 'tenant_id' },
    'public.outbox': { scope: 'platform' },
    'public.letters': { scope: 'scoped', column: 'tenant_id' },
    'public.tokens': { scope: 'scoped', column: 'tenant_id', uniques: { tokens_token_key: 'global' } },
    'public.links': { scope: 'platform' },
  },
});
const { database } = fixture;
const operation = fixture.operation();

/** The undo backup of these tests is a copy in memory. */
const undone = new Map<string, TenantSource>();
async function undo(tenant: string): Promise<string> {
  const id = `undo ${undone.size + 1}`;
  undone.set(id, await kept(operation, tenant));
  return id;
}

function restore(source: TenantSource, input: RestoreInput = {}): Promise<RestoreReport & { undo: string }> {
  return restoreFrom(operation, source, { ...input, undo });
}

/** Hash of the rows of every tenant but one, table by table, read as the owner. */
async function others(tenant: string): Promise<unknown> {
  const { rows } = await database.query<{ sql: string }>(
    `select string_agg(format('select %L as name, count(*), md5(string_agg(t::text, chr(10) order by t::text)) as hash from %s t where %s', c.oid::regclass, c.oid::regclass,
       case when a.attname is null then 'true' else format('t.%I is distinct from %L', a.attname, $1::text) end), ' union all ' order by c.oid::regclass::text) as sql
     from pg_class c left join lateral (select attname from pg_attribute where attrelid = c.oid and attname in ('tenant_id', 'partywall_tenant_id') or attrelid = c.oid and c.relname = 'tenants' and attname = 'id' limit 1) a on true
     where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'`,
    [tenant],
  );
  return (await database.query(rows[0]?.sql ?? '')).rows;
}

async function furnished(name: string): Promise<string> {
  const tenant = await fixture.tenant(name);
  const base = 1000 * (await count('tenants'));
  await database.query(`insert into customers (tenant_id, name, revenue, country_code) select '${tenant}', 'customer ' || n, n * 1.5, 'NO' from generate_series(1, 20) n;
    insert into notes (customer_id, body, partywall_tenant_id) select id, E'tab\\tback\\\\slash\\nline', tenant_id from customers where tenant_id = '${tenant}';
    insert into teams (id, tenant_id, name) values (${base + 1}, '${tenant}', 'red'), (${base + 2}, '${tenant}', 'blue');
    update teams set above_id = ${base + 1} where id = ${base + 2};
    insert into players (id, tenant_id, team_id, name) overriding system value values (${base + 1}, '${tenant}', ${base + 1}, 'a'), (${base + 2}, '${tenant}', ${base + 2}, 'b');
    update teams set lead_id = id where tenant_id = '${tenant}';
    insert into steps values (${base + 1}, '${tenant}', 1), (${base + 2}, '${tenant}', 2);
    insert into step_notes (id, step_id, body, partywall_tenant_id) values (${base + 1}, ${base + 1}, 'note', '${tenant}');
    insert into step_marks values (${base + 1}, '${tenant}', ${base + 1}, null), (${base + 2}, '${tenant}', ${base + 2}, ${base + 1});
    insert into letters values (${base + 1}, '${tenant}', 'hello'); insert into tokens values (${base + 1}, '${tenant}', 'token ${base + 1}')`);
  return tenant;
}

async function count(table: string, where = 'true'): Promise<number> {
  const { rows } = await database.query<{ count: string }>(`select count(*) from ${table} where ${where}`);
  return Number(rows[0]?.count);
}

async function texts(tenant: string): Promise<Map<string, string>> {
  const source = await kept(operation, tenant);
  const found = new Map<string, string>();
  for (const table of source.tables) {
    let text = '';
    for await (const piece of source.rows(table)) text += piece.toString('utf8');
    found.set(table.name, text);
  }
  return found;
}

async function damage(tenant: string): Promise<void> {
  await database.query(`delete from notes where partywall_tenant_id = '${tenant}'; update teams set lead_id = null, above_id = null where tenant_id = '${tenant}';
    delete from players where tenant_id = '${tenant}'; delete from customers where tenant_id = '${tenant}' and revenue < 15;
    update customers set name = 'wrong', country_code = null where tenant_id = '${tenant}' and revenue < 20;
    insert into customers (tenant_id, name) values ('${tenant}', 'new'); insert into teams (tenant_id, name) values ('${tenant}', 'new');
    update steps set position = position + 10 where tenant_id = '${tenant}'; update steps set position = 13 - position where tenant_id = '${tenant}';
    update letters set title = 'changed' where tenant_id = '${tenant}'`);
}

const neighbour = await furnished('Neighbour');

describe('a restored tenant', () => {
  test('has the rows of the backup, and its neighbours have theirs', async () => {
    const tenant = await furnished('Alder');
    const before = await texts(tenant);
    const source = await kept(operation, tenant);
    await damage(tenant);
    const mails = await count('outbox');
    const around = await others(tenant);

    const plan = await planRestore(operation, source);
    expect(plan.conflicts).toEqual([]);
    expect(plan.tables.find(({ table }) => table === 'public.customers')).toEqual({
      table: 'public.customers',
      inserted: 9,
      updated: 4,
      deleted: 1,
      unchanged: 7,
    });
    expect(await texts(tenant)).not.toEqual(before);
    const report = await restore(source, { prove: 'hash' });

    expect(report.tables).toEqual(plan.tables);
    expect(report.triggers).toEqual(['public.letters: send (public.send)']);
    expect(report.proof).toMatchObject({ neighbours: { tenants: (await count('tenants')) - 1 } });
    expect(await texts(tenant)).toEqual(before);
    expect(await others(tenant)).toEqual(around);
    expect(await count('outbox')).toBe(mails);
    // The next row meets none that is there.
    await database.query(`insert into players (tenant_id, team_id, name) select tenant_id, id, 'next' from teams where tenant_id = '${tenant}' limit 1`);
    expect(await restore(source)).toMatchObject({ applied: true });
  });

  test('is as it was before the restore when the undo backup is restored', async () => {
    const tenant = await furnished('Birch');
    const source = await kept(operation, tenant);
    await damage(tenant);
    const damaged = await texts(tenant);
    const { undo: id } = await restore(source);
    expect(await texts(tenant)).not.toEqual(damaged);
    const back = undone.get(id);
    if (!back) throw new Error('there is no undo backup');
    await restore(back);
    expect(await texts(tenant)).toEqual(damaged);
  });

  test('is restored again without a change', async () => {
    const tenant = await furnished('Cedar');
    const source = await kept(operation, tenant);
    await restore(source);
    const report = await restore(source);
    expect(report.tables.every(({ inserted, updated, deleted }) => inserted + updated + deleted === 0)).toBe(true);
    expect(report.corrected).toBe(0);
  });

  test('keeps status and plan, which the lifecycle alone changes, and stays out when it was suspended', async () => {
    const tenant = await furnished('Dogwood');
    const source = await kept(operation, tenant);
    await suspendTenant(operation, { tenant });
    await database.query(`update tenants set name = 'Renamed' where id = '${tenant}'`);
    await restore(source);
    const { rows } = await database.query(
      `select t.name, t.status, g.state from tenants t join partywall.registry g on g.tenant_id = t.id where t.id = '${tenant}'`,
    );
    expect(rows).toEqual([{ name: 'Dogwood', status: 'suspended', state: 'suspended' }]);
  });

  test('is restored in some of its tables alone', async () => {
    const tenant = await furnished('Elm');
    const source = await kept(operation, tenant);
    await database.query(
      `update customers set name = 'wrong' where tenant_id = '${tenant}'; update steps set position = position + 5 where tenant_id = '${tenant}'`,
    );
    const report = await restore(source, { tables: ['public.customers'] });
    expect(report.tables.map(({ table }) => table)).toEqual(['public.customers']);
    expect(await count('customers', `tenant_id = '${tenant}' and name = 'wrong'`)).toBe(0);
    expect(await count('steps', `tenant_id = '${tenant}' and position > 5`)).toBe(2);
    await expect(restore(source, { tables: ['public.nothing'] })).rejects.toMatchObject({ code: 'restore_refused' });
  });

  test('does not get back who was erased since, nor what hangs on them', async () => {
    const tenant = await furnished('Fir');
    const { rows } = await database.query<{ id: string }>(`insert into users (tenant_id, email, name) values ('${tenant}', 'x@y.example', 'X') returning id`);
    const user = rows[0]?.id ?? '';
    await database.query(`update customers set owner_id = '${user}' where tenant_id = '${tenant}' and name = 'customer 1'`);
    const customer = (await database.query<{ id: string }>(`select id from customers where tenant_id = '${tenant}' and name = 'customer 2'`)).rows[0]?.id ?? '';
    const source = await kept(operation, tenant);
    await database.query(`delete from users where id = '${user}'; delete from customers where id = '${customer}'`);
    const forget = source.tables.flatMap(({ name }) => {
      if (name === 'public.users') return [{ table: name, key: { id: user } }];
      return name === 'public.customers' ? [{ table: name, key: { id: customer } }] : [];
    });
    const report = await restore(source, { forget });
    expect(report.forgotten).toBe(4);
    expect(await count('users', `tenant_id = '${tenant}'`)).toBe(0);
    expect(await count('customers', `tenant_id = '${tenant}'`)).toBe(19);
    expect(await count('notes', `partywall_tenant_id = '${tenant}'`)).toBe(19);
  });
});

describe('what would reach a neighbour or be lost stops a restore with a list', () => {
  test('rows that moved to another tenant, unique values that another took, parents that vanished, rows that point in', async () => {
    const tenant = await furnished('Gorse');
    await database.query(`insert into countries values ('XX', 'Gone')`);
    await database.query(`update customers set country_code = 'XX' where tenant_id = '${tenant}' and name = 'customer 3'`);
    const source = await kept(operation, tenant);
    const { rows } = await database.query<{ id: number; token: string }>(`select id, token from tokens where tenant_id = '${tenant}'`);
    const { id = 0, token = '' } = rows[0] ?? {};
    await database.query(`update customers set country_code = null where tenant_id = '${tenant}'; delete from countries where code = 'XX';
      delete from tokens where id = ${id}; insert into tokens values (${id}, '${neighbour}', 'moved'), (90001, '${neighbour}', '${token}'), (90002, '${tenant}', 'pointed at');
      insert into links (token_id) values (90002)`);
    const around = await others(tenant);
    const { conflicts } = await planRestore(operation, source);
    expect(conflicts).toEqual([
      'public.customers: ("country_code") = (XX) refers to a row of public.countries that is not there any more',
      `public.tokens: ("id") = (${id}) belongs to another tenant now`,
      `public.tokens: ("token") = (${token}) belongs to another tenant now`,
      'public.tokens: ("id") = (90002) would be deleted, and a row of public.links that stays refers to it',
    ]);
    const undos = undone.size;
    await expect(restore(source)).rejects.toMatchObject({ code: 'restore_conflict', details: conflicts });
    expect(undone.size).toBe(undos);
    expect(await others(tenant)).toEqual(around);
    const { rows: state } = await database.query(`select state from partywall.registry where tenant_id = '${tenant}'`);
    expect(state).toEqual([{ state: 'active' }]);
    await database.query('delete from links; delete from tokens where id > 90000');
  });

  test('a trigger that does not ask for the setting and writes mail', async () => {
    const tenant = await furnished('Hazel');
    const source = await kept(operation, tenant);
    await database.query(`update letters set title = 'changed' where tenant_id = '${tenant}'`);
    const changedText = await texts(tenant);
    await database.query(
      `create or replace function send() returns trigger language plpgsql security definer as $$ begin insert into public.outbox (mail) values (new.title); return null; end $$`,
    );
    const mails = await count('outbox');
    await expect(restore(source)).rejects.toMatchObject({
      code: 'restore_conflict',
      details: [expect.stringMatching(/^public\.outbox: it is no tenant’s, and changed/)],
    });
    expect(await count('outbox')).toBe(mails);
    expect(await texts(tenant)).toEqual(changedText);
    await database.query(`create or replace function send() returns trigger language plpgsql security definer as $$ begin return null; end $$`);
  });

  test('a trigger that updates, swaps or truncates what is a neighbour’s', async () => {
    const tenant = await furnished('Ivy');
    const source = await kept(operation, tenant);
    await database.query(`update letters set title = 'changed' where tenant_id = '${tenant}'`);
    const around = await others(tenant);
    const meddling = [
      [`update public.letters set title = title where tenant_id = '${neighbour}'`, /^public\.letters: a row of another tenant was written/],
      [
        `begin update public.letters set title = title where tenant_id = '${neighbour}'; exception when no_data_found then null; end`,
        /a row of another tenant was written/,
      ],
      [`delete from public.letters where tenant_id = '${neighbour}'`, /rows of another tenant came or went/],
      [
        `delete from public.letters where tenant_id = '${neighbour}'; insert into public.letters values (-1, '${neighbour}', 'x')`,
        /a row of another tenant was written/,
      ],
      ['truncate public.outbox', /^public\.outbox: something took \w+Lock/],
    ] as const;
    for (const [statement, problem] of meddling) {
      await database.query(
        `create or replace function send() returns trigger language plpgsql security definer as $$ begin if pg_trigger_depth() = 1 then ${statement}; end if; return null; end $$`,
      );
      await expect(restore(source), statement).rejects.toMatchObject({ code: 'restore_conflict', details: [expect.stringMatching(problem)] });
      expect(await others(tenant), statement).toEqual(around);
    }
    await database.query(`create or replace function send() returns trigger language plpgsql as $$ begin return null; end $$`);
    expect(await restore(source)).toMatchObject({ applied: true });
  });

  test('counters that are off', async () => {
    const tenant = await furnished('Juniper');
    const source = await kept(operation, tenant);
    // Sessions keep what they began with.
    const begun = async (change: string): Promise<void> => {
      await database.query(`alter database "${database.name}" ${change}`);
      await database.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()');
      await expect.poll(() => fixture.control.pool.idleCount).toBe(0);
    };
    await begun('set track_counts = off');
    await expect(restore(source)).rejects.toMatchObject({ code: 'restore_conflict' });
    await begun('reset track_counts');
    expect(await restore(source)).toMatchObject({ applied: true });
  });
});

test('a tenant that somebody else holds out is not restored and stays held out; one that is let in meanwhile is not changed', async () => {
  const tenant = await furnished('Nettle');
  const source = await kept(operation, tenant);
  await damage(tenant);
  const damaged = await texts(tenant);
  const state = async () => (await database.query(`select state, reason from partywall.registry where tenant_id = '${tenant}'`)).rows;
  await database.query(`select partywall.set_state('${tenant}', 'fenced', 'being moved')`);
  await expect(restore(source)).rejects.toMatchObject({ code: 'restore_refused', message: expect.stringContaining('being moved') });
  expect(await state()).toEqual([{ state: 'fenced', reason: 'being moved' }]);
  await database.query(`select partywall.set_state('${tenant}', 'active')`);
  const letting = async (): Promise<string> => {
    await database.query(`select partywall.set_state('${tenant}', 'active')`);
    return 'none';
  };
  await expect(restoreFrom(operation, source, { undo: letting })).rejects.toMatchObject({
    code: 'restore_refused',
    message: expect.stringContaining('let it in'),
  });
  expect(await texts(tenant)).toEqual(damaged);
});

test('a read-only tenant is read-only again: after its restore, after one that was cut off, and where somebody inside does not leave', async () => {
  const tenant = await furnished('Osier');
  const source = await kept(operation, tenant);
  const state = async () => (await database.query(`select state, reason from partywall.registry where tenant_id = '${tenant}'`)).rows;
  await database.query(`select partywall.set_state('${tenant}', 'read_only')`);
  expect(await restore(source)).toMatchObject({ applied: true });
  expect(await state()).toEqual([{ state: 'read_only', reason: null }]);
  await holdOut(operation, tenant);
  expect(await restore(source)).toMatchObject({ applied: true });
  expect(await state()).toEqual([{ state: 'read_only', reason: null }]);
  // Nobody ends a session that holds it like this.
  const key = `pg_catalog.hashtextextended('partywall:${tenant}', 0)`;
  await database.query(`select pg_catalog.pg_advisory_lock(${key})`);
  try {
    await expect(restore(source)).rejects.toMatchObject({ code: 'fence_incomplete' });
  } finally {
    await database.query(`select pg_catalog.pg_advisory_unlock(${key})`);
  }
  expect(await state()).toEqual([{ state: 'read_only', reason: null }]);
});

describe('a poisoned source', () => {
  test('with a row of another tenant changes nothing', async () => {
    const tenant = await furnished('Kapok');
    const source = await kept(operation, tenant);
    const around = await others(tenant);
    const forged = changed(source, 'public.letters', { rows: (text) => text.replace(tenant, neighbour) });
    await expect(restore(forged)).rejects.toMatchObject({ code: 'restore_refused', message: expect.stringContaining('belongs to another tenant') });
    expect(await others(tenant)).toEqual(around);
  });

  test('reaches no neighbour even where nothing looks at it first: the statements are bound', async () => {
    const tenant = await furnished('Larch');
    const around = await others(tenant);
    const service = fixture.control.pool;
    const bound = (statement: string) => service.query<{ changed: string }>('select partywall_control.run_bound($1, $2) as changed', [tenant, statement]);
    expect((await bound(`update public.letters set title = 'mine' where tenant_id = '${neighbour}'`)).rows).toEqual([{ changed: '0' }]);
    await expect(bound('delete from public.links')).rejects.toMatchObject({ code: '42501' });
    expect((await bound(`delete from public.step_notes where partywall_tenant_id <> $1`)).rows).toEqual([{ changed: '0' }]);
    await expect(bound(`insert into public.letters values (-5, '${neighbour}', 'planted')`)).rejects.toMatchObject({ code: '42501' });
    await expect(bound(`update public.letters set tenant_id = '${neighbour}'`)).rejects.toMatchObject({ code: '42501' });
    await expect(bound('truncate public.letters')).rejects.toMatchObject({ code: '42501' });
    await expect(bound('alter table public.letters disable row level security')).rejects.toMatchObject({ code: '42501' });
    await expect(bound('select * from partywall_control.directory')).rejects.toMatchObject({ code: '42501' });
    expect(await others(tenant)).toEqual(around);
  });

  test('with other rows than it states, a doubled key or none of its root changes nothing', async () => {
    const tenant = await furnished('Maple');
    const source = await kept(operation, tenant);
    const before = await texts(tenant);
    await expect(restore(changed(source, 'public.letters', { rows: () => '' }))).rejects.toMatchObject({ code: 'archive_damaged' });
    await expect(restore(changed(source, 'public.letters', { table: { count: 2 }, rows: (text) => text + text }))).rejects.toMatchObject({
      code: 'restore_refused',
    });
    await expect(restore(changed(source, 'public.tenants', { table: { count: 0 }, rows: () => '' }))).rejects.toMatchObject({ code: 'restore_refused' });
    await expect(restore(changed(source, 'public.letters', { rows: (text) => text.replace(/^\d+/, 'x') }))).rejects.toMatchObject({ code: 'restore_refused' });
    expect(await texts(tenant)).toEqual(before);
  });
});
