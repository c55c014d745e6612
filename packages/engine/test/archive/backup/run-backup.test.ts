import fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { openBackup } from '../../../src/archive/read/open-backup.ts';
import { backupIds, backupSource, controlPool, findBackup } from '../../../src/index.ts';
import { copied, expectSame, storedRows } from './stored.ts';

const fixture = await controlDatabase({
  schema: `
create type mood as enum ('calm', 'it''s	odd');
create table "Odd ""Things""" (
  "select" bigint generated always as identity,
  tenant_id uuid not null references tenants (id) on delete cascade,
  twice numeric generated always as ("select" * 2) stored,
  gone integer,
  moods mood[],
  bytes bytea,
  number double precision,
  day date,
  span interval,
  words text,
  doc jsonb,
  primary key (tenant_id, "select")
);
alter table "Odd ""Things""" drop column gone;
create table events (id bigint, tenant_id uuid not null references tenants (id) on delete cascade, at date not null, note text) partition by range (at);
create table events_old partition of events for values from (minvalue) to ('2026-01-01');
create table events_new (note text, at date not null, id bigint, tenant_id uuid not null);
create table jottings (id int);
alter table events attach partition events_new for values from ('2026-01-01') to (maxvalue);`,
  tables: {
    'public."Odd ""Things"""': { scope: 'scoped', column: 'tenant_id' },
    'public.jottings': { scope: 'platform', access: 'none' },
    'public.events': { scope: 'scoped', column: 'tenant_id' },
  },
});
const { control, database, operation } = fixture;
const { archive, folder, settings } = await archiveFixture({ keyring: control.keyring });
const [amber, brass, empty] = [await fixture.tenant('Amber'), await fixture.tenant('Brass'), await fixture.tenant('Empty')];
for (const tenant of [amber, brass]) {
  await database.query(`insert into customers (tenant_id, name, revenue) select $1, 'Customer ' || n, n / 3.0 from generate_series(1, 50) n`, [tenant]);
  await database.query(
    `insert into notes (partywall_tenant_id, customer_id, body) select tenant_id, id, E'a\\tb\\nc\\\\ \\r' from customers where tenant_id = $1`,
    [tenant],
  );
  await database.query(
    `insert into "Odd ""Things""" (tenant_id, moods, bytes, number, day, span, words, doc) values
      ($1, array['calm', 'it''s	odd', null]::mood[], '\\x00ff0a09', 'NaN', 'infinity', '1 year -2 days', '\\N', '{"a": [1, null]}'),
      ($1, '{}', '', '-Infinity', '0044-03-15 BC', '-00:00:00.000001', '', 'null'),
      ($1, null, null, 0.1::float8 + 0.2, null, null, repeat('långt 🧱', 200000), null)`,
    [tenant],
  );
  await database.query(`insert into events select n, $1, date '2025-12-20' + n, 'event ' || n from generate_series(1, 30) n`, [tenant]);
}

