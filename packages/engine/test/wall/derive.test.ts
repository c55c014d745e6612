import { describe, expect, test } from 'vitest';
import type { TestDatabase } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { planWall } from '../../src/wall/plan.ts';
import { apply, onDatabase, rollback, small, testRoles, withCatalogClient } from './databases.ts';

const roles = testRoles();
const owned = { scope: 'scoped', column: 'tenant_id' } as const;
const users = 'create table users (id int primary key, tenant_id int not null references tenants); insert into users values (1, 1), (2, 2), (11, 1);';

async function tenantsOf(database: TestDatabase, table: string): Promise<unknown[]> {
  return (await database.query<{ tenant_id: unknown }>(`select tenant_id from ${table} order by id`)).rows.map((row) => row.tenant_id);
}

describe('between expand and contract a row that does not name its tenant', () => {
  test('gets its parent’s, follows a new parent, and keeps its own when it loses its parent', async () => {
    const { database, model } = await small(
      roles,
      `${users} create table visits (id int primary key, user_id int references users on delete set null, other_id int);`,
      { users: owned, visits: { scope: 'scoped', through: { table: 'users', columns: 'user_id' } } },
    );
    await apply(database.url, model, 'expand');
    await onDatabase(database.urlAs(roles.owner), async (client) => {
      await client.query('insert into visits values (1, 1), (2, 2), (3, null)');
      expect(await tenantsOf(database, 'visits')).toEqual([1, 2, null]);
      await client.query('update visits set user_id = 2 where id = 1');
      await client.query('update visits set user_id = 11 where id = 3');
      expect(await tenantsOf(database, 'visits')).toEqual([2, 2, 1]);
      await client.query('delete from users where id = 2');
      expect((await database.query('select user_id, tenant_id from visits order by id')).rows).toEqual([
        { user_id: null, tenant_id: 2 },
        { user_id: null, tenant_id: 2 },
        { user_id: 11, tenant_id: 1 },
      ]);
    });
  });

  test('gets the first that any of several nullable ways leads to', async () => {
    const { database, model } = await small(
      roles,
      `${users} create table teams (id int primary key, tenant_id int references tenants); insert into teams values (1, 1), (2, 2), (3, null);
       create table visits (id int primary key, user_id int references users, team_id int references teams);
       insert into visits values (1, 1, null), (2, null, 2), (3, 2, 3), (4, 1, 2), (5, null, 3);`,
      {
        users: owned,
        teams: owned,
        visits: {
          scope: 'scoped',
          through: [
            { table: 'teams', columns: 'team_id' },
            { table: 'users', columns: 'user_id' },
          ],
        },
      },
    );
    const { troubled } = await apply(database.url, model, 'expand');
    expect(await tenantsOf(database, 'visits')).toEqual([1, 2, 2, 2, null]);
    await onDatabase(database.urlAs(roles.owner), (client) => client.query('insert into visits select id + 10, user_id, team_id from visits'));
    expect((await tenantsOf(database, 'visits')).slice(5)).toEqual([1, 2, 2, 2, null]);
    // The ways of row 4 disagree.
    expect(troubled.filter(({ kind }) => kind === 'crosses tenants')).toEqual([
      { table: 'public.visits', kind: 'crosses tenants', constraint: 'visits_user_id_fkey', count: 1, sample: ['4'] },
    ]);
  });

  test('gets it whatever trigger of the application’s own sets the parent, before or on another column’s change', async () => {
    const { database, model } = await small(
      roles,
      `${users} create table visits (id int primary key, user_id int references users, wish int);
       create function set_user() returns trigger language plpgsql as $$ begin new.user_id := new.wish; return new; end $$;
       create trigger set_user before insert or update on visits for each row execute function set_user();`,
      { users: owned, visits: { scope: 'scoped', through: { table: 'users', columns: 'user_id' } } },
    );
    await apply(database.url, model, 'expand');
    await onDatabase(database.urlAs(roles.owner), async (client) => {
      await client.query('insert into visits (id, wish) values (1, 1), (2, 2)');
      await client.query('update visits set wish = 2 where id = 1');
    });
    expect(await tenantsOf(database, 'visits')).toEqual([2, 2]);
  });

  test('gets the context’s where no parent says it, in which the application already is', async () => {
    const { database, model } = await small(
      roles,
      `${users} create table visits (id int primary key, user_id int references users); create table settings (id int primary key);
       create table orders (id int primary key, user_id int not null references users, settings_id int not null references settings);`,
      {
        users: owned,
        visits: { scope: 'scoped', through: { table: 'users', columns: 'user_id' } },
        orders: { scope: 'scoped', through: { table: 'users', columns: 'user_id' } },
        settings: { scope: 'scoped', through: { table: 'orders', columns: 'id', references: 'settings_id' } },
      },
    );
    await apply(database.url, model, 'expand');
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query("begin; select partywall.enter('2'); insert into visits values (1, null), (2, 1); insert into settings values (5); commit");
    });
    expect(await tenantsOf(database, 'visits')).toEqual([2, 1]);
    expect(await tenantsOf(database, 'settings')).toEqual([2]);
  });

  test('is handed down by the row that owns it, also from the root', async () => {
    const { database, model } = await small(
      roles,
      `create table themes (id int primary key); insert into themes values (1), (2), (3); alter table tenants add theme_id int references themes; update tenants set theme_id = id where id = 1;`,
      { themes: { scope: 'scoped', through: { table: 'tenants', columns: 'id', references: 'theme_id' } } },
    );
    await apply(database.url, model, 'expand');
    expect(await tenantsOf(database, 'themes')).toEqual([1, null, null]);
    await onDatabase(database.urlAs(roles.owner), async (client) => {
      await client.query('update tenants set theme_id = 2 where id = 2; insert into tenants values (3, 3)');
    });
    expect(await tenantsOf(database, 'themes')).toEqual([1, 2, 3]);
    await apply(database.url, model, 'contract');
    expect(planWall(model, await withCatalogClient(database.url, readCatalog)).steps).toEqual([]);
    await rollback(database.url, model, 'nothing');
    expect((await database.query('select tgname from pg_trigger where not tgisinternal')).rows).toEqual([]);
  });

  test('is derived anew when the model’s path is corrected', async () => {
    const { database, model } = await small(
      roles,
      `${users} create table visits (id int primary key, guest_id int, user_id int); insert into visits values (1, 2, 1);`,
      { users: owned, visits: { scope: 'scoped', through: { table: 'users', columns: 'guest_id' } } },
    );
    await apply(database.url, model, 'expand');
    const { model: corrected } = await small(roles, `${users} create table visits (id int primary key, guest_id int, user_id int)`, {
      users: owned,
      visits: { scope: 'scoped', through: { table: 'users', columns: 'user_id' } },
    });
    expect((await apply(database.url, corrected, 'expand')).applied).toContain('expand/derive/public.visits');
    await onDatabase(database.urlAs(roles.owner), (client) => client.query('insert into visits values (2, 1, 2)'));
    expect((await tenantsOf(database, 'visits'))[1]).toBe(2);
  });

  test('is filled again where the column was dropped and is added anew', async () => {
    const { database, model } = await small(
      roles,
      `${users} create table visits (id int primary key, user_id int references users); insert into visits values (1, 1), (2, 2)`,
      { users: owned, visits: { scope: 'scoped', through: { table: 'users', columns: 'user_id' } } },
    );
    await apply(database.url, model, 'expand');
    await database.query('alter table visits drop column tenant_id');
    const { troubled } = await apply(database.url, model, 'expand');
    expect(troubled).toEqual([]);
    expect(await tenantsOf(database, 'visits')).toEqual([1, 2]);
  });
});

describe('a reference', () => {
  test('to one partition by its name gets a key of its own', async () => {
    const { database, model } = await small(
      roles,
      `create table events (id int not null, tenant_id int not null, at date not null) partition by range (at);
       create table events_old partition of events for values from (minvalue) to ('2025-01-01'); alter table events_old add primary key (id);
       create table notes (id int primary key, event_id int references events_old); insert into events values (1, 1, '2020-01-01'), (2, 2, '2020-01-01'); insert into notes values (1, 1), (2, 2);`,
      { events: owned, notes: { scope: 'scoped', through: { table: 'events', columns: 'event_id' } } },
    );
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
    const { rows } = await database.query("select pg_get_constraintdef(oid) as definition from pg_constraint where conname = 'notes_event_id_fkey'");
    expect(rows).toEqual([{ definition: 'FOREIGN KEY (tenant_id, event_id) REFERENCES events_old(tenant_id, id)' }]);
    expect(planWall(model, await withCatalogClient(database.url, readCatalog)).steps).toEqual([]);
  });
});
