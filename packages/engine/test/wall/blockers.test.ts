import { describe, expect, test } from 'vitest';
import type { TestDatabase } from '../../../../test/support/database.ts';
import type { TenancyConfig, TenancyModel } from '../../src/model/model.ts';
import { apply, onDatabase, small, testRoles } from './databases.ts';
import { stateOf } from './state.ts';

const roles = testRoles();
const owned = { scope: 'scoped', column: 'tenant_id' } as const;
const byUsers = { scope: 'scoped', through: { table: 'users', columns: 'user_id' } } as const;
const users = 'create table users (id int primary key, tenant_id int not null references tenants, code text);';

/** Both phases and a dry run refuse with this line, and the database is as it was. */
async function refuses({ database, model }: { database: TestDatabase; model: TenancyModel }, line: string): Promise<void> {
  await onDatabase(database.url, async (client) => {
    const before = await stateOf(client);
    for (const [phase, dryRun] of [
      ['expand', true],
      ['expand', false],
      ['contract', false],
    ] as const) {
      const refused = apply(database.url, model, phase, { dryRun });
      await expect(refused, `${phase} ${dryRun}`).rejects.toMatchObject({ code: 'wall_blocked', details: expect.arrayContaining([line]) });
    }
    expect(await stateOf(client)).toEqual(before);
  });
}

function blocked(sql: string, tables: TenancyConfig['tables'], line: string, config: Partial<TenancyConfig> = {}): () => Promise<void> {
  return async () => refuses(await small(roles, sql, tables, config), line);
}

