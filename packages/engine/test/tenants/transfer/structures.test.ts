import pg from 'pg';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contentHash, exportDocument, exportText, importText } from './documents.ts';

const fixture = await controlDatabase({
  schema: `
    create table "Boxes" ("boxNo" integer not null, "tenantId" uuid not null references tenants (id), "insideOf" integer, serial bigint generated always as identity,
      primary key ("tenantId", "boxNo"), foreign key ("tenantId", "insideOf") references "Boxes" ("tenantId", "boxNo"));
    create table teams (id serial primary key, tenant_id uuid not null references tenants (id), name text not null, lead_id integer);
    create table players (id serial primary key, tenant_id uuid not null references tenants (id), team_id integer not null references teams (id), name text not null);
    alter table teams add foreign key (lead_id) references players (id);
    create table steps (id integer primary key, tenant_id uuid not null references tenants (id), position integer not null, unique (tenant_id, position));
    create table step_notes (id integer primary key, step_id integer not null references steps (id) on delete cascade, body text not null);
    create table stamped (id integer primary key, tenant_id uuid not null references tenants (id), name text not null, updated_at timestamptz not null default now());
    create table history (id bigserial primary key, tenant_id uuid not null references tenants (id), what text not null);
    create function stamp() returns trigger language plpgsql as $$ begin new.updated_at := clock_timestamp(); new.name := upper(new.name); return new; end $$;
    create trigger stamp before insert or update on stamped for each row execute function stamp();
    create function log() returns trigger language plpgsql as $$ begin
      insert into public.history (tenant_id, what) values (new.tenant_id, coalesce(current_setting('partywall.restoring', true), '') || new.name);
      return null;
    end $$;
    create trigger log after insert or update on stamped for each row execute function log();
    create table tokens (id integer primary key, tenant_id uuid not null references tenants (id), token text not null unique);
    create table room_links (id serial primary key, room_id integer not null);
    create table rooms (id integer primary key, tenant_id uuid not null references tenants (id), during int4range not null, label text not null,
      exclude using gist (during with &&), unique (tenant_id, label));
    alter table room_links add foreign key (room_id) references rooms (id) on delete cascade;
    create table links (id serial primary key, token_id integer not null references tokens (id) on delete cascade);
    create table events (id bigint not null, at date not null, tenant_id uuid not null references tenants (id), body text, primary key (id, at)) partition by range (at);
    create table events_2024 partition of events for values from ('2024-01-01') to ('2025-01-01');
    create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');`,
  tables: {
    'public."Boxes"': { scope: 'scoped', column: 'tenantId' },
    'public.teams': { scope: 'scoped', column: 'tenant_id' },
    'public.players': { scope: 'scoped', column: 'tenant_id' },
    'public.steps': { scope: 'scoped', column: 'tenant_id' },
    'public.step_notes': { scope: 'scoped', through: { table: 'public.steps', columns: 'step_id' } },
    'public.stamped': { scope: 'scoped', column: 'tenant_id' },
    'public.history': { scope: 'scoped', column: 'tenant_id' },
    'public.tokens': { scope: 'scoped', column: 'tenant_id', uniques: { tokens_token_key: 'global' } },
    'public.links': { scope: 'platform' },
    'public.room_links': { scope: 'platform' },
    'public.rooms': { scope: 'scoped', column: 'tenant_id' },
    'public.events': { scope: 'scoped', column: 'tenant_id' },
  },
});
const { database } = fixture;
const operation = fixture.operation();

