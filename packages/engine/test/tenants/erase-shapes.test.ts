import { afterAll, describe, expect, test } from 'vitest';
import type { ControlFixture } from '../../../../test/support/control-database.ts';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { eraseTenant, inProcess, previewErasure, readCertificate, showTenant, works } from '../../src/index.ts';
import { eraser } from './erasing.ts';

/** Shapes that a deletion in the order of plain keys does not survive. */
const schema = `
create table staff (id bigint primary key, tenant_id uuid not null references tenants (id), team_id bigint, boss_id bigint not null references staff (id));
create table teams (id bigint primary key, tenant_id uuid not null references tenants (id), lead_id bigint not null references staff (id) deferrable initially deferred);
alter table staff add foreign key (team_id) references teams (id);
create table readings (tenant_id uuid not null references tenants (id), at date not null, value int not null) partition by range (at);
create table readings_2029 partition of readings for values from ('2029-01-01') to ('2030-01-01');
create table readings_2030 partition of readings for values from ('2030-01-01') to ('2031-01-01');
create table assets (id bigint primary key, tenant_id uuid not null references tenants (id));
create table vehicles (wheels int not null, primary key (id)) inherits (assets);
create table history (tenant_id uuid not null references tenants (id), what text not null);
create table "Odd ""Name""" ("Id" bigint primary key, "Tenant Ref" uuid not null references tenants (id));
create table ledgers (id bigint primary key, customer_id uuid references customers (id), note text);
create table mentions (id bigint primary key, customer_id uuid references customers (id) on delete set null);
create function remember() returns trigger language plpgsql as 'begin insert into history values (old.tenant_id, tg_table_name); return null; end';
create trigger remember after delete on customers for each row execute function remember();
alter table tenants add column owner_id uuid references users (id);
create materialized view customer_copies as select name from customers;
`;
const tables = {
  'public.staff': { scope: 'scoped', column: 'tenant_id' },
  'public.teams': { scope: 'scoped', column: 'tenant_id' },
  'public.readings': { scope: 'scoped', column: 'tenant_id' },
  'public.assets': { scope: 'scoped', column: 'tenant_id' },
  'public.vehicles': { scope: 'scoped', column: 'tenant_id' },
  'public.history': { scope: 'scoped', column: 'tenant_id' },
  'public."Odd ""Name"""': { scope: 'scoped', column: 'Tenant Ref' },
  'public.ledgers': { scope: 'platform', access: 'none' },
  'public.customer_copies': { scope: 'platform', access: 'none' },
  'public.mentions': { scope: 'platform', access: 'none' },
} as const;

const fixture = await controlDatabase({ schema, tables });
const { database, operation } = fixture;
const { erase } = eraser(fixture);

let id = 0;
async function furnished(name: string): Promise<string> {
  const tenant = await fixture.tenant(name);
  id += 10;
  await database.query('begin');
  await database.query('insert into staff (id, tenant_id, boss_id) values ($1, $3, $1), ($2, $3, $1)', [id, id + 1, tenant]);
  await database.query('insert into teams values ($1, $2, $1)', [id, tenant]);
  await database.query('update staff set team_id = $1 where tenant_id = $2', [id, tenant]);
  await database.query("insert into readings select $1, '2029-12-01'::date + n, n from generate_series(1, 60) n", [tenant]);
  await database.query('insert into assets values ($1, $2)', [id, tenant]);
  await database.query('insert into vehicles values ($1, $2, 4)', [id + 1, tenant]);
  await database.query('insert into "Odd ""Name""" values ($1, $2)', [id, tenant]);
  await database.query("insert into customers (tenant_id, name) values ($1, 'one'), ($1, 'two')", [tenant]);
  await database.query("insert into users (tenant_id, email, name) values ($1, 'owner@example.org', 'Owner')", [tenant]);
  await database.query('update tenants set owner_id = (select id from users where tenant_id = $1) where id = $1', [tenant]);
  await database.query('commit');
  return tenant;
}

const neighbour = await furnished('Neighbour');

async function count(of: ControlFixture, table: string, column: string, tenant: string): Promise<number> {
  const { rows } = await of.database.query<{ count: string }>(`select count(*) from ${table} where "${column}" = $1`, [tenant]);
  return Number(rows[0]?.count);
}

