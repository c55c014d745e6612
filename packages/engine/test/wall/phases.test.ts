import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { createDatabase } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { ident } from '../../src/db/sql.ts';
import type { TenancyModel } from '../../src/model/model.ts';
import { planWall, stepSql } from '../../src/wall/plan.ts';
import { planRollback } from '../../src/wall/rollback.ts';
import { apply, contractAll, fixtureTemplate, onDatabase, rollback, small, testRoles, withCatalogClient } from './databases.ts';
import { fixtureModel } from './fixture.ts';
import { type State, stateOf } from './state.ts';

const roles = testRoles();
const model: TenancyModel = fixtureModel(roles);
let fixture: string;
beforeAll(async () => {
  fixture = await fixtureTemplate(roles);
});

/** Grants to the three roles and revoked ones are what a rollback says that it leaves. */
const leftByRollback = { ignoring: [roles.app, roles.system, roles.service, 'public'] };

describe('applying', () => {
  test('each phase twice does nothing the second time, in any order, and then there is no difference left', async () => {
    const database = await createDatabase({ template: fixture });
    const states: State[] = [];
    for (const phase of ['expand', 'expand', 'contract', 'contract', 'expand', 'contract'] as const) {
      const { applied, troubled } = await apply(database.url, model, phase);
      states.push(await withCatalogClient(database.url, (client) => stateOf(client)));
      expect(troubled).toEqual([]);
      expect([phase, applied.length > 0]).toEqual([phase, states.length === 1 || states.length === 3]);
    }
    expect(states[1]).toEqual(states[0]);
    for (const later of states.slice(3)) expect(later).toEqual(states[2]);
    const plan = planWall(model, await withCatalogClient(database.url, readCatalog));
    expect(plan.steps).toEqual([]);
    expect(plan.blockers).toEqual([]);
  });

  test('every table is filled after those it derives from, partitions and children of these too', async () => {
    const database = await createDatabase({ template: fixture });
    const { plan } = await apply(database.url, model, 'expand', { dryRun: true });
    const at = (table: string) => plan.steps.findIndex(({ id }) => id === `expand/backfill/public.${table}`);
    for (const part of ['events_2024', 'events_2025_a', 'events_2025_rest', 'events_rest']) expect(at('event_notes'), part).toBeGreaterThan(at(part));
    expect(at('notes')).toBeGreaterThan(at('contacts'));
    expect(at('settings')).toBeGreaterThan(at('orders'));
    expect(Math.min(at('events_2024'), at('cars'))).toBeGreaterThan(-1);
    expect(at('events')).toBe(-1);
  });

  test('a dry run changes nothing and plans what the run then does', async () => {
    const database = await createDatabase({ template: fixture });
    for (const phase of ['expand', 'contract'] as const) {
      const before = await withCatalogClient(database.url, (client) => stateOf(client));
      const dry = await apply(database.url, model, phase, { dryRun: true });
      expect(dry.applied).toEqual([]);
      expect(await withCatalogClient(database.url, (client) => stateOf(client))).toEqual(before);
      const real = await apply(database.url, model, phase);
      const planned = dry.plan.steps.filter((step) => step.phase === phase).map((step) => step.id);
      expect(real.applied.slice(0, planned.length)).toEqual(planned);
    }
  });

  test('what the diff prints runs by itself, statement by statement, and gives the same wall', async () => {
    const [byApply, byHand] = [await createDatabase({ template: fixture }), await createDatabase({ template: fixture })];
    await apply(byApply.url, model, 'expand');
    await apply(byHand.url, model, 'expand');
    await apply(byApply.url, model, 'contract');
    await withCatalogClient(byHand.url, async (client) => {
      const plan = planWall(model, await readCatalog(client));
      for (const step of plan.steps.filter(({ phase }) => phase === 'contract')) for (const statement of stepSql(step)) await client.query(statement);
      const rest = planWall(model, await readCatalog(client)).steps;
      expect(rest).toEqual([]);
    });
    const compared = await Promise.all([byApply, byHand].map(({ url }) => withCatalogClient(url, (client) => stateOf(client))));
    expect(compared[1]).toEqual(compared[0]);
  });

  test('does not mind how the database and the role are set', async () => {
    const database = await createDatabase({ template: fixture });
    const settings = {
      default_transaction_isolation: 'serializable',
      default_transaction_read_only: 'on',
      quote_all_identifiers: 'on',
      search_path: 'pg_catalog, nowhere',
      lock_timeout: '1ms',
      statement_timeout: '50ms',
      DateStyle: 'German',
      bytea_output: 'escape',
      check_function_bodies: 'off',
      standard_conforming_strings: 'off',
      row_security: 'off',
    };
    for (const [name, value] of Object.entries(settings))
      await database.query(`alter database ${ident(database.name)} set ${name} = ${name === 'search_path' ? value : `'${value}'`}`);
    await contractAll(database.url, model);
    expect((await apply(database.url, model, 'contract')).applied).toEqual([]);
    const { steps } = planWall(model, await withCatalogClient(database.url, readCatalog));
    expect(steps).toEqual([]);
    await rollback(database.url, model, 'nothing');
  });

  test('contract before expand is refused and names what is missing', async () => {
    const database = await createDatabase({ template: fixture });
    const before = await withCatalogClient(database.url, (client) => stateOf(client));
    await expect(apply(database.url, model, 'contract')).rejects.toMatchObject({
      code: 'phase_refused',
      details: expect.arrayContaining(['expand/column/public.contacts: add tenant_id']),
    });
    expect(await withCatalogClient(database.url, (client) => stateOf(client))).toEqual(before);
  });

  test('a second apply, or a rollback, beside one that runs is refused', async () => {
    const database = await createDatabase({ template: fixture });
    await onDatabase(database.url, async (client) => {
      await client.query("select pg_advisory_lock(hashtextextended('partywall:apply', 0))");
      const refused = { code: 'phase_refused', message: expect.stringContaining('another apply or rollback is running') };
      await expect(apply(database.url, model, 'expand')).rejects.toMatchObject(refused);
      await expect(rollback(database.url, model, 'nothing')).rejects.toMatchObject(refused);
      await apply(database.url, model, 'expand', { dryRun: true });
    });
  });

  test('two applies at once leave one wall, and the one that lost says why', async () => {
    const database = await createDatabase({ template: fixture });
    const both = await Promise.allSettled([apply(database.url, model, 'expand'), apply(database.url, model, 'expand')]);
    for (const outcome of both) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'phase_refused' });
    expect(both.some(({ status }) => status === 'fulfilled')).toBe(true);
    expect((await apply(database.url, model, 'expand')).applied).toEqual([]);
  });

  test('an aborted run stops between two statements and a later one completes it', async () => {
    const database = await createDatabase({ template: fixture });
    const stop = new AbortController();
    const running = apply(database.url, model, 'expand', {
      signal: stop.signal,
      onProgress: (event) => {
        if (event.kind === 'step' && event.at === 60) stop.abort();
      },
    });
    await expect(running).rejects.toThrow(/abort/);
    const { applied } = await apply(database.url, model, 'expand');
    expect(applied.length).toBeGreaterThan(0);
    expect((await apply(database.url, model, 'expand')).applied).toEqual([]);
  });
});