test('references to itself and in a circle, composite keys, partitions and numbers that the database gives come back', async () => {
  const alder = await fixture.tenant('Alder');
  await database.query(`insert into "Boxes" ("boxNo", "tenantId", "insideOf") values (1, '${alder}', 3), (2, '${alder}', 1), (3, '${alder}', 2)`);
  await database.query(`insert into teams (id, tenant_id, name) values (1, '${alder}', 'red'), (2, '${alder}', 'blue');
    insert into players (id, tenant_id, team_id, name) values (1, '${alder}', 1, 'a'), (2, '${alder}', 2, 'b'); update teams set lead_id = 3 - id`);
  await database.query(`insert into events values (1, '2024-05-01', '${alder}', 'a'), (1, '2025-05-01', '${alder}', 'b')`);
  const before = await exportText(operation, alder);
  await database.query(
    `delete from "Boxes" where "tenantId" = '${alder}'; update teams set lead_id = null; delete from players; delete from teams; delete from events`,
  );
  await database.query(
    `insert into teams (id, tenant_id, name) values (7, '${alder}', 'new'); insert into players (id, tenant_id, team_id, name) values (7, '${alder}', 7, 'new'); update teams set lead_id = 7`,
  );
  await database.query(`select setval('teams_id_seq', 1), setval('players_id_seq', 1)`);

  const report = await importText(operation, before);

  expect(report).toMatchObject({ applied: true, hashEqual: true });
  expect(report.tables.find(({ table }) => table === 'public.teams')).toMatchObject({ inserted: 2, deleted: 1 });
  const { rows } = await database.query(`insert into teams (tenant_id, name) values ('${alder}', 'next') returning id > 2 as beyond`);
  expect(rows).toEqual([{ beyond: true }]);
});

test('a sequence is raised far and near, and never taken back', async () => {
  const birch = await fixture.tenant('Birch');
  await database.query(`insert into teams (id, tenant_id, name) values (5000, '${birch}', 'far')`);
  const before = await exportText(operation, birch);
  const next = async () => Number((await database.query(`select nextval('teams_id_seq') as number`)).rows[0]?.['number']);
  await importText(operation, before);
  expect(await next()).toBeGreaterThan(5000);
  await database.query(`select setval('teams_id_seq', 9000)`);
  await importText(operation, before);
  expect(await next()).toBeGreaterThan(9000);
  await database.query(`select setval('teams_id_seq', 4990)`);
  await importText(operation, before);
  expect(await next()).toBeGreaterThan(5000);
});

test('unique values that changed hands come back, with what refers to their rows', async () => {
  const cedar = await fixture.tenant('Cedar');
  await database.query(
    `insert into steps values (1, '${cedar}', 1), (2, '${cedar}', 2), (3, '${cedar}', 3); insert into step_notes (id, step_id, body, partywall_tenant_id) select id, id, 'note', '${cedar}' from steps`,
  );
  await database.query(`insert into users (tenant_id, email, name) values ('${cedar}', 'ann@x.example', 'Ann')`);
  const before = await exportText(operation, cedar);
  await database.query(
    `delete from users where tenant_id = '${cedar}'; insert into users (tenant_id, email, name) values ('${cedar}', 'ann@x.example', 'Another Ann')`,
  );
  await database.query(
    `update steps set position = 10 where id = 1; update steps set position = 1 where id = 2; update steps set position = 2 where id = 1; update step_notes set body = 'changed' where id = 3`,
  );

  expect(await importText(operation, before)).toMatchObject({ applied: true, hashEqual: true });
  expect((await exportDocument(operation, cedar)).tables).toEqual(JSON.parse(before).tables);
});

test('values that exclude each other come back too, but not over somebody else’s reference', async () => {
  const oak = await fixture.tenant('Oak');
  await database.query(`insert into rooms values (1, '${oak}', '[1,3)', 'a'), (2, '${oak}', '[3,5)', 'b')`);
  const before = await exportText(operation, oak);
  await database.query(
    `update rooms set during = '[10,11)' where id = 1; update rooms set during = '[1,3)' where id = 2; update rooms set during = '[3,5)' where id = 1`,
  );
  await database.query('insert into room_links (room_id) values (2)');
  await expect(importText(operation, before)).rejects.toMatchObject({
    code: 'import_conflict',
    details: ['public.rooms: ("id") = (2) has exchanged unique values, and a row of public.room_links that stays refers to it'],
  });
  expect((await database.query('select count(*)::int as count from room_links')).rows).toEqual([{ count: 1 }]);
  await database.query('delete from room_links');
  expect(await importText(operation, before)).toMatchObject({ hashEqual: true });
});

