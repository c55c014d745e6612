import type pg from 'pg';
import { beforeEach, describe, expect, test } from 'vitest';
import type { TestDatabase } from '../../../../test/support/database.ts';
import { createDatabase } from '../../../../test/support/database.ts';
import { sqlState } from '../../src/db/connect.ts';
import type { TenancyModel } from '../../src/model/model.ts';
import { parseModel } from '../../src/model/model.ts';
import { apply, contractAll, loadOwned, onDatabase, testRoles } from './databases.ts';

const roles = testRoles();
let database: TestDatabase;
let model: TenancyModel;

beforeEach(async () => {
  database = await createDatabase();
  await loadOwned(
    database.url,
    `create type standing as enum ('live', 'frozen', 'over', 'archive', 'trial');
     create table orgs ("org id" int primary key, "st at" standing not null default 'live', plan text);
     insert into orgs values (1, 'live', null), (2, 'frozen', null), (3, 'over', null), (4, 'archive', null), (5, 'trial', null);
     create table users (id int primary key, org int references orgs on update cascade); insert into users select i, i from generate_series(1, 5) i;`,
    roles.owner,
  );
  const status = { column: 'st at', values: { frozen: 'suspended', over: 'cancelled', archive: 'read_only' } } as const;
  model = parseModel({ tenant: { table: 'orgs', key: 'org id', status }, roles, tables: { users: { scope: 'scoped', column: 'org' } } });
});

async function states(): Promise<Record<number, string>> {
  const { rows } = await database.query<{ tenant_id: number; state: string }>('select tenant_id, state from partywall.registry order by 1');
  return Object.fromEntries(rows.map(({ tenant_id, state }) => [tenant_id, state]));
}

async function asOwner(statement: string): Promise<void> {
  await onDatabase(database.urlAs(roles.owner), (client) => client.query(statement));
}

/** `in`, or the SQLSTATE that kept it out. */
async function entering(tenant: string, client?: pg.Client): Promise<string | undefined> {
  const enter = (each: pg.Client) =>
    each.query('select partywall.enter($1)', [tenant]).then(
      () => 'in',
      (error: unknown) => sqlState(error),
    );
  return client ? enter(client) : onDatabase(database.urlAs(roles.app), enter);
}

describe('tenants register themselves', () => {
  test('those that are there when the wall is begun, with their status', async () => {
    await apply(database.url, model, 'expand');
    expect(await states()).toEqual({ 1: 'active', 2: 'suspended', 3: 'cancelled', 4: 'read_only', 5: 'active' });
  });

  test('new ones in the transaction that creates them, with their status, and not when that rolls back', async () => {
    await apply(database.url, model, 'expand');
    await asOwner("insert into orgs values (6); insert into orgs values (7, 'frozen')");
    await asOwner('begin; insert into orgs values (8); rollback');
    expect(await states()).toMatchObject({ 6: 'active', 7: 'suspended' });
    expect(Object.keys(await states())).not.toContain('8');
    expect(await entering('6')).toBe('in');
  });

  test('those that are deleted, truncated or given another key', async () => {
    await apply(database.url, model, 'expand');
    await asOwner('delete from users where id = 5; delete from orgs where "org id" = 5; update orgs set "org id" = 20 where "org id" = 2');
    expect(await states()).toEqual({ 1: 'active', 3: 'cancelled', 4: 'read_only', 20: 'suspended' });
    await asOwner('truncate orgs cascade');
    expect(await states()).toEqual({});
    await asOwner('insert into orgs values (20)');
    expect(await states()).toEqual({ 20: 'active' });
  });

  test('every change of the mapped status, also one that a trigger of the application makes, and no other', async () => {
    await database.query(`create function plan_ends() returns trigger language plpgsql as $$ begin if new.plan = 'none' then new."st at" := 'frozen'; end if; return new; end $$;
      create trigger plan_ends before update on orgs for each row execute function plan_ends()`);
    await apply(database.url, model, 'expand');
    await asOwner(
      `update orgs set "st at" = 'live' where "org id" = 2; update orgs set plan = 'none' where "org id" = 1; update orgs set "st at" = 'trial' where "org id" = 3`,
    );
    expect(await states()).toMatchObject({ 1: 'suspended', 2: 'active', 3: 'active' });
    await database.query("select partywall.set_state('5', 'suspended', 'unpaid')");
    await asOwner(`update orgs set plan = 'gold' where "org id" = 5; update orgs set "st at" = 'live' where "org id" = 5`);
    // Trial and live are both active to the model, so the operator's suspension stands.
    expect(await states()).toMatchObject({ 5: 'suspended' });
  });

  test('an upgrade of the runtime keeps what an operator set, and lets nobody in whom the application keeps out', async () => {
    await apply(database.url, model, 'expand');
    await database.query("select partywall.set_state('1', 'suspended', 'unpaid')");
    await database.query("delete from partywall.facts where name = 'runtime'");
    await database.query("update partywall.registry set state = 'active' where tenant_id = 3");
    expect((await apply(database.url, model, 'expand')).applied).toContain('expand/runtime');
    expect(await states()).toEqual({ 1: 'suspended', 2: 'suspended', 3: 'cancelled', 4: 'read_only', 5: 'active' });
  });
});

