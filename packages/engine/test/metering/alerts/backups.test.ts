import { evaluateAlerts, listAlerts, type Operation } from '@partywall/engine';
import { beforeEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { query } = fixture.database;
let minute = 0;
const start = Date.now();
const clock = (): Date => new Date(start + minute * 60_000);
const operation = (): Operation => fixture.operation({ database: { ...fixture.control, clock } });
const tenants = { enterprise: await fixture.tenant('Nordlys AS', 'enterprise'), free: await fixture.tenant('Fjord AS', 'free') };

beforeEach(async () => {
  minute = 0;
  await query('truncate partywall_control.alerts, partywall_control.alert_evaluation, partywall_control.deliveries');
  await query('truncate partywall_control.recovery_points, partywall_control.backup_runs, partywall_control.backup_schedule, partywall_control.drills');
  await query("update partywall_control.alert_rules set enabled = metric in ('recovery_point', 'backup_failures', 'backup_schedule', 'drill_failures')");
  await query('update partywall_control.directory set created_at = $1', [clock()]);
});

async function point(tenant: string | null, name = 'database'): Promise<void> {
  await query(
    `insert into partywall_control.recovery_points (tenant_id, class, backup, at, verified_at) values ($1, $2, 'b', $3, $3)
on conflict (tenant_id, class) do update set at = excluded.at`,
    [tenant, name, clock()],
  );
}

const since = () => query('insert into partywall_control.backup_schedule (since) values ($1)', [clock()]);
const ran = (state: 'failed' | 'verified') =>
  query(
    `insert into partywall_control.backup_runs (backup, reason, scope, classes, state, started_at, finished_at, verified_at, error)
values (gen_random_uuid()::text, 'x', 'all', '{}', $1, $2, $2, case when $1 = 'verified' then $2::timestamptz end, case when $1 = 'failed' then 'x' end)`,
    [state, clock()],
  );
const drilled = (outcome: 'failed' | 'passed', error: string | null = null) =>
  query(
    'insert into partywall_control.drills (backup, started_at, finished_at, outcome, report) values ($1, $2, $2, $3, jsonb_build_object($4::text, $5::text))',
    ['b', clock(), outcome, 'error', error],
  );
const open = async (): Promise<string[]> => {
  await evaluateAlerts(operation());
  return (await listAlerts(operation(), { limit: 100 })).map(({ message }) => message).sort();
};

describe('alerts of backups', () => {
  test('say nothing where there is no archive', async () => {
    minute = 100_000;
    expect(await open()).toEqual([]);
  });

  test('open when a recovery point is older than promised, of each tenant by its tier, and resolve with the next one', async () => {
    await since();
    for (const tenant of [tenants.enterprise, tenants.free, null]) await point(tenant);
    minute = 60;
    expect(await open()).toEqual([]);
    minute = 61;
    expect(await open()).toEqual([expect.stringMatching(/^Nordlys AS: Recovery point age database at 101.7 % \(warning over 100 %\)$/)]);
    minute = 121;
    expect(await open()).toEqual([expect.stringMatching(/critical over 200 %/)]);
    await point(tenants.enterprise);
    expect(await open()).toEqual([]);
    minute = 25 * 60;
    expect(await open()).toEqual([expect.stringMatching(/^Nordlys AS/), expect.stringMatching(/^System: Recovery point age database/)]);
  });

  test('open for who was never backed up, once it was promised, and for data classes that there are', async () => {
    await since();
    await point(tenants.free, 'audit');
    minute = 59;
    expect(await open()).toEqual([]);
    minute = 61;
    expect(await open()).toEqual([expect.stringMatching(/^Nordlys AS: Recovery point age database/)]);
    minute = 24 * 60 + 1;
    expect((await open()).map((message) => message.replace(/ at .*/, ''))).toEqual([
      'Nordlys AS: Recovery point age audit',
      'Nordlys AS: Recovery point age database',
      'System: Recovery point age database',
    ]);
  });

  test('open when a backup failed, escalate at the third, and resolve when one was verified', async () => {
    await since();
    await ran('verified');
    minute = 1;
    await ran('failed');
    expect(await open()).toEqual(['System: Failed backups in a row at 1 runs (warning at 1 runs)']);
    minute = 2;
    await ran('failed');
    await ran('failed');
    expect(await open()).toEqual(['System: Failed backups in a row at 3 runs (critical at 3 runs)']);
    minute = 3;
    await ran('verified');
    expect(await open()).toEqual([]);
  });

  test('open when a drill failed, escalate at the second, and resolve when one passed; one that was interrupted does not count', async () => {
    await drilled('passed');
    minute = 1;
    await drilled('failed', 'it was interrupted');
    expect(await open()).toEqual([]);
    await drilled('failed');
    expect(await open()).toEqual(['System: Failed restore drills in a row at 1 runs (warning at 1 runs)']);
    minute = 2;
    await drilled('failed', 'it was cut off');
    expect(await open()).toEqual(['System: Failed restore drills in a row at 2 runs (critical at 2 runs)']);
    minute = 3;
    await drilled('passed');
    expect(await open()).toEqual([]);
  });

  test('open when the schedule that once ran has stopped', async () => {
    await query('insert into partywall_control.backup_schedule (since, ticked_at) values ($1, $1)', [clock()]);
    minute = 15;
    expect(await open()).toEqual([]);
    minute = 20;
    expect(await open()).toEqual(['System: Silence of the backup schedule at 20 min (warning over 15 min)']);
  });
});
