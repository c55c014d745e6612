import { readFile } from 'node:fs/promises';
import {
  appendLedger,
  type ControlDatabase,
  controlPool,
  type Operation,
  reconcile,
  recoverDatabase,
  runBackup,
  suspendTenant,
  syncLedger,
  tenantSubject,
  verifyAudit,
} from '@partywall/engine';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase, type TestDatabase } from '../../../../../test/support/database.ts';
import { plainCatalog } from '../schema/recreated.ts';

const fixture = await controlDatabase();
const { database, control, operation } = fixture;
const { archive } = await archiveFixture({ keyring: control.keyring });
const clock = (): Date => new Date();

async function fill(tenant: string, customers: number): Promise<void> {
  await database.query(
    `with made as (insert into customers (tenant_id, name, country_code) select $1, 'customer ' || n || E'\\t\\\\', 'NO' from generate_series(1, $2) n returning id, tenant_id)
insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', tenant_id from made`,
    [tenant, customers],
  );
}

/** Every row of every table, but for what the restore leaves behind or the backup leaves out. */
async function content(on: TestDatabase): Promise<Record<string, string[]>> {
  const { rows } = await on.query<{ table: string }>(
    `select c.oid::regclass::text as table from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1`,
  );
  const passing = /archive_lineage|sign_in_attempts|idempotency|verification|session|audit_|registry|seal_keys/;
  const all: Record<string, string[]> = {};
  for (const { table } of rows.filter((row) => !passing.test(row.table))) {
    const found = await on.query<{ line: string }>(`select t::text as line from ${table} t order by 1`);
    all[table] = found.rows.map(({ line }) => line);
  }
  return all;
}

interface Target {
  readonly database: TestDatabase;
  readonly operation: Operation;
}

async function target(): Promise<Target> {
  const made = await createDatabase();
  const pool: pg.Pool = controlPool(made.url, { purpose: 'test' });
  afterAll(() => pool.end());
  const restored: ControlDatabase = { ...control, pool };
  return { database: made, operation: { database: restored, actor: { kind: 'operator', id: 'test' } } };
}

async function enters(on: TestDatabase, tenant: string): Promise<boolean> {
  return on.query('select partywall.enter($1)', [tenant]).then(
    () => true,
    () => false,
  );
}

// Made here, so that they are gone before the roles that own things in them.
const [whole, part, stubborn, keyless] = [await target(), await target(), await target(), await target()];

const tenants = { enterprise: '', pro: '', free: '', suspended: '', erased: '', gone: '' };
let backup = '';
let before: Record<string, string[]>;
let late = '';

beforeAll(async () => {
  tenants.enterprise = await fixture.tenant('Enterprise', 'enterprise');
  tenants.pro = await fixture.tenant('Pro', 'pro');
  tenants.free = await fixture.tenant('Free', 'free');
  tenants.suspended = await fixture.tenant('Suspended later', 'pro');
  tenants.erased = await fixture.tenant('Erased later', 'free');
  tenants.gone = await fixture.tenant('Gone later', 'free');
  for (const tenant of Object.values(tenants)) await fill(tenant, 20);
  await syncLedger(operation(), archive);
  backup = (await runBackup(operation(), archive, { reason: 'test' })).id;
  before = await content(database);
  await suspendTenant(operation(), { tenant: tenants.suspended, reason: 'unpaid' });
  // As an erasure does it: first the ledger knows, then the rows go.
  const erasedAt = { at: clock().toISOString(), retainedUntil: null, placement: null };
  await appendLedger(archive, [{ tenant: tenants.erased, status: 'erased', ...erasedAt }], clock());
  await database.query('delete from tenants where id = $1', [tenants.erased]);
  await database.query('delete from tenants where id = $1', [tenants.gone]);
  late = await fixture.tenant('Came after the backup', 'pro');
  await syncLedger(operation(), archive);
}, 60_000);

