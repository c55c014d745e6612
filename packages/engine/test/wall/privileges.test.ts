import { beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { ident } from '../../src/db/sql.ts';
import { parseModel, type TenancyModel } from '../../src/model/model.ts';
import { planWall } from '../../src/wall/plan.ts';
import { apply, fixtureTemplate, onDatabase, type Roles, rollback, testRoles, withCatalogClient } from './databases.ts';
import { fixtureModel } from './fixture.ts';
import { stateOf } from './state.ts';

let fixture: string;
let owner: string;
let major: number;
beforeAll(async () => {
  const roles = testRoles();
  owner = roles.owner;
  fixture = await fixtureTemplate(roles);
  const database = await createDatabase({ template: fixture });
  const { rows } = await database.query<{ major: number }>("select current_setting('server_version_num')::int / 10000 as major");
  major = rows[0]?.major ?? 0;
});

interface Setting {
  readonly database: TestDatabase;
  readonly model: TenancyModel;
  readonly roles: Roles;
  /** The role that applies. */
  readonly name: string;
}

/** A database of the fixture, roles of its own, and a login role made by `create role <name> login <attributes>`. */
async function applier(attributes: string): Promise<Setting> {
  const roles = { ...testRoles(), owner };
  const database = await createDatabase({ template: fixture });
  const name = `applier_${suffix()}`;
  await database.query(`create role ${name} login ${attributes}`);
  return { database, model: fixtureModel(roles), roles, name };
}

async function refused({ database, model, name }: Setting, details: readonly (string | RegExp)[]): Promise<void> {
  await onDatabase(database.url, async (client) => {
    const before = await stateOf(client);
    for (const phase of ['expand', 'contract'] as const) {
      await expect(apply(database.urlAs(name), model, phase), phase).rejects.toMatchObject({
        code: 'permission_missing',
        message: expect.stringContaining(`role ${name} lacks `),
        details: details.map((line) => (typeof line === 'string' ? line : expect.stringMatching(line))),
      });
    }
    expect(await stateOf(client)).toEqual(before);
  });
}

describe('a role that may not', () => {
  test('do anything is told all that it lacks, and nothing is done', async () => {
    const setting = await applier('');
    const { roles, database } = setting;
    await refused(setting, [
      new RegExp(`^the rights of ${owner}, who own \\d+ tables and views$`),
      'BYPASSRLS, without which validation reads no rows and proves nothing',
      `CREATEROLE, to make ${roles.app}, ${roles.system}, ${roles.service}`,
      `CREATE on database ${database.name} and schema Sales Dept and schema public and schema select, where the wall makes its schema and its indexes`,
    ]);
  });

  test('bypass row level security is refused although it owns everything: it would validate no rows', async () => {
    const { database, model, roles } = await applier('');
    await database.query(
      `grant create on database ${ident(database.name)} to ${ident(owner)}; create role ${ident(roles.app)} login; create role ${roles.system} login bypassrls; create role ${roles.service} login bypassrls`,
    );
    await refused({ database, model, roles, name: owner }, ['BYPASSRLS, without which validation reads no rows and proves nothing']);
  });

  test('use the owner’s rights without SET ROLE is refused', async () => {
    const setting = await applier('noinherit bypassrls createrole');
    const { database, name, roles } = setting;
    await database.query(`grant ${ident(owner)} to ${name}; grant create on database ${ident(database.name)} to ${name}; grant create on schema public, "Sales Dept", "select" to ${name};
      create role ${ident(roles.app)} login; create role ${roles.system} login bypassrls; create role ${roles.service} login bypassrls`);
    await refused(setting, [new RegExp(`^the rights of ${owner}, who own \\d+ tables and views$`)]);
  });

  test('change a role that is there is refused', async () => {
    const setting = await applier('createrole bypassrls');
    const { database, name, roles } = setting;
    await database.query(`grant ${ident(owner)} to ${name}; grant create on database ${ident(database.name)} to ${name};
      create role ${ident(roles.app)} login createdb; create role ${roles.system} login bypassrls; create role ${roles.service} login bypassrls`);
    // CREATEROLE ruled every role before 16.
    if (major >= 16) await refused(setting, [`ADMIN OPTION on ${roles.app}`]);
    else expect((await apply(database.urlAs(name), setting.model, 'expand')).applied).toContain(`expand/role/${roles.app}`);
  });

  test('make a role that bypasses row level security is refused before PostgreSQL 16', async () => {
    const setting = await applier('createrole bypassrls');
    const { database, name, roles } = setting;
    await database.query(`grant ${ident(owner)} to ${name}; grant create on database ${ident(database.name)} to ${name}`);
    // Whoever has BYPASSRLS may give it since 16.
    if (major < 16)
      await refused(setting, [`SUPERUSER, which PostgreSQL 15 asks of whoever makes a BYPASSRLS role: have ${roles.system}, ${roles.service} made first`]);
    else expect((await apply(database.urlAs(name), setting.model, 'expand')).applied).toContain(`expand/role/${roles.system}`);
  });

  test('drop the event trigger of a superuser’s contract is refused to roll it back', async () => {
    const { database, model, name } = await applier('createrole bypassrls');
    await database.query(`grant ${ident(owner)} to ${name}`);
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
    await onDatabase(database.url, async (client) => {
      const before = await stateOf(client);
      await expect(rollback(database.urlAs(name), model, 'expanded')).rejects.toMatchObject({
        code: 'permission_missing',
        details: ['the rights of postgres', 'SUPERUSER, to drop the event trigger'],
      });
      expect(await stateOf(client)).toEqual(before);
    });
  });
});

describe('a role that is no superuser and has these rights', () => {
  test('builds the whole wall but the event trigger, and takes it down again', async () => {
    const { database, model, roles, name } = await applier('createrole bypassrls');
    await database.query(`grant ${ident(owner)} to ${name}; grant create on database ${ident(database.name)} to ${name}`);
    // Before 16 only a superuser makes a role that bypasses row level security.
    if (major < 16) await database.query(`create role ${roles.system} login bypassrls; create role ${roles.service} login bypassrls`);
    const left = { ignoring: [roles.app, roles.system, roles.service, 'public'] };
    const before = await onDatabase(database.url, (client) => stateOf(client, left));
    const url = database.urlAs(name);
    await apply(url, model, 'expand');
    expect((await apply(url, model, 'expand')).applied).toEqual([]);
    await apply(url, model, 'contract');
    expect((await apply(url, model, 'contract')).applied).toEqual([]);
    expect(planWall(model, await withCatalogClient(url, readCatalog)).steps).toEqual([]);
    expect((await database.query('select from pg_event_trigger')).rowCount).toBe(0);
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query("begin; select partywall.enter('00000000-0000-4000-8000-00000000000a')");
      expect((await client.query('select name from contacts order by 1')).rows).toEqual([{ name: 'c1' }, { name: 'c2' }]);
      await expect(client.query('insert into contacts (customer_id) values (3)')).rejects.toMatchObject({ code: '23503' });
    });
    await rollback(url, model, 'nothing');
    const after = await onDatabase(database.url, (client) => stateOf(client, left));
    expect(after.objects).toEqual(before.objects);
    // Its backfill cannot keep the application's triggers quiet; these count how often they fired.
    const quiet = (rows: readonly string[] | undefined) => rows?.map((row) => row.replace(/"touched": \d+/, ''));
    for (const [table, rows] of Object.entries(before.rows)) expect(quiet(after.rows[table]), table).toEqual(quiet(rows));
  });

  test('takes rows aside without losing one to a cascade', async () => {
    const roles = testRoles();
    const database = await createDatabase();
    const name = `applier_${suffix()}`;
    await database.query(`create role ${name} login createrole bypassrls; create role ${ident(roles.app)} login; create role ${roles.system} login bypassrls; create role ${roles.service} login bypassrls;
      grant create on database ${ident(database.name)} to ${name}; grant create on schema public to ${name}`);
    await onDatabase(database.urlAs(name), (client) =>
      client.query(`create table tenants (id int primary key); insert into tenants values (1);
        create table users (id int primary key, tenant_id int, boss int references users on delete set null);
        create table visits (id int primary key, tenant_id int, user_id int references users on delete cascade);
        create table lines (id int primary key, visit_id int references visits on delete restrict);
        insert into users values (1, 1, null), (2, 9, null), (3, 9, 2), (4, 1, 3); insert into visits values (1, 1, 1), (2, 9, 2), (3, 1, 3), (4, null, 1); insert into lines values (1, 1), (2, 2), (3, 3), (4, 4)`),
    );
    const model = parseModel({
      tenant: { table: 'tenants' },
      roles,
      tables: {
        users: { scope: 'scoped', column: 'tenant_id' },
        visits: { scope: 'scoped', column: 'tenant_id' },
        lines: { scope: 'scoped', through: { table: 'visits', columns: 'visit_id' } },
      },
    });
    await apply(database.urlAs(name), model, 'expand');
    const { quarantined } = await apply(database.urlAs(name), model, 'contract', { quarantine: true });
    expect(Object.fromEntries(quarantined)).toEqual({ 'public.users': 3, 'public.visits': 3, 'public.lines': 3 });
    const { rows } = await database.query(
      `select relation, array_agg(("row" ->> 'id')::int order by "row" ->> 'id') as ids from partywall.quarantine group by 1 order by 1`,
    );
    expect(rows).toEqual([
      { relation: 'public.lines', ids: [2, 3, 4] },
      { relation: 'public.users', ids: [2, 3, 4] },
      { relation: 'public.visits', ids: [2, 3, 4] },
    ]);
    expect(
      (
        await database.query(
          'select (select array_agg(id) from users) as users, (select array_agg(id) from visits) as visits, (select array_agg(id) from lines) as lines',
        )
      ).rows,
    ).toEqual([{ users: [1], visits: [1], lines: [1] }]);
  });
});