describe('rolling back', () => {
  const run = (client: pg.Client) => stateOf(client, leftByRollback);

  test('to nothing gives the database back as it was, its rows too', async () => {
    const database = await createDatabase({ template: fixture });
    const before = await withCatalogClient(database.url, run);
    await contractAll(database.url, model);
    const { applied, stays } = await rollback(database.url, model, 'nothing');
    expect(applied.at(-1)).toBe('rollback/runtime');
    expect(stays[0]).toMatch(`roles ${roles.app}, ${roles.system}, ${roles.service}`);
    expect(await withCatalogClient(database.url, run)).toEqual(before);
  });

  test('to nothing from expand, or from a database without a wall, leaves it as it was', async () => {
    const database = await createDatabase({ template: fixture });
    const before = await withCatalogClient(database.url, run);
    expect((await rollback(database.url, model, 'nothing')).applied).toEqual([]);
    await apply(database.url, model, 'expand');
    await rollback(database.url, model, 'nothing');
    expect(await withCatalogClient(database.url, run)).toEqual(before);
  });

  test('to expanded gives the database back as expand left it, but for the per-tenant uniques, which expand builds again', async () => {
    const database = await createDatabase({ template: fixture });
    await apply(database.url, model, 'expand');
    const expanded = await withCatalogClient(database.url, run);
    await apply(database.url, model, 'contract');
    await rollback(database.url, model, 'expanded');
    const { applied } = await apply(database.url, model, 'expand');
    expect(applied.filter((id) => !/^expand\/(index|attach)\//.test(id))).toEqual([]);
    const after = await withCatalogClient(database.url, run);
    expect(withoutFacts(after)).toEqual(withoutFacts(expanded));
    await apply(database.url, model, 'contract');
    expect(planWall(model, await withCatalogClient(database.url, readCatalog)).steps).toEqual([]);
  });

  test('twice does nothing the second time', async () => {
    const database = await createDatabase({ template: fixture });
    await contractAll(database.url, model);
    for (const to of ['expanded', 'nothing'] as const) {
      expect((await rollback(database.url, model, to)).applied.length).toBeGreaterThan(0);
      expect((await rollback(database.url, model, to)).applied).toEqual([]);
      expect(planRollback(model, await withCatalogClient(database.url, readCatalog), to)).toEqual([]);
    }
  });

  test('keeps what the application had set itself: row security, view options, defaults, nullability', async () => {
    const { database, model: own } = await small(
      roles,
      `create table users (id int primary key, tenant_id int references tenants default length('x'), name text);
       alter table users enable row level security; alter table users force row level security;
       create policy narrow on users as restrictive using (name is not null);
       create table visits (id int primary key, user_id int references users, tenant_id int default length('xx'));
       create view names with (security_invoker = off) as select name from users;
       insert into users values (1, 1, 'a'), (2, 2, 'b'); insert into visits values (1, 1, 1), (2, 2, null);`,
      { users: { scope: 'scoped', column: 'tenant_id' }, visits: { scope: 'scoped', through: { table: 'users', columns: 'user_id' } } },
    );
    const before = await withCatalogClient(database.url, run);
    await contractAll(database.url, own);
    await rollback(database.url, own, 'nothing');
    const after = await withCatalogClient(database.url, run);
    expect(after.objects).toEqual(before.objects);
    // What expand filled in a column that was there before stays.
    expect(after.rows['"public"."visits"']).toEqual(['{"id": 1, "user_id": 1, "tenant_id": 1}', '{"id": 2, "user_id": 2, "tenant_id": 2}']);
  });

  test('leaves alone what only looks like the wall’s', async () => {
    const { database, model: own } = await small(
      roles,
      `create table users (id int primary key, tenant_id int not null references tenants, pw_reset_token text, constraint pw_reset_key unique (pw_reset_token), constraint pw_check check (id > 0));
       create index pw_index_users on users (pw_reset_token); create function noop() returns trigger language plpgsql as $$ begin return new; end $$;
       create trigger pw_derive_name before insert on users for each row execute function noop();`,
      { users: { scope: 'scoped', column: 'tenant_id', uniques: { pw_reset_key: 'per tenant' } } },
    );
    const before = await withCatalogClient(database.url, run);
    await contractAll(database.url, own);
    await rollback(database.url, own, 'nothing');
    expect(await withCatalogClient(database.url, run)).toEqual(before);
  });

  test('refuses a global unique that two tenants have broken by now, with enforcement already off, and goes on when they are distinct', async () => {
    const { database, model: own } = await small(
      roles,
      `create table users (id int primary key, tenant_id int not null references tenants, code text, constraint users_code_key unique (code));
       create table visits (id int primary key, code text references users (code)); insert into users values (1, 1, 'x'); insert into visits values (1, 'x')`,
      {
        users: { scope: 'scoped', column: 'tenant_id', uniques: { users_code_key: 'per tenant' } },
        visits: { scope: 'scoped', through: { table: 'users', columns: 'code', references: 'code' } },
      },
    );
    await contractAll(database.url, own);
    await database.query("insert into users values (2, 2, 'x')");
    for (const to of ['expanded', 'nothing'] as const) {
      await expect(rollback(database.url, own, to)).rejects.toMatchObject({
        code: 'phase_refused',
        message: 'build users_code_key over all tenants on public.users: tenants share a value by now, which it forbids',
        details: ['Key (code)=(x) is duplicated.'],
      });
      const { rows } = await database.query("select relrowsecurity or relforcerowsecurity as bound from pg_class where relname in ('users', 'visits')");
      expect(rows).toEqual([{ bound: false }, { bound: false }]);
    }
    await onDatabase(database.urlAs(roles.owner), (client) => client.query('insert into visits (id) values (2)'));
    await database.query("update users set code = 'y' where id = 2");
    await rollback(database.url, own, 'nothing');
    expect(
      (
        await database.query(
          "select pg_get_constraintdef(oid) as definition from pg_constraint where conname in ('users_code_key', 'visits_code_fkey') order by 1",
        )
      ).rows,
    ).toEqual([{ definition: 'FOREIGN KEY (code) REFERENCES users(code)' }, { definition: 'UNIQUE (code)' }]);
  });

  test('refuses to take along what others made to depend on it, and names that', async () => {
    const { database, model: own } = await small(roles, 'create table users (id int primary key, tenant_id int not null references tenants)', {
      users: { scope: 'scoped', column: 'tenant_id' },
    });
    await contractAll(database.url, own);
    await database.query('create view "mine, too" as select partywall.tenant_id() as tenant');
    await expect(rollback(database.url, own, 'nothing')).rejects.toMatchObject({
      code: 'phase_refused',
      details: expect.arrayContaining(['view public."mine, too" depends on function partywall.tenant_id()']),
    });
    await database.query('drop view "mine, too"');
    await rollback(database.url, own, 'nothing');
    expect((await database.query("select to_regnamespace('partywall') as schema")).rows).toEqual([{ schema: null }]);
  });
});

/** Facts remember that a bootstrap tenant's time is over. */
function withoutFacts(state: State): State {
  const { runtime, ...objects } = state.objects;
  return { ...state, objects: { ...objects, runtime: { ...(runtime as object), facts: undefined } } }; // made by objectsOf in state.ts
}