test('a trigger that takes a neighbour’s row along stops the restore', async () => {
  const rowan = await fixture.tenant('Rowan');
  const sorrel = await fixture.tenant('Sorrel');
  const before = await exportText(operation, rowan);
  await database.query(`insert into tokens values (70, '${rowan}', 'new'), (71, '${sorrel}', 'victim');
    create function meddle() returns trigger language plpgsql security definer as $$ begin delete from public.tokens where token = 'victim'; return null; end $$;
    create trigger meddle after delete on tokens for each row execute function meddle()`);
  await expect(importText(operation, before)).rejects.toMatchObject({
    code: 'import_conflict',
    details: ['public.tokens: rows of another tenant came or went (0 inserted, 0 updated, 2 deleted; asked for 0, 0, 1)'],
  });
  expect((await database.query(`select from tokens where token in ('new', 'victim')`)).rowCount).toBe(2);
  await database.query('alter function meddle() security invoker');
  expect(await importText(operation, before)).toMatchObject({ hashEqual: true });
  expect((await database.query(`select token from tokens where token in ('new', 'victim')`)).rows).toEqual([{ token: 'victim' }]);
  await database.query('drop function meddle cascade');
});

test('a restore beyond a quota is refused with its name', async () => {
  const pine = await fixture.tenant('Pine', 'pro');
  await database.query(`insert into customers (tenant_id, name) select '${pine}', n::text from generate_series(1, 120) n`);
  const before = await exportText(operation, pine);
  await database.query(`delete from customers where tenant_id = '${pine}'; update partywall_control.directory set plan = 'free' where tenant_id = '${pine}'`);
  await expect(importText(operation, before)).rejects.toMatchObject({
    code: 'import_conflict',
    message: expect.stringContaining('the quota customers of 100 is exceeded'),
  });
  expect((await database.query(`select from customers where tenant_id = '${pine}'`)).rowCount).toBe(0);
});

test('triggers fire and are listed, and restored rows stay as they were exported', async () => {
  const dogwood = await fixture.tenant('Dogwood');
  await database.query(`insert into stamped (id, tenant_id, name) values (1, '${dogwood}', 'a'), (2, '${dogwood}', 'b')`);
  const before = await exportText(operation, dogwood);
  await database.query(`update stamped set name = 'changed' where id = 1; delete from stamped where id = 2`);

  const report = await importText(operation, before);

  expect(report).toMatchObject({ applied: true, hashEqual: true });
  expect(report.corrected).toBeGreaterThan(0);
  expect(report.triggers).toEqual(['public.stamped: log (public.log)', 'public.stamped: stamp (public.stamp)']);
  const { rows } = await database.query(`update stamped set name = 'after' where id = 1 returning name, updated_at > now() - interval '1 minute' as stamped`);
  expect(rows).toEqual([{ name: 'AFTER', stamped: true }]);
});

test('the application cannot keep its own triggers from what they do by the setting of a restore', async () => {
  const elm = await fixture.tenant('Elm');
  await database.query(`insert into stamped (id, tenant_id, name) values (11, '${elm}', 'a')`);
  const app = new pg.Client(fixture.urls.app);
  await app.connect();
  await app.query(`begin; select partywall.enter('${elm}'); set local partywall.restoring = 'on'`);
  const { rows } = await app.query(`update public.stamped set name = 'forged' where id = 11 returning name`);
  await app.query('rollback');
  await app.end();
  expect(rows).toEqual([{ name: 'FORGED' }]);
});