describe('a backup', () => {
  test('holds the rows of every tenant and of the platform as they are, whatever types, names and partitions', async () => {
    const report = await runBackup(operation(), archive, { reason: 'by hand' }, { workers: 2 });
    await expectSame(archive, report.id, { url: database.url, tenants: [amber, brass, empty] });
    expect(await storedRows(archive, report.id, { tenant: amber, table: 'public."Odd ""Things"""' })).toHaveLength(3);
    expect(await storedRows(archive, report.id, { tenant: amber, table: 'public.events' })).toHaveLength(30);
    expect(await storedRows(archive, report.id, { tenant: null, table: 'public.countries' })).toEqual(
      ['GB\tBritain', 'NO\tNorway'].with(0, 'GB\tUnited Kingdom'),
    );
    expect(await storedRows(archive, report.id, { tenant: null, table: 'partywall.registry' })).toHaveLength(3);
  });

  test('leaves out generated columns, and puts the tenant first', async () => {
    const { manifest } = await findBackup(archive, 'latest');
    const odd = manifest.tables.find(({ name }) => name === 'public."Odd ""Things"""');
    expect(odd?.columns.map(({ name }) => name)).toEqual(['tenant_id', 'select', 'moods', 'bytes', 'number', 'day', 'span', 'words', 'doc']);
    expect(odd).toMatchObject({ class: 'database', key: ['tenant_id', 'select'], tenantColumn: 'tenant_id', rows: 6 });
    expect(manifest.tables.find(({ name }) => name === 'public.tenants')?.columns.map(({ name }) => name)).toContain('status');
  });

  test('is a source of each tenant, with the schema', async () => {
    const source = await backupSource(archive, await findBackup(archive, 'latest'), brass);
    expect(source.tables.find(({ name }) => name === 'public.customers')?.count).toBe(50);
    expect(await source.schema?.()).toContain('create table public.customers');
  });

  test('holds each sequence as it stands after the rows', async () => {
    await database.query(`select setval('notes_id_seq', 4711, false)`);
    const { id } = await runBackup(operation(), archive, { reason: 'by hand' });
    const { manifest } = await openBackup(archive, id);
    expect(manifest.sequences).toContainEqual({ name: 'public."Odd ""Things""_select_seq"', last: '6', called: true });
    expect(manifest.sequences.find(({ name }) => name === 'public.notes_id_seq')).toBeDefined();
  });

  test('holds nothing in clear that a tenant wrote, and no key of a tenant', async () => {
    for (const entry of await fs.readdir(path.join(folder, 'store'), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const bytes = await fs.readFile(path.join(entry.parentPath, entry.name));
      for (const text of [amber, brass, 'Amber', 'Customer 1']) {
        expect(bytes.includes(text), `${text} in ${entry.name}`).toBe(false);
        expect(entry.parentPath.includes(text)).toBe(false);
      }
    }
  });

  test('of some tenants holds them and nobody else', async () => {
    const { id, scope } = await runBackup(operation(), archive, { reason: 'before restore', tenants: [brass] });
    expect(scope).toBe('tenants');
    await expectSame({ ...archive }, id, { url: database.url, tenants: [brass] }).catch(async (error: unknown) => {
      // Tables of the platform are not in it.
      if (!(error instanceof Error) || !error.message.includes('of null')) throw error;
    });
    const backup = await openBackup(archive, id);
    expect(backup.subjects.size).toBe(2);
    await expect(backupSource(archive, backup, amber)).rejects.toMatchObject({ code: 'backup_unknown' });
    expect(backup.manifest.tables.map(({ name }) => name)).not.toContain('public.countries');
    expect(await (await backupSource(archive, backup, brass)).schema?.()).toContain('create table');
  });

  test('of some classes holds those', async () => {
    const { id } = await runBackup(operation(), archive, { reason: 'audit', classes: ['audit'] });
    const { manifest } = await openBackup(archive, id);
    expect(manifest.classes).toEqual(['audit']);
    expect(new Set(manifest.tables.filter(({ kind }) => kind === 'rows').map((table) => table.class))).toEqual(new Set(['audit']));
  });

  test('is recorded, and records of a tenant are that tenant’s', async () => {
    const { id } = await runBackup(operation(), archive, { reason: 'by hand' });
    const { rows } = await database.query<{ tenant: string; reason: string }>(
      `select tenant_id as tenant, reason from partywall_control.audit_records where action = 'backup.run' and target = $1`,
      [`backup:${id}`],
    );
    expect(rows).toEqual([{ tenant: '', reason: 'by hand' }]);
    expect((await storedRows(archive, id, { tenant: brass, table: 'partywall_control.audit_records' })).join()).toContain('before restore');
    expect(await storedRows(archive, id, { tenant: amber, table: 'partywall_control.audit_records' })).toEqual([]);
  });

  test('run dry says what it would do, and makes nothing: no object, no key, no record', async () => {
    const before = { ids: await backupIds(archive), files: await fs.readdir(folder, { recursive: true }) };
    await database.query(`update customers set name = name || '!' where tenant_id = $1`, [amber]);
    const report = await runBackup(operation(), archive, { reason: 'by hand', dryRun: true });
    expect(report).toMatchObject({ dryRun: true, stored: null, tenants: 3, unchanged: 2 });
    expect(report.tables.find(({ table }) => table === 'public.customers')).toMatchObject({ changed: 1, rows: 100 });
    expect({ ids: await backupIds(archive), files: await fs.readdir(folder, { recursive: true }) }).toEqual(before);
  });

  test('leaves nothing in its work folder', async () => {
    expect(await fs.readdir(settings.workFolder)).toEqual([]);
  });

  test('keeps people with their only tenant, and others with the platform', async () => {
    await database.query(
      `insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, 'A', 'a', now()), ($2, 'B', 'b', now())`,
      [amber, brass],
    );
    const people = { one: [amber], both: [amber, brass], nobody: [], root: [amber] };
    for (const [id, tenants] of Object.entries(people)) {
      await database.query(
        `insert into partywall_people."user" ("id", "name", "email", "emailVerified", "superAdmin") values ($1, $1, $1 || '@people.example', true, $1 = 'root')`,
        [id],
      );
      await database.query(
        `insert into partywall_people."account" ("id", "accountId", "providerId", "userId", "updatedAt") values ($1, $1, 'credential', $1, now())`,
        [id],
      );
      for (const tenant of tenants) {
        await database.query(
          `insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values (gen_random_uuid(), $1, $2, 'member', now())`,
          [tenant, id],
        );
      }
    }
    const { id } = await runBackup(operation(), archive, { reason: 'by hand' });
    const names = async (tenant: string | null, table: string, column = 0): Promise<(string | undefined)[]> =>
      (await storedRows(archive, id, { tenant, table: `partywall_people.${table}` })).map((line) => line.split('\t')[column]);
    for (const table of ['user', 'account']) {
      expect(await names(amber, table)).toEqual(['one']);
      expect(await names(brass, table)).toEqual([]);
      expect(await names(null, table)).toEqual(['both', 'nobody', 'root']);
    }
    expect(await names(amber, 'member', 2)).toEqual(expect.arrayContaining(['both', 'one', 'root']));
    const user = (await openBackup(archive, id)).manifest.tables.find(({ name }) => name === 'partywall_people.user');
    expect(await storedRows(archive, id, { tenant: amber, table: 'partywall_people.user' })).toEqual(
      await copied(database.url, `select ${user?.columns.map(({ name }) => `"${name}"`).join(', ')} from partywall_people."user" where id = 'one'`),
    );
  });

  test('keeps rows of no registered tenant with the platform, and says so', async () => {
    await database.query(`set session_replication_role = replica`);
    await database.query(`insert into files (tenant_id, name, size_bytes) values ('00000000-0000-0000-0000-000000000000', 'stray', 1)`);
    await database.query(`set session_replication_role = origin`);
    const { id, left } = await runBackup(operation(), archive, { reason: 'by hand' });
    expect(left).toContain("public.files: 1 rows of no registered tenant, kept with the platform's");
    expect((await openBackup(archive, id)).manifest.left).toEqual(left);
    expect(await storedRows(archive, id, { tenant: null, table: 'public.files' })).toHaveLength(1);
    await database.query(`delete from files where name = 'stray'`);
  });
});

describe('a backup is refused', () => {
  const none = async (work: () => Promise<unknown>, expected: Record<string, unknown>): Promise<void> => {
    const before = await backupIds(archive);
    await expect(work()).rejects.toMatchObject(expected);
    expect(await backupIds(archive)).toEqual(before);
  };

  test('to a role that a policy binds: it would read fewer rows', async () => {
    await database.query(
      `grant usage on schema partywall, partywall_control, partywall_people to "${control.model.roles.system}", "${control.model.roles.app}"`,
    );
    await database.query(`grant select on all tables in schema public, partywall, partywall_control, partywall_people to "${control.model.roles.app}"`);
    const pool = controlPool(fixture.urls.app, { purpose: 'test' });
    await none(() => runBackup(operation({ database: { ...control, pool } }), archive, { reason: 'by hand' }), {
      code: 'backup_refused',
      message: expect.stringContaining('row-level security'),
    });
    await pool.end();
  });

  test('where the model does not classify a table', async () => {
    await database.query('create table surprises (id int)');
    await none(() => runBackup(operation(), archive, { reason: 'by hand' }), { code: 'backup_refused', message: expect.stringContaining('public.surprises') });
    await database.query('drop table surprises');
  });

  test('where a table is unlogged, or large objects are there, unless they may be left out', async () => {
    await database.query('drop table jottings');
    await database.query(
      `create unlogged table jottings (id int); insert into jottings values (1); grant select on jottings to ${control.model.roles.service}`,
    );
    // Those of the owner of the control plane are its counters.
    await database.query(`set role ${control.model.roles.system}`);
    const object = await database.query<{ oid: string }>('select lo_from_bytea(0, $1)::text as oid', [Buffer.from('a large object')]);
    await database.query('reset role');
    await none(() => runBackup(operation(), archive, { reason: 'by hand' }), {
      code: 'backup_refused',
      details: ['1 large objects', 'public.jottings is unlogged'],
      hint: expect.stringContaining('--allow'),
    });
    await none(() => runBackup(operation(), archive, { reason: 'by hand', allow: ['unlogged'] }), { details: ['1 large objects'] });
    const { left, tables } = await runBackup(operation(), archive, { reason: 'by hand', allow: ['unlogged', 'large-objects'] });
    expect(left).toEqual(expect.arrayContaining(['left out, as allowed: 1 large objects', 'left out, as allowed: public.jottings is unlogged']));
    expect(tables.find(({ table }) => table === 'public.jottings')).toMatchObject({ rows: 0 });
    await database.query(`drop table jottings; create table jottings (id int); grant select on jottings to ${control.model.roles.service}`);
    await database.query('select lo_unlink($1)', [object.rows[0]?.oid]);
  });

  test('while another runs, which is named', async () => {
    const client = await control.pool.connect();
    await client.query("set application_name = 'partywall backup 20261121t020000z-1f2e3d4c'");
    await client.query("select pg_advisory_lock(hashtextextended('partywall:backup', 0))");
    await none(() => runBackup(operation(), archive, { reason: 'by hand' }), {
      code: 'backup_refused',
      message: expect.stringContaining('20261121t020000z-1f2e3d4c is running'),
    });
    // The server may notice later that the connection is gone.
    await client.query('select pg_advisory_unlock_all()');
    client.release(true);
  });

  test('to unknown tenants, unknown classes and no reason', async () => {
    await none(() => runBackup(operation(), archive, { reason: 'by hand', tenants: ['nobody'] }), { code: 'tenant_unknown' });
    await none(() => runBackup(operation(), archive, { reason: 'by hand', classes: ['files'] }), { code: 'input_invalid' });
    await none(() => runBackup(operation(), archive, { reason: ' ' }), { code: 'input_invalid' });
  });

  test('once it was interrupted, and nothing is left of it', async () => {
    await none(() => runBackup(operation({ signal: AbortSignal.abort(new Error('interrupted')) }), archive, { reason: 'by hand' }), { message: 'interrupted' });
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(new Error('interrupted'));
    await none(() => runBackup(operation({ signal: controller.signal }), archive, { reason: 'by hand' }, { onProgress }), { message: 'interrupted' });
    expect(await fs.readdir(settings.workFolder)).toEqual([]);
    const { rows } = await database.query("select from pg_stat_activity where datname = current_database() and application_name like 'partywall backup%'");
    expect(rows).toHaveLength(0);
  });
});
