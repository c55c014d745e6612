import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestDatabase } from '../../../../test/support/database.ts';
import { createDatabase } from '../../../../test/support/database.ts';
import type { Relation } from '../../src/catalog/catalog.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { type EmbeddedServer, startEmbedded } from '../../src/db/embedded.ts';
import { ident } from '../../src/db/sql.ts';
import { parseModel, type TenancyModel } from '../../src/model/model.ts';
import { tableName } from '../../src/model/table-name.ts';
import { appPrivileges } from '../../src/wall/grants.ts';
import { scramVerifier } from '../../src/wall/roles.ts';
import { wantedWall } from '../../src/wall/shape.ts';
import { apply, contractAll, fixtureTemplate, onDatabase, type Roles, small, testRoles, withCatalogClient } from './databases.ts';
import { fixtureModel } from './fixture.ts';

describe('after contract', () => {
  let database: TestDatabase;
  let roles: Roles;
  let model: TenancyModel;
  let relations: Relation[];
  beforeAll(async () => {
    roles = testRoles();
    model = fixtureModel(roles);
    database = await createDatabase({ template: await fixtureTemplate(roles) });
    // As a database looks in which somebody once made everything work.
    const [app, owner, friend] = [ident(roles.app), ident(roles.owner), ident(`friend of ${roles.app}`)];
    await database.query(`create role ${app} login createdb; create role ${ident(roles.system)}; create role ${friend};
      grant all on all tables in schema public to public; grant all on all sequences in schema public to public, ${app}; revoke all on sequence ticket_numbers from ${app};
      grant select on customers to ${app} with grant option; set role ${app}; grant select on customers to ${friend}; reset role;
      grant update (name) on customers to public; grant create on schema public to public;
      alter default privileges for role ${owner} grant all on tables to public;
      alter default privileges for role ${owner} in schema public grant select on tables to ${app};
      alter default privileges for role ${owner} grant usage on sequences to public`);
    await contractAll(database.url, model);
    relations = [...(await withCatalogClient(database.url, readCatalog)).relations.values()];
  });

  test('the application’s role has on each relation exactly what the model gives it', async () => {
    const catalog = await withCatalogClient(database.url, readCatalog);
    const wanted = wantedWall(model, catalog);
    const known = relations.filter((relation) => !relation.extension && model.schemas.includes(relation.schema));
    for (const relation of known) {
      const held = relation.grants.filter(({ grantee }) => grantee === roles.app);
      expect(held.map(({ privilege }) => privilege).sort(), relation.table).toEqual([...appPrivileges(model, catalog, relation, wanted)].sort());
      expect(
        held.filter(({ grantable }) => grantable),
        relation.table,
      ).toEqual([]);
    }
    const has = (schema: string, name: string) =>
      relations
        .find(({ table }) => table === tableName(schema, name))
        ?.grants.filter(({ grantee }) => grantee === roles.app)
        .map(({ privilege }) => privilege)
        .sort();
    const rows = ['delete', 'insert', 'select', 'update'];
    expect({
      scoped: has('public', 'customers'),
      odd: has('Sales Dept', 'Order.Lines'),
      root: has('public', 'tenants'),
      shared: has('public', 'countries'),
      platform: has('public', 'schema_migrations'),
      partitioned: has('public', 'events'),
      partition: has('public', 'events_2024'),
      child: has('public', 'cars'),
      view: has('public', 'busy_customers'),
      matview: has('public', 'customer_totals'),
    }).toEqual({
      scoped: rows,
      odd: rows,
      root: ['select', 'update'],
      shared: ['select'],
      platform: [],
      partitioned: rows,
      partition: [],
      child: [],
      view: rows,
      matview: [],
    });
  });

  test('nobody has anything on rows as PUBLIC, now or by default', async () => {
    const catalog = await withCatalogClient(database.url, readCatalog);
    for (const relation of relations.filter(({ extension }) => !extension)) {
      expect(
        relation.grants.filter(({ grantee }) => grantee === 'public'),
        relation.table,
      ).toEqual([]);
      expect(
        relation.columns.flatMap(({ grants }) => grants),
        relation.table,
      ).toEqual([]);
    }
    for (const sequence of catalog.sequences) {
      expect(sequence.grants.filter(({ grantee }) => grantee === 'public')).toEqual([]);
      const own = sequence.grants.filter(({ grantee }) => grantee === roles.app).map(({ privilege }) => privilege);
      expect([[], ['usage']], sequence.name).toContainEqual(own);
    }
    expect(catalog.sequences.find(({ name }) => name === 'ticket_numbers')?.grants.map(({ grantee, privilege }) => [grantee, privilege])).toContainEqual([
      roles.app,
      'usage',
    ]);
    for (const standing of catalog.defaultPrivileges.filter(({ objects }) => objects === 'tables' || objects === 'sequences')) {
      expect(standing.grants.filter(({ grantee }) => grantee === 'public' || grantee === roles.app)).toEqual([]);
    }
    expect(catalog.schemas.get('public')?.grants.filter(({ privilege }) => privilege === 'create')).toEqual([]);
  });

  test('of schema partywall the application may call these functions and use nothing else', async () => {
    const { rows } = await database.query<{ name: string }>(
      `select p.oid::regprocedure::text as name from pg_proc p where p.pronamespace = 'partywall'::regnamespace and has_function_privilege($1, p.oid, 'execute') order by 1`,
      [roles.app],
    );
    expect(rows.map(({ name }) => name)).toEqual([
      'partywall.blocked_sources(text[])',
      'partywall.boot_facts()',
      'partywall.claim_message(bytea[],integer,integer)',
      'partywall.enter(text,text)',
      'partywall.enter_sealed(text,text,bigint,integer,bigint,bytea)',
      'partywall.enter_since(text,bigint)',
      'partywall.enter_unit(text,text,bigint)',
      'partywall.no_context()',
      'partywall.record_attempt(jsonb)',
      'partywall.rollout_state(text)',
      'partywall.rollout_tables()',
      'partywall.settle_message(bytea,uuid,boolean)',
      'partywall.stand_in(text,bigint,bytea)',
      'partywall.tenant_id()',
      'partywall.unit_id()',
    ]);
    const open = await database.query(
      `select relname from pg_class where relnamespace = 'partywall'::regnamespace
        and case when relkind in ('r', 'v') then has_table_privilege($1, oid, 'select, insert, update, delete, truncate, references, trigger')
          when relkind = 'S' then has_sequence_privilege($1, oid, 'select, usage, update') end`,
      [roles.app],
    );
    expect(open.rows).toEqual([]);
    expect((await database.query("select has_schema_privilege($1, 'partywall', 'create') as may", [roles.app])).rows).toEqual([{ may: false }]);
  });

  test('the roles are what they must be, also those that were there, and none is a member of another', async () => {
    const catalog = await withCatalogClient(database.url, readCatalog);
    const of = (name: string) => {
      const { login, superuser, bypassRls, createRole, createDatabase, replication, memberOf } = catalog.roles.get(name) ?? {};
      return { login, superuser, bypassRls, createRole, createDatabase, replication, memberOf };
    };
    const plain = { login: true, superuser: false, createRole: false, createDatabase: false, replication: false, memberOf: [] };
    expect(of(roles.app)).toEqual({ ...plain, bypassRls: false });
    expect(of(roles.system)).toEqual({ ...plain, bypassRls: true });
    expect(of(roles.service)).toEqual({ ...plain, bypassRls: true });
  });

  test('the application cannot truncate, alter, take another role, turn the wall off or read past it', async () => {
    const tenant = '00000000-0000-4000-8000-00000000000a';
    const attempts: [string, string | RegExp][] = [
      ['truncate contacts', '42501'],
      ['alter table contacts disable row level security', '42501'],
      ['alter table contacts no force row level security', '42501'],
      ['create table mine (id int)', '42501'],
      ['create trigger t before insert on contacts for each row execute function touch()', '42501'],
      [`set role ${ident(roles.system)}`, '42501'],
      [`set role ${ident(roles.owner)}`, '42501'],
      ['set session_replication_role = replica', '42501'],
      ['set row_security = off; select from contacts', '42501'],
      ['select from events_2024', '42501'],
      ['select from cars', '42501'],
      ['select from schema_migrations', '42501'],
      ['select from customer_totals', '42501'],
      ['select from partywall.registry', '42501'],
      ["select partywall.set_state('x', 'active')", '42501'],
      ['update contacts set tenant_id = gen_random_uuid()', '42501'],
      ['insert into contacts (customer_id, tenant_id) values (1, gen_random_uuid())', '42501'],
    ];
    await onDatabase(database.urlAs(roles.app), async (client) => {
      for (const [statement, code] of attempts) {
        await client.query('begin');
        await client.query('select partywall.enter($1)', [tenant]);
        await expect(client.query(statement), statement).rejects.toMatchObject({ code });
        await client.query('rollback; reset row_security');
      }
    });
  });

  test('an owner without BYPASSRLS gets an error for a forgotten context, never silence', async () => {
    await onDatabase(database.urlAs(roles.owner), async (client) => {
      for (const statement of [
        "update contacts set name = 'x'",
        'delete from contacts',
        'select from contacts',
        "insert into contacts (customer_id, name) values (1, 'x')",
      ]) {
        await expect(client.query(statement), statement).rejects.toMatchObject({ code: 'PW001' });
      }
      await client.query('set row_security = off');
      await expect(client.query("update contacts set name = 'x'")).rejects.toMatchObject({
        code: '42501',
        message: expect.stringContaining('row-level security policy'),
      });
    });
    await database.query(`alter role ${ident(roles.owner)} bypassrls`);
    await onDatabase(database.urlAs(roles.owner), async (client) =>
      expect((await client.query('update contacts set name = name')).rowCount).toBeGreaterThan(3),
    );
    await database.query(`alter role ${ident(roles.owner)} nobypassrls`);
  });

  test('a tenant’s point and list queries are index conditions, whoever plans them', async () => {
    await database.query(
      "insert into contacts (customer_id, tenant_id, name) select 1 + 2 * (i % 2), case i % 2 when 0 then '00000000-0000-4000-8000-00000000000a'::uuid else '00000000-0000-4000-8000-00000000000b' end, i::text from generate_series(1, 4000) i; analyze contacts",
    );
    await onDatabase(database.urlAs(roles.app), async (client) => {
      await client.query(
        "begin; select partywall.enter('00000000-0000-4000-8000-00000000000a'); set local enable_seqscan = off; set local enable_bitmapscan = off",
      );
      const plan = async (query: string) =>
        (await client.query<{ 'QUERY PLAN': string }>(`explain (costs off) ${query}`)).rows.map((row) => row['QUERY PLAN']).join('\n');
      expect(await plan('select name from contacts where id = 17')).toMatch(/Index Cond: \(+(id = 17|tenant_id = )/);
      const list = await plan('select name from contacts order by id limit 10');
      expect(list).toMatch(/Index (Only )?Scan using pw_key_contacts_\w+ on contacts/);
      expect(list).toMatch(/Index Cond: \(tenant_id = COALESCE\(.*current_setting\('backtrace_functions'/);
      expect(list).not.toMatch(/Filter|SubPlan/);
      await client.query('rollback');
    });
  });
});

describe('passwords', () => {
  let server: EmbeddedServer;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'partywall-auth-'));
    await chmod(folder, 0o755);
    server = await startEmbedded({
      dataDir: path.join(folder, 'data'),
      major: Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18'),
      settings: { fsync: 'off', log_statement: 'all', log_min_duration_statement: '0' },
    });
  });
  afterAll(async () => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test('let the roles in, and are in no statement and no log', async () => {
    await onDatabase(server.url, (client) =>
      client.query('create table tenants (id int primary key); create table users (id int primary key, tenant_id int not null)'),
    );
    const roles = { owner: 'owner', app: 'app', system: 'system', service: 'service' };
    const model = parseModel({ tenant: { table: 'tenants' }, roles, tables: { users: { scope: 'scoped', column: 'tenant_id' } } });
    const passwords = { app: "p'ss wörd \\ $1", system: 'system-secret', service: 'service-secret' };
    const sent: string[] = [];
    const send = pg.Client.prototype.query;
    pg.Client.prototype.query = function (this: pg.Client, ...given: Parameters<typeof send>) {
      sent.push(JSON.stringify(given));
      return send.apply(this, given);
    } as typeof send; // the engine calls it in this form only
    try {
      await apply(server.url, model, 'expand', { passwords });
    } finally {
      pg.Client.prototype.query = send;
    }
    const log = await readFile(`${server.dataDir}.log`, 'utf8');
    expect(log).toContain('SCRAM-SHA-256$4096:');
    for (const password of ['wörd', passwords.system, passwords.service]) {
      expect(sent.some((text) => text.includes(password))).toBe(false);
      expect(log.includes(password)).toBe(false);
    }
    for (const [name, password] of Object.entries(passwords)) {
      const login = (secret: string) => onDatabase(server.urlFor('postgres', { user: name, password: secret }), (client) => client.query('select 1'));
      await login(password);
      await expect(login(`${password}x`)).rejects.toMatchObject({ code: '28P01' });
    }
    await apply(server.url, model, 'expand', { passwords: { app: 'another' } });
    await expect(onDatabase(server.urlFor('postgres', { user: 'app', password: passwords.app }), () => Promise.resolve())).rejects.toMatchObject({
      code: '28P01',
    });
  });

  test('are the verifier that the server would have made', async () => {
    await onDatabase(server.url, async (client) => {
      await client.query("create role probe password 'tr0ub4dor'");
      const { rows } = await client.query<{ verifier: string }>("select rolpassword as verifier from pg_authid where rolname = 'probe'");
      const stored = rows[0]?.verifier ?? '';
      const salt = Buffer.from(/:([^$]+)\$/.exec(stored)?.[1] ?? '', 'base64');
      expect(scramVerifier('tr0ub4dor', salt)).toBe(stored);
    });
  });
});

test('what another role with a grant option passed on to everyone is revoked', async () => {
  const roles = testRoles();
  const { database, model } = await small(roles, 'create table users (id int primary key, tenant_id int not null references tenants)', {
    users: { scope: 'scoped', column: 'tenant_id' },
  });
  const between = testRoles().system;
  await database.query(
    `create role ${between}; grant select on users to ${between} with grant option; set role ${between}; grant select on users to public; reset role`,
  );
  await contractAll(database.url, model);
  const { rows } = await database.query("select has_table_privilege('public', 'users', 'select') as open");
  expect(rows).toEqual([{ open: false }]);
});