test('what a neighbour has taken meanwhile is found before anything is changed, and no neighbour is touched', async () => {
  const fir = await fixture.tenant('Fir');
  const gum = await fixture.tenant('Gum');
  await database.query(`insert into tokens values (1, '${fir}', 'one'), (2, '${fir}', 'two'), (3, '${fir}', 'three')`);
  const before = await exportText(operation, fir);
  await database.query(`delete from tokens where id in (1, 2); insert into tokens values (1, '${gum}', 'other'), (20, '${gum}', 'two')`);
  const hashes = await Promise.all([contentHash(operation, fir), contentHash(operation, gum)]);

  await expect(importText(operation, before)).rejects.toMatchObject({
    code: 'import_conflict',
    details: ['public.tokens: ("id") = (1) belongs to another tenant now', 'public.tokens: ("token") = (two) belongs to another tenant now'],
  });
  expect(await Promise.all([contentHash(operation, fir), contentHash(operation, gum)])).toEqual(hashes);
});

test("a row that somebody else's row refers to is not deleted", async () => {
  const hazel = await fixture.tenant('Hazel');
  const before = await exportText(operation, hazel);
  await database.query(`insert into tokens values (50, '${hazel}', 'linked'); insert into links (token_id) values (50)`);

  await expect(importText(operation, before)).rejects.toMatchObject({
    code: 'import_conflict',
    details: ['public.tokens: ("id") = (50) would be deleted, and a row of public.links that stays refers to it'],
  });
  expect((await database.query('select count(*)::int as count from links')).rows).toEqual([{ count: 1 }]);
});

test('what the tenant shares and no longer exists is named', async () => {
  const ivy = await fixture.tenant('Ivy');
  await database.query(`insert into countries values ('ZZ', 'Gone'); insert into customers (tenant_id, name, country_code) values ('${ivy}', 'a', 'ZZ')`);
  const before = await exportText(operation, ivy);
  await database.query(`update customers set country_code = null where tenant_id = '${ivy}'; delete from countries where code = 'ZZ'`);
  await expect(importText(operation, before)).rejects.toMatchObject({
    code: 'import_conflict',
    details: ['public.customers: ("country_code") = (ZZ) refers to a row of public.countries that is not there any more'],
  });
});

test('status and plan stay what the lifecycle made them, and neither a deleted tenant nor one under a legal hold is restored', async () => {
  const juniper = await fixture.tenant('Juniper', 'free');
  const before = await exportText(operation, juniper);
  await database.query(`update tenants set status = 'suspended', plan = 'pro', name = 'Renamed' where id = '${juniper}'`);
  expect(await importText(operation, before)).toMatchObject({ hashEqual: true });
  expect((await database.query(`select name, status, plan from tenants where id = '${juniper}'`)).rows).toEqual([
    { name: 'Juniper', status: 'suspended', plan: 'pro' },
  ]);
  await database.query(`update partywall_control.directory set hold_reason = 'a court', held_at = now() where tenant_id = '${juniper}'`);
  await expect(importText(operation, before)).rejects.toMatchObject({ code: 'transition_refused', message: expect.stringContaining('legal hold') });
  await database.query(`update partywall_control.directory set status = 'deleted', hold_reason = null, held_at = null where tenant_id = '${juniper}'`);
  await expect(importText(operation, before)).rejects.toMatchObject({ code: 'transition_refused' });
});

test('an export and an import are in the audit log of the tenant, with their counts', async () => {
  const kapok = await fixture.tenant('Kapok');
  const text = await exportText(operation, kapok);
  await importText(operation, text);
  const { rows } = await database.query(
    `select action, details ->> 'sha256' as sha256, details -> 'complete' as complete from partywall_control.audit_records where tenant_id = '${kapok}' and action in ('tenant.export', 'tenant.import') order by seq`,
  );
  const { sha256 } = JSON.parse(text).trailer;
  expect(rows).toEqual([
    { action: 'tenant.export', sha256, complete: true },
    { action: 'tenant.import', sha256, complete: null },
  ]);
});