describe('entering', () => {
  test('is for tenants that are known and not kept out, whatever the text of their key', async () => {
    await contractAll(database.url, model);
    expect(await entering('1')).toBe('in');
    expect(await entering('2')).toBe('PW003');
    expect(await entering('3')).toBe('PW004');
    expect(await entering('99')).toBe('PW002');
    expect(await entering('one')).toBe('22P02');
    expect(await entering('')).toBe('22P02');
    expect(await entering("1' or true")).toBe('22P02');
  });

  test('a tenant that may only be read admits reading and nothing else', async () => {
    await contractAll(database.url, model);
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query("begin; select partywall.enter('4')");
      expect((await client.query('select id from users')).rows).toEqual([{ id: 4 }]);
      await expect(client.query('update users set id = id')).rejects.toMatchObject({ code: '25006' });
      await client.query('rollback');
    });
  });

  test('after a suspension is refused at once, also to a transaction whose snapshot is older', async () => {
    await contractAll(database.url, model);
    const asSystem = (statement: string) => onDatabase(database.urlAs(roles.system), (client) => client.query(statement));
    await onDatabase(database.urlAs(roles.app), async (old) => {
      await old.query('begin isolation level repeatable read');
      await old.query('select pg_current_snapshot()');
      await asSystem(`update orgs set "st at" = 'frozen' where "org id" = 1`);
      expect(await entering('1')).toBe('PW003');
      expect(await entering('1', old)).toBe('40001');
      await old.query('rollback; begin isolation level repeatable read');
      expect(await entering('1', old)).toBe('PW003');
      await old.query('rollback');
    });
    await asSystem(`update orgs set "st at" = 'live' where "org id" = 1`);
    expect(await entering('1')).toBe('in');
  });

  test('a tenant can be deleted with all that the application’s own cascades take along, and not while something of it stays', async () => {
    await database.query(`create table visits (id int primary key, user_id int references users on delete cascade); insert into visits values (1, 1), (2, 2);
      create table lines (id int primary key, visit_id int references visits on delete cascade); insert into lines values (1, 1), (2, 2);
      alter table users drop constraint users_org_fkey, add constraint users_org_fkey foreign key (org) references orgs on delete cascade;
      create table papers (id int primary key, org int); insert into papers values (2, 2)`);
    const wider = parseModel({
      tenant: { table: 'orgs', key: 'org id' },
      roles,
      tables: {
        users: { scope: 'scoped', column: 'org' },
        papers: { scope: 'scoped', column: 'org' },
        visits: { scope: 'scoped', column: 'org', through: { table: 'users', columns: 'user_id' } },
        lines: { scope: 'scoped', column: 'org', through: { table: 'visits', columns: 'visit_id' } },
      },
    });
    await contractAll(database.url, wider);
    await onDatabase(database.urlAs(roles.system), async (client) => {
      await client.query('delete from orgs where "org id" = 1');
      expect((await client.query('select id from lines')).rows).toEqual([{ id: 2 }]);
      await expect(client.query('delete from orgs where "org id" = 2')).rejects.toMatchObject({ code: '23503', table: 'papers' });
    });
    expect(Object.keys(await states())).toEqual(['2', '3', '4', '5']);
  });

  test('the application sees its own row of the root, may change it, and makes or deletes none', async () => {
    await contractAll(database.url, model);
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query("begin; select partywall.enter('1')");
      expect((await client.query('select "org id" from orgs')).rows).toEqual([{ 'org id': 1 }]);
      expect((await client.query("update orgs set plan = 'silver'")).rowCount).toBe(1);
      await client.query('commit');
      for (const statement of ['insert into orgs values (50)', 'delete from orgs', 'truncate orgs']) {
        await client.query("begin; select partywall.enter('1')");
        await expect(client.query(statement), statement).rejects.toMatchObject({ code: '42501' });
        await client.query('rollback');
      }
    });
  });
});