describe('an erasure', () => {
  test('goes through cycles, self-references, partitions, inheritance, odd names and triggers that keep history', async () => {
    const tenant = await furnished('Shapes');
    expect(await erase({ tenant, force: true })).toMatchObject({ state: 'done', error: null });
    const { body } = await readCertificate(operation(), tenant);
    const counts = Object.fromEntries(body.tables.map(({ table, before }) => [table, before]));
    expect(counts).toMatchObject({
      'public.staff': 2,
      'public.teams': 1,
      'public.readings': 60,
      'public.assets': 2,
      'public.history': 0,
      'public."Odd ""Name"""': 1,
      'public.customers': 2,
      'public.users': 1,
      'public.tenants': 1,
    });
    // What is counted at the end of a transaction is not written after its counters are gone.
    for (const table of ['usage_counters', 'usage_moves']) expect(await count(fixture, `partywall_control.${table}`, 'tenant_id', tenant), table).toBe(0);
    for (const [table, column] of [
      ['staff', 'tenant_id'],
      ['readings', 'tenant_id'],
      ['assets', 'tenant_id'],
      ['history', 'tenant_id'],
    ] as const) {
      expect(await count(fixture, table, column, tenant), table).toBe(0);
      if (table !== 'history') expect(await count(fixture, table, column, neighbour), table).toBeGreaterThan(0);
    }
  });

  test('is refused before anything goes where rows of no tenant refer to its rows and would stop it', async () => {
    const tenant = await furnished('Blocked');
    await database.query('insert into ledgers select 1, id from customers where tenant_id = $1 limit 1', [tenant]);
    expect((await previewErasure(operation(), { tenant, force: true })).refusal).toContain('rows of public.ledgers, which belongs to no tenant');
    const durable = inProcess(fixture.control, works);
    afterAll(() => durable.stop());
    await expect(eraseTenant(operation(), durable, { tenant, force: true })).rejects.toMatchObject({ code: 'erasure_refused' });
    expect((await showTenant(operation(), tenant)).status).toBe('active');
    await database.query('delete from ledgers');
    expect((await erase({ tenant, force: true })).state).toBe('done');
  });

  test('lets rows of no tenant follow their key', async () => {
    const tenant = await furnished('Mentioned');
    await database.query('insert into mentions select 7, id from customers where tenant_id = $1 limit 1', [tenant]);
    expect((await erase({ tenant, force: true })).state).toBe('done');
    expect((await database.query('select * from mentions')).rows).toEqual([{ id: '7', customer_id: null }]);
  });

  test('names the views that hold copies', async () => {
    const tenant = await furnished('Copied');
    await erase({ tenant, force: true });
    expect((await readCertificate(operation(), tenant)).body.copies).toEqual(['public.customer_copies']);
  });

  test('takes along what apply had put aside', async () => {
    const tenant = await furnished('Aside');
    await database.query(
      `create table if not exists partywall.quarantine (id bigint generated always as identity primary key, relation text not null, reason text not null, "row" jsonb not null, taken_at timestamptz not null default now());
grant select, delete on partywall.quarantine to ${fixture.model.roles.service}`,
    );
    for (const of of [tenant, neighbour]) {
      await database.query(
        `insert into partywall.quarantine (relation, reason, "row") values ('public.customers', 'test', jsonb_build_object('tenant_id', $1::text))`,
        [of],
      );
    }
    await erase({ tenant, force: true });
    expect((await readCertificate(operation(), tenant)).body.removed.quarantined).toBe(1);
    expect((await database.query('select from partywall.quarantine')).rowCount).toBe(1);
  });

  test('is rolled back where a cascade would reach a neighbour, names the table, and can be finished once that is mended', async () => {
    const tenant = await furnished('Crossing');
    // A key without the tenant, added after contract: a neighbour's note hangs on this tenant's file.
    await database.query('alter table files add column about uuid references customers (id) on delete cascade');
    await database.query(
      `insert into files (tenant_id, name, size_bytes, about) values ($1, 'neighbour''s', 1, (select id from customers where tenant_id = $2 limit 1))`,
      [neighbour, tenant],
    );
    const { tables: planned } = await previewErasure(operation(), { tenant, force: true });
    const failed = await erase({ tenant, force: true });
    expect(failed).toMatchObject({ state: 'failed', error: expect.stringContaining('reached rows of public.files that belong to another tenant') });
    expect(await count(fixture, 'files', 'tenant_id', neighbour)).toBe(1);
    expect((await showTenant(operation(), tenant)).wall?.state).toBe('fenced');
    await database.query('update files set about = null');
    const finished = await erase({ tenant, force: true });
    expect(finished).toMatchObject({ id: failed.id, state: 'done', attempt: 2 });
    // Counted before the first attempt, although that one deleted what came before.
    const { tables: certified } = (await readCertificate(operation(), tenant)).body;
    expect(certified).toEqual(planned.map(({ table, rows }) => ({ table, before: rows, after: 0 })));
  });

  test('is refused where a trigger changes a neighbour', async () => {
    const tenant = await furnished('Meddling');
    await database.query(
      `create function meddle() returns trigger language plpgsql as 'begin update readings set value = value + 1 where tenant_id = ''${neighbour}''; return null; end'`,
    );
    await database.query('create trigger meddle after delete on staff for each row execute function meddle()');
    const before = (await database.query('select sum(value) from readings where tenant_id = $1', [neighbour])).rows;
    expect(await erase({ tenant, force: true })).toMatchObject({ state: 'failed', error: expect.stringContaining('reached rows of public.readings') });
    expect((await database.query('select sum(value) from readings where tenant_id = $1', [neighbour])).rows).toEqual(before);
    await database.query('drop trigger meddle on staff');
    expect((await erase({ tenant, force: true })).state).toBe('done');
  });

  test('is refused while the database has a table that the model does not know', async () => {
    const tenant = await furnished('Unknown table');
    await database.query('create table newcomers (id bigint primary key, tenant_id uuid)');
    await expect(previewErasure(operation(), { tenant, force: true })).rejects.toMatchObject({ code: 'erasure_refused' });
    await database.query('drop table newcomers');
  });
});