describe('a whole database restored into an empty one', () => {
  test('refuses a database that is not empty, whatever it holds', async () => {
    for (const sql of [
      'create table t ()',
      'create schema other',
      'create function f() returns int language sql as $$ select 1 $$',
      "create type e as enum ('a')",
    ]) {
      const to = await createDatabase();
      await to.query(sql);
      await expect(recoverDatabase(archive, { from: 'latest', into: to.url }, { clock })).rejects.toMatchObject({ code: 'restore_refused' });
      expect((await to.query("select from pg_namespace where nspname like 'partywall%'")).rowCount).toBe(0);
    }
  });

  test('can bring back some tiers alone, and lets nobody of the others in', async () => {
    const to = part;
    const report = await recoverDatabase(archive, { from: 'latest', into: to.database.url, tiers: ['enterprise'] }, { clock });
    expect(report).toMatchObject({ leftOut: 5 });
    await reconcile(to.operation, archive);
    expect(await enters(to.database, tenants.enterprise)).toBe(true);
    expect(await enters(to.database, tenants.pro)).toBe(false);
    const { rows } = await to.database.query('select distinct tenant_id from customers');
    expect(rows).toEqual([{ tenant_id: tenants.enterprise }]);
  });

  test('keeps an erased tenant out whose rows cannot go, and lets the others in', async () => {
    const to = stubborn;
    await recoverDatabase(archive, { from: backup, into: to.database.url }, { clock });
    await to.database.query('create table unknown_to_the_model (id int)');
    const report = await reconcile(to.operation, archive);
    expect(report.failed).toEqual([{ tenant: tenants.erased, why: expect.stringContaining('planning an erasure') }]);
    expect(report.waiting).toBe(2);
    expect(await enters(to.database, tenants.erased)).toBe(false);
    expect(await enters(to.database, tenants.pro)).toBe(true);
  });

  test('has every row, every sequence and the whole schema, and lets nobody in before the ledger was asked', async () => {
    const to = whole;
    const dry = await recoverDatabase(archive, { from: 'latest', into: to.database.url, dryRun: true }, { clock });
    expect(dry).toMatchObject({ applied: false, backup });
    expect((await to.database.query("select from pg_namespace where nspname like 'partywall%'")).rowCount).toBe(0);

    const report = await recoverDatabase(archive, { from: backup, into: to.database.url }, { clock, model: fixture.model });
    expect(report.tiers.map(({ tier, tenants: count, depth }) => [tier, count, depth])).toEqual([
      ['enterprise', 1, 'full'],
      ['pro', 2, 'standard'],
      ['starter', 0, 'basic'],
      ['free', 3, 'basic'],
    ]);
    expect(report).toMatchObject({ applied: true, resumed: false, erased: 0, leftOut: 0, findings: 0 });
    expect(await content(to.database)).toEqual(before);
    expect(await plainCatalog(to.database.url)).toEqual(await plainCatalog(database.url));
    for (const tenant of Object.values(tenants)) expect(await enters(to.database, tenant)).toBe(false);
    const lines = (await readFile(report.journal ?? '', 'utf8')).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).event)).toEqual(expect.arrayContaining(['begun', 'step', 'tier', 'done']));

    // A ledger that took its word would forget what happened since.
    await expect(syncLedger(to.operation, archive)).rejects.toMatchObject({ code: 'restore_refused' });

    const plan = await reconcile(to.operation, archive, { dryRun: true });
    const kinds = (actions: typeof plan.actions): Record<string, string> => Object.fromEntries(actions.map(({ tenant, kind }) => [tenant, kind]));
    expect(kinds(plan.actions)).toEqual({
      [tenants.enterprise]: 'admit',
      [tenants.pro]: 'admit',
      [tenants.suspended]: 'status',
      [tenants.erased]: 'erase',
      [tenants.gone]: 'keep',
      [tenants.free]: 'admit',
      [late]: 'lost',
    });
    expect(plan.actions[0]?.tenant).toBe(tenants.enterprise);
    for (const tenant of Object.values(tenants)) expect(await enters(to.database, tenant)).toBe(false);

    const first = await reconcile(to.operation, archive, { tiers: ['enterprise'] });
    expect(await enters(to.database, tenants.enterprise)).toBe(true);
    expect(await enters(to.database, tenants.pro)).toBe(false);
    expect(first.waiting).toBe(5);

    const all = await reconcile(to.operation, archive);
    // What counts is what the archive has, not what the database knew when it was backed up.
    expect([plan.points, all.points]).toEqual([null, expect.objectContaining({ problems: [] })]);
    expect(kinds(all.actions)).toEqual({ ...kinds(plan.actions), [tenants.enterprise]: undefined });
    expect(all.waiting).toBe(1);
    expect(await enters(to.database, tenants.pro)).toBe(true);
    expect(await enters(to.database, tenants.free)).toBe(true);
    // A write on each sequence gives a number that no row has.
    const { rows: numbers } = await to.database.query<{ next: string; max: string }>(
      "select nextval('notes_id_seq') as next, (select max(id) from notes) as max",
    );
    expect(Number(numbers[0]?.next)).toBeGreaterThan(Number(numbers[0]?.max));
    for (const tenant of [tenants.suspended, tenants.erased, tenants.gone]) expect(await enters(to.database, tenant)).toBe(false);
    const left = await to.database.query('select from customers where tenant_id = $1 union all select from tenants where id = $1', [tenants.erased]);
    expect(left.rowCount).toBe(0);
    const neighbours = await content(to.database);
    for (const table of ['customers', 'notes', 'users', 'files']) {
      const mine = (line: string): boolean => !line.includes(tenants.erased);
      expect(neighbours[table]).toEqual(before[table]?.filter(mine));
    }
    const { rows } = await to.database.query<{ status: string }>('select status from tenants where id = $1', [tenants.suspended]);
    expect(rows[0]?.status).toBe('suspended');
    expect((await verifyAudit(to.operation)).faults).toEqual([]);
  });

  test('brings nothing back of a tenant whose keys are gone, and every other row', async () => {
    await archive.keys.destroy(tenantSubject(tenants.erased));
    const to = keyless;
    const report = await recoverDatabase(archive, { from: backup, into: to.database.url }, { clock });
    expect(report).toMatchObject({ erased: 1, leftOut: 0 });
    const after = await content(to.database);
    for (const [table, lines] of Object.entries(after)) {
      if (!/certificates|operations/.test(table))
        expect(
          lines.filter((line) => line.includes(tenants.erased)),
          table,
        ).toEqual([]);
      expect(lines, table).toEqual(before[table]?.filter((line) => !line.includes(tenants.erased)));
    }
    expect((await to.database.query('select from partywall.registry where tenant_id = $1', [tenants.erased])).rowCount).toBe(0);
    const { actions } = await reconcile(to.operation, archive);
    expect(actions.map(({ tenant }) => tenant)).not.toContain(tenants.erased);
    await expect(to.database.query('select partywall.enter($1)', [tenants.erased])).rejects.toThrow('unknown tenant');
  });
});
