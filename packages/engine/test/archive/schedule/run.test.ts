import { beforeEach, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { verifiedObject } from '../../../src/archive/archive.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { backupIds } from '../../../src/archive/read/list-backups.ts';
import { openBackup, refOf } from '../../../src/archive/read/open-backup.ts';
import { rebuildRecoveryPoints, recordVerified } from '../../../src/archive/schedule/recovery-points.ts';
import { backUp, lookAtSchedule, runScheduledBackup, verifyPending } from '../../../src/archive/schedule/run.ts';
import { isLate, recoveryStatus, tenantRecoveryStatus } from '../../../src/archive/status/status.ts';
import { controlPool } from '../../../src/db/control-pool.ts';
import type { Operation } from '../../../src/db/operation.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';

const fixture = await controlDatabase();
const base = await archiveFixture({ keyring: fixture.control.keyring });
const { query } = fixture.database;
let clock = new Date();
let number = 0;
let archive = base.archive;
const tenants = { enterprise: await fixture.tenant('Nordlys AS', 'enterprise'), starter: await fixture.tenant('Fjord AS', 'starter') };
for (const [n, tenant] of Object.values(tenants).entries()) await query('insert into customers (tenant_id, name) values ($1, $2)', [tenant, `customer ${n}`]);

beforeEach(async () => {
  number += 1;
  archive = await base.open({ store: `${base.folder}/store-${number}` });
  clock = new Date();
  await query('drop table if exists surprise');
  await query("delete from tenants where name = 'Gone AS'");
  await query(
    'truncate partywall_control.recovery_points, partywall_control.backup_runs, partywall_control.backup_schedule, partywall_control.archive_lineage, partywall_control.operations',
  );
});

const operation = (changes: Partial<Operation> = {}): Operation => fixture.operation({ database: { ...fixture.control, clock: () => clock }, ...changes });
const later = (minutes: number): void => {
  clock = new Date(clock.getTime() + minutes * 60_000);
};
const points = async (): Promise<string[]> => {
  const { rows } = await query<{ tenant_id: string | null; class: string; backup: string }>(
    'select tenant_id, class, backup from partywall_control.recovery_points order by tenant_id nulls first, class',
  );
  return rows.map((row) => `${row.tenant_id ?? 'platform'} ${row.class} ${row.backup}`);
};
const runs = async (): Promise<unknown[]> =>
  (await query('select backup, scope, state, error, verified_at is not null as verified from partywall_control.backup_runs order by started_at, id')).rows;
const classes = ['audit', 'configuration', 'database'];
const pointsOf = (backup: string, of: readonly string[]): string[] =>
  [...of]
    .sort((a, b) => Number(b === 'platform') - Number(a === 'platform') || (a < b ? -1 : 1))
    .flatMap((who) => classes.map((name) => `${who} ${name} ${backup}`));

describe('a scheduled backup', () => {
  test('gives everybody a recovery point once it was verified, on record, and is not made again', async () => {
    const { outcome } = await runScheduledBackup(operation(), archive);
    const backup = outcome?.backup ?? '';
    expect(outcome).toEqual({ backup, tenants: 2, locked: 0 });
    expect(await backupIds(archive)).toEqual([backup]);
    expect(await points()).toEqual(pointsOf(backup, ['platform', tenants.enterprise, tenants.starter]));
    expect(await runs()).toEqual([{ backup, scope: 'all', state: 'verified', error: null, verified: true }]);
    const { rows } = await query<{ action: string }>(
      "select action from partywall_control.audit_records where action like 'backup.%' and target = $1 order by seq",
      [`backup:${backup}`],
    );
    expect(rows.map(({ action }) => action)).toEqual(['backup.run', 'backup.verified']);
    expect(await archive.store.head(verifiedObject(backup))).toBeDefined();
    expect((await runScheduledBackup(operation(), archive)).outcome).toBeUndefined();
  });

  test('between the nights holds the tenant that is due, and is the recovery point of that one alone', async () => {
    const settings = { frequency: 'daily', tierAware: true, retentionDays: {}, recentDays: 30 } as const;
    clock = new Date(Date.UTC(2030, 4, 7, 9));
    const first = (await runScheduledBackup(operation(), archive, { settings })).outcome?.backup ?? '';
    later(51);
    const { outcome, decision } = await runScheduledBackup(operation(), archive, { settings });
    expect(decision.run).toMatchObject({ tenants: [tenants.enterprise], reason: 'schedule: 1 tenant due by tier' });
    const second = outcome?.backup ?? '';
    const { manifest, subjects } = await openBackup(archive, second);
    expect(manifest.scope).toBe('tenants');
    expect(subjects.has(refOf(archive, tenantSubject(tenants.enterprise)))).toBe(true);
    expect(subjects.has(refOf(archive, tenantSubject(tenants.starter)))).toBe(false);
    expect(await points()).toEqual([
      ...pointsOf(first, ['platform']),
      ...[tenants.enterprise, tenants.starter].sort().flatMap((tenant) => pointsOf(tenant === tenants.enterprise ? second : first, [tenant])),
    ]);
    await query('update partywall_control.directory set created_at = $1 where true', [new Date()]);
  });

  test('two schedulers at once make one', async () => {
    const outcomes = await Promise.all([1, 2, 3].map(() => runScheduledBackup(operation(), archive)));
    expect(outcomes.filter(({ outcome }) => outcome !== undefined)).toHaveLength(1);
    expect(await backupIds(archive)).toHaveLength(1);
    expect(await runs()).toMatchObject([{ state: 'verified' }]);
  });

  test('holds nobody up who looks right after it', async () => {
    for (let look = 0; look < 30; look += 1) {
      const { decision } = await runScheduledBackup(operation(), archive);
      expect(decision.reasons.filter((reason) => /another schedule|a backup runs/.test(reason))).toEqual([]);
    }
  });

  test('that fails counts for nothing, is on record, and is tried again later', async () => {
    await query('create table surprise (id integer)');
    await expect(runScheduledBackup(operation(), archive)).rejects.toMatchObject({ code: 'backup_refused' });
    expect(await runs()).toMatchObject([{ backup: null, state: 'failed', error: expect.stringContaining('surprise') }]);
    expect(await points()).toEqual([]);
    expect(await runScheduledBackup(operation(), archive)).toMatchObject({ decision: { run: undefined }, outcome: undefined });
    later(6);
    await query('drop table surprise');
    expect((await runScheduledBackup(operation(), archive)).outcome).toMatchObject({ tenants: 2 });
  });

  test('of which an object is missing does not count', async () => {
    const { id } = await runBackup(operation(), archive, { reason: 'by hand' });
    const ref = refOf(archive, tenantSubject(tenants.starter));
    await archive.store.delete(`packs/${ref}/${id}.0`);
    expect(await verifyPending(operation(), archive)).toEqual([]);
    expect(await runs()).toMatchObject([{ backup: id, state: 'failed' }]);
    expect(await points()).toEqual([]);
    expect(await archive.store.head(verifiedObject(id))).toBeUndefined();
  });

  test('that was made by hand, or cut off before it was verified, counts as soon as it is', async () => {
    const { id } = await runBackup(operation(), archive, { reason: 'by hand' });
    const { outcome } = await runScheduledBackup(operation(), archive);
    expect(outcome).toBeUndefined();
    expect(await points()).toEqual(pointsOf(id, ['platform', tenants.enterprise, tenants.starter]));
  });

  test('of a process that is gone is said to have failed when the next one begins', async () => {
    await query(
      "insert into partywall_control.backup_runs (reason, scope, classes, state, started_at) values ('x', 'all', '{}', 'running', now() - interval '6 minutes')",
    );
    await backUp(operation(), archive, { reason: 'by hand' });
    expect(await runs()).toMatchObject([{ state: 'failed', error: 'it was cut off' }, { state: 'verified' }]);
  });

  test('gives way to one that somebody makes by hand', async () => {
    const client = await fixture.control.pool.connect();
    await client.query("select pg_advisory_lock(hashtextextended('partywall:backup', 0))");
    try {
      expect(await lookAtSchedule(operation())).toMatchObject({ run: undefined, reasons: ['a backup runs'] });
    } finally {
      client.release(true);
    }
  });
});

describe('recovery points', () => {
  test('are made anew from the archive after the database forgot them', async () => {
    const first = await backUp(operation(), archive, { reason: 'by hand' });
    later(1);
    const second = await backUp(operation(), archive, { reason: 'by hand', tenants: [tenants.starter] });
    later(1);
    const unverified = await runBackup(operation(), archive, { reason: 'by hand' });
    const before = await points();
    await query('truncate partywall_control.recovery_points, partywall_control.backup_runs, partywall_control.backup_schedule');
    expect(await rebuildRecoveryPoints(operation(), archive)).toEqual({ backups: 2, visited: 2, points: 9, problems: [] });
    expect(await points()).toEqual(before);
    expect(before.join()).not.toContain(unverified.id);
    expect(before.filter((line) => line.includes(second.backup)).every((line) => line.startsWith(tenants.starter))).toBe(true);
    expect(before.filter((line) => line.includes(first.backup))).toHaveLength(6);
  });

  test('are made anew however slow the store is, on a server that ends transactions that wait', async () => {
    await backUp(operation(), archive, { reason: 'by hand' });
    await query(`alter database "${fixture.database.name}" set idle_in_transaction_session_timeout = '500ms'`);
    const pool = controlPool(fixture.database.url, { purpose: 'rebuilding' });
    const overtime = `select from pg_stat_activity where application_name = 'partywall rebuilding' and state = 'idle in transaction'
      and clock_timestamp() - state_change < interval '700 ms'`;
    const get: typeof archive.store.get = async function* (...given) {
      while ((await query(overtime)).rowCount) await new Promise(setImmediate);
      yield* archive.store.get(...given);
    };
    try {
      const slow = { ...archive, store: { ...archive.store, get } };
      const rebuilt = await rebuildRecoveryPoints(operation({ database: { ...fixture.control, pool, clock: () => clock } }), slow);
      expect(rebuilt).toMatchObject({ backups: 1, visited: 1, points: 9, problems: [] });
    } finally {
      await pool.end();
      await query(`alter database "${fixture.database.name}" reset idle_in_transaction_session_timeout`);
    }
  });

  test('never go back to an older backup, and leave one that a wrong clock made', async () => {
    const old = await backUp(operation(), archive, { reason: 'by hand' });
    later(1);
    const fresh = await backUp(operation(), archive, { reason: 'by hand' });
    await recordVerified(operation(), archive, old.backup);
    expect(await points()).toEqual(pointsOf(fresh.backup, ['platform', tenants.enterprise, tenants.starter]));
    await query("update partywall_control.recovery_points set at = '2090-01-01', backup = 'wrong'");
    await recordVerified(operation(), archive, fresh.backup);
    expect((await points()).join()).not.toContain('wrong');
  });

  test('of a tenant go with it, and are not inherited', async () => {
    const gone = await fixture.tenant('Gone AS', 'pro');
    await backUp(operation(), archive, { reason: 'by hand' });
    expect((await points()).join()).toContain(gone);
    await query('delete from tenants where id = $1', [gone]);
    expect((await points()).join()).not.toContain(gone);
  });
});

describe('the status', () => {
  test('shows each tenant against its promise, and who is late', async () => {
    await backUp(operation(), archive, { reason: 'by hand' });
    await query(
      'insert into partywall_control.backup_schedule (since, ticked_at) values ($1, $1) on conflict (id) do update set ticked_at = excluded.ticked_at',
      [clock],
    );
    const fresh = await recoveryStatus(operation(), { limit: 10 });
    expect(fresh).toMatchObject({ visited: 2, tenants: 2, counts: { ok: 2, due: 0, late: 0, never: 0 }, scheduleStopped: false, more: false });
    expect(fresh.items.map(({ tenant }) => tenant)).toEqual(Object.values(tenants).sort());
    expect(isLate(fresh)).toBe(false);
    later(90);
    const late = await recoveryStatus(operation(), { limit: 10, states: ['late', 'never'] });
    expect(late).toMatchObject({
      counts: { ok: 1, late: 1 },
      scheduleStopped: true,
      items: [{ tenant: tenants.enterprise, name: 'Nordlys AS', tier: 'enterprise', state: 'late' }],
    });
    expect(late.items[0]?.classes.map((each) => `${each.class} ${each.state}`)).toEqual(['database late', 'configuration late', 'audit ok']);
    expect(isLate(late)).toBe(true);
    expect(await tenantRecoveryStatus(operation(), tenants.starter)).toMatchObject({ state: 'ok', classes: [{ rpoSeconds: 86_400 }, {}, {}] });
    await expect(tenantRecoveryStatus(operation(), 'nobody')).rejects.toMatchObject({ code: 'tenant_unknown' });
  });

  test('is paged by the keys of tenants, and counts them all on each page', async () => {
    const first = await recoveryStatus(operation(), { limit: 1 });
    const second = await recoveryStatus(operation(), { limit: 1, after: first.items[0]?.tenant });
    expect([first.more, second.more]).toEqual([true, false]);
    expect([...first.items, ...second.items].map(({ tenant }) => tenant)).toEqual(Object.values(tenants).sort());
    expect([first.visited, second.visited]).toEqual([2, 2]);
  });
});