describe('the wall is not begun where', () => {
  test('a table is not in the model', blocked(`${users} create table visits (id int)`, { users: owned }, 'public.visits: is not in the tenancy model'));

  test(
    'a table is unclassified',
    blocked(`${users} create table visits (id int)`, { users: owned, visits: { scope: 'unclassified' } }, 'public.visits: is unclassified'),
  );

  test(
    'the model names a table that is not in the database',
    blocked(users, { users: owned, usres: { scope: 'platform' } }, 'public.usres: is in the tenancy model and not in the database'),
  );

  test(
    'the model names a tenant column that is not there',
    blocked(users, { users: { scope: 'scoped', column: 'tenantid' } }, 'public.users: the tenant column "tenantid" is not there'),
  );

  test(
    'a path names a column that is not there, on either side',
    blocked(
      `${users} create table visits (id int primary key, user_id int)`,
      { users: owned, visits: { scope: 'scoped', through: { table: 'users', columns: 'userid', references: 'uid' } } },
      'public.visits: cannot be derived from public.users: public.users has no column "uid"',
    ),
  );

  test(
    'the model calls a unique per tenant that is not there',
    blocked(users, { users: { ...owned, uniques: { users_code: 'per tenant' } } }, 'public.users: has no unique "users_code", which the model names'),
  );

  test('the tenant root is not in the database, or its key is not there', async () => {
    const { database } = await small(roles, users, { users: owned });
    const other = async (tenant: TenancyConfig['tenant']) => (await small(roles, users, { users: owned }, { tenant })).model;
    await refuses({ database, model: await other({ table: 'teams' }) }, 'public.teams: the tenant root is not in the database');
    await refuses({ database, model: await other({ table: 'tenants', key: 'uid' }) }, 'public.tenants: the tenant root has no column "uid"');
  });

  test('the tenant key is not unique, or only in part or later', async () => {
    for (const key of ['', 'create unique index on teams (id) where id > 0;', 'alter table teams add unique (id) deferrable;']) {
      const made = await small(roles, `create table teams (id int); ${key}`, { tenants: { scope: 'platform' } }, { tenant: { table: 'teams' } });
      await refuses(made, 'public.teams: the tenant key "id" is not unique, so nothing can refer to a tenant');
    }
  });

  test(
    'the status column of the root is not there',
    blocked(users, { users: owned }, 'public.tenants: the status column "standing" is not there', {
      tenant: { table: 'tenants', status: { column: 'standing', values: {} } },
    }),
  );

  test(
    'the name of a column to add is longer than a name can be',
    blocked(
      `${users} create table visits (id int primary key, user_id int)`,
      { users: owned, visits: { scope: 'scoped', column: 'ä'.repeat(32), through: { table: 'users', columns: 'user_id' } } },
      `public.visits: "${'ä'.repeat(32)}" is longer than 63 bytes, which a name can be`,
    ),
  );

  test('schema partywall is another root’s', async () => {
    const { database, model } = await small(roles, `${users} create table teams (id uuid primary key)`, { users: owned, teams: { scope: 'platform' } });
    await apply(database.url, model, 'expand');
    const { model: other } = await small(roles, users, { users: { scope: 'platform' }, tenants: { scope: 'platform' } }, { tenant: { table: 'teams' } });
    await refuses({ database, model: other }, 'public.teams: has keys of type uuid, and schema partywall was installed for tenants with keys of type integer');
  });

  test('the tenant key has a type the wall does not know', async () => {
    const made = await small(roles, 'create table teams (id numeric primary key)', { tenants: { scope: 'platform' } }, { tenant: { table: 'teams' } });
    await refuses(made, 'public.teams: the tenant key has type numeric; the wall knows uuid, smallint, integer, bigint and text');
  });

  test(
    'a tenant column has another type than the key',
    blocked('create table users (id int primary key, tenant_id text)', { users: owned }, 'public.users: "tenant_id" has type text, the tenant key integer'),
  );

  test(
    'a tenant column that would be filled is generated',
    blocked(
      `${users} create table visits (id int primary key, user_id int references users, tenant_id int generated always as (user_id % 2) stored)`,
      { users: owned, visits: byUsers },
      'public.visits: "tenant_id" is generated, so nothing can be derived into it',
    ),
  );

  test(
    'a permissive policy would widen it',
    blocked(
      `${users} alter table users enable row level security; create policy "all of ""them""" on users using (true)`,
      { users: owned },
      'public.users: policy "all of ""them""" is permissive, so it would widen the wall; drop it or make it restrictive',
    ),
  );

  test('tenants have rows in a foreign table or a materialised view', async () => {
    const foreign = `create foreign data wrapper none; create server nowhere foreign data wrapper none; create foreign table visits (tenant_id int) server nowhere;`;
    await refuses(
      await small(roles, `${users} ${foreign}`, { users: owned, visits: owned }),
      'public.visits: a foreign table cannot hold a wall; classify it as platform without access',
    );
    await refuses(
      await small(roles, `${users} create materialized view totals as select tenant_id, count(*) from users group by 1`, { users: owned, totals: owned }),
      'public.totals: a materialised view cannot hold a wall; classify it as platform without access',
    );
  });

  test(
    'a shared table refers to one tenant’s row',
    blocked(
      `${users} create table banners (id int primary key, author int references users)`,
      { users: owned, banners: { scope: 'shared' } },
      'public.banners: is shared, but banners_author_fkey refers to public.users, which is scoped',
    ),
  );

  test(
    'a platform table hangs on a unique that would become per tenant',
    blocked(
      `${users} alter table users add unique (code); create table logins (code text references users (code))`,
      { users: { ...owned, uniques: { users_code_key: 'per tenant' } }, logins: { scope: 'platform' } },
      'public.logins: logins_code_fkey needs users_code_key of public.users as it is, which the model makes per tenant',
    ),
  );

  test(
    'a reference over several columns is MATCH FULL',
    blocked(
      `${users} alter table users add unique (id, code); create table visits (id int primary key, user_id int, code text, foreign key (user_id, code) references users (id, code) match full)`,
      { users: owned, visits: byUsers },
      'public.visits: visits_user_id_code_fkey is MATCH FULL over several columns, which a key with the tenant cannot be; make it MATCH SIMPLE with a check',
    ),
  );

  test(
    'a deferrable unique of a partitioned table would become per tenant',
    blocked(
      `create table visits (id int, tenant_id int not null, constraint visits_once unique (id) deferrable) partition by hash (id)`,
      { visits: { ...owned, uniques: { visits_once: 'per tenant' } } },
      'public.visits: visits_once is deferrable, and a partitioned table takes no deferrable constraint without a long lock; call it global',
    ),
  );

  test('a role of the model is the connected one, owns tables, or is a member of one that no wall binds', async () => {
    const { database, model } = await small(roles, users, { users: owned });
    const named = (app: string) => ({ database, model: { ...model, roles: { ...roles, app } } });
    await refuses(named('postgres'), 'public.tenants: cannot be walled: "postgres" of the model is the role that is connected');
    const other = { ...roles, owner: 'postgres', app: roles.owner };
    await refuses(
      { database, model: { ...model, roles: other } },
      `public.tenants: cannot be walled: "${roles.owner}" of the model owns tables, so it could take the wall down`,
    );
    const member = testRoles();
    const quotedApp = `"${member.app.replaceAll('"', '""')}"`;
    await database.query(
      `create role ${member.system}; create role ${quotedApp} login; grant ${member.system} to ${quotedApp}; grant "${roles.owner}" to ${member.system}`,
    );
    await refuses(
      { database, model: { ...model, roles: { ...roles, app: member.app } } },
      `public.tenants: cannot be walled: ${quotedApp} is a member of "${roles.owner}", which no wall binds; revoke that`,
    );
  });
});

test('every blocker is in the details, not only the first', async () => {
  const { database, model } = await small(roles, `${users} create table a (id int); create table b (id int)`, { users: owned });
  await expect(apply(database.url, model, 'expand')).rejects.toMatchObject({
    details: ['public.a: is not in the tenancy model', 'public.b: is not in the tenancy model'],
  });
});
