import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dataClasses } from '../../../src/archive/format/manifest.ts';
import { type Circumstances, decideBackup, frequencyOf, platformTier } from '../../../src/archive/schedule/decide.ts';
import { addSeconds, margin, type Protected, standingOf } from '../../../src/archive/schedule/due.ts';
import { backupSettings, defaultBackupSettings } from '../../../src/archive/schedule/settings.ts';
import { type PlanTier, planTiers } from '../../../src/metering/plans.ts';
import { tierPromises } from '../../../src/metering/tiers.ts';

const at = (time: string): Date => new Date(`2026-11-${time}:00Z`);
const longAgo = new Date('2026-01-01T00:00:00Z');

function subject(tenant: string | null, tier: PlanTier, last: Date | null, changes: Partial<Protected> = {}): Protected {
  const points = last === null ? {} : Object.fromEntries(dataClasses.map((name) => [name, { backup: 'b', at: last }]));
  return { tenant, tier, quietSince: null, since: longAgo, points, ...changes };
}

function circumstances(now: Date, subjects: readonly Protected[], changes: Partial<Circumstances> = {}): Circumstances {
  const failures = { count: 0, lastAt: null };
  return { now, runSeconds: 0, settings: defaultBackupSettings, subjects, classes: ['database', 'configuration', 'audit'], failures, ...changes };
}

describe('the schedule', () => {
  test('makes the first backup at once, of everything', () => {
    const { run } = decideBackup(circumstances(at('21T12:34'), [subject(null, 'pro', null), subject('a', 'free', null)]));
    expect(run).toMatchObject({ tenants: undefined, reason: 'schedule: daily', readData: true });
  });

  test('backs everything up daily at 02:00, and within six hours of the last time', () => {
    const made: string[] = [];
    let last = at('21T02:00');
    for (let now = at('21T02:05'); now <= at('22T02:10'); now = addSeconds(now, 300)) {
      const { run } = decideBackup(circumstances(now, [subject(null, 'pro', last), subject('a', 'starter', last), subject('b', 'free', last)]));
      if (!run) continue;
      expect(run.tenants).toBeUndefined();
      expect(now <= addSeconds(last, 6 * 3_600)).toBe(true);
      made.push(now.toISOString().slice(8, 16));
      last = now;
    }
    expect(made).toEqual(['21T07:25', '21T12:50', '21T18:15', '21T23:40', '22T02:00']);
  });

  test('makes the missed backup of a slot when it runs again, once', () => {
    const last = at('20T18:00');
    const late = circumstances(at('21T05:00'), [subject(null, 'starter', last), subject('a', 'starter', last)]);
    expect(decideBackup(late).run?.reason).toBe('schedule: daily');
    expect(
      decideBackup(circumstances(at('21T05:05'), [subject(null, 'starter', at('21T05:00')), subject('a', 'starter', at('21T05:00'))])).run,
    ).toBeUndefined();
  });

  test('adapts to the highest tier among active tenants', () => {
    expect(frequencyOf(['free', 'enterprise', 'pro'])).toBe('hourly');
    expect(frequencyOf(['free', 'pro', 'starter'])).toBe('6hourly');
    expect(frequencyOf(['free', 'starter'])).toBe('daily');
    expect(frequencyOf(['free'])).toBe('daily');
    expect(frequencyOf([])).toBe('daily');
    expect(platformTier(defaultBackupSettings, ['free', 'enterprise'])).toBe('enterprise');
    expect(platformTier({ ...defaultBackupSettings, tierAware: false }, ['free', 'enterprise'])).toBe('pro');
    expect(platformTier(defaultBackupSettings, ['free'])).toBe('pro');
    expect(platformTier({ ...defaultBackupSettings, frequency: 'daily' }, ['enterprise'])).toBe('starter');
    const hourly = circumstances(at('21T12:51'), [subject(null, 'enterprise', at('21T12:00')), subject('e', 'enterprise', at('21T12:00'))]);
    expect(decideBackup(hourly).run).toMatchObject({ tenants: undefined });
  });

  test('backs up between the slots whoever is due by its own last verified recovery point, and whoever will be soon', () => {
    const settings = { ...defaultBackupSettings, frequency: '6hourly' as const };
    const others = Array.from({ length: 10 }, (_, n) => subject(`f${n}`, 'free', at('21T12:00')));
    const tenants = [subject('due', 'enterprise', at('21T12:00')), subject('soon', 'enterprise', at('21T12:10')), subject('new', 'enterprise', at('21T12:45'))];
    const { run, reasons } = decideBackup(circumstances(at('21T12:51'), [subject(null, 'pro', at('21T12:00')), ...tenants, ...others], { settings }));
    expect(run).toEqual({ tenants: ['due', 'soon'], reason: 'schedule: 2 tenants due by tier', readData: false });
    expect(reasons).toEqual([
      'due: database of tier enterprise, last 2026-11-21T12:00:00.000Z; configuration of tier enterprise, last 2026-11-21T12:00:00.000Z',
    ]);
  });

  test('says when the next one is due, and never later than a promise ends', () => {
    const tier = fc.constantFrom(...planTiers);
    fc.assert(
      fc.property(fc.array(fc.record({ tier, age: fc.integer({ min: 0, max: 40 * 86_400 }) }), { maxLength: 12 }), (given) => {
        const now = at('21T13:00');
        const subjects = [subject(null, 'pro', at('21T12:30')), ...given.map(({ tier: of, age }, n) => subject(String(n), of, addSeconds(now, -age)))];
        const { run, next } = decideBackup(circumstances(now, subjects));
        const taken = (tenant: string | null): boolean => run !== undefined && (run.tenants === undefined || (tenant !== null && run.tenants.includes(tenant)));
        for (const each of subjects) {
          const point = each.points.database?.at ?? now;
          const ends = addSeconds(point, tierPromises[each.tier].rpoSeconds.database);
          expect(taken(each.tenant) || next < ends, `${each.tenant} ${each.tier} ${point.toISOString()}`).toBe(true);
        }
        expect(next > now).toBe(true);
      }),
    );
  });

  test('a suspended tenant is backed up once more and then left alone', () => {
    const quietSince = at('21T11:00');
    const of = (last: Date) => [
      subject(null, 'pro', at('21T12:00')),
      subject('s', 'enterprise', last, { quietSince }),
      subject('f', 'free', at('21T12:00')),
      subject('g', 'free', at('21T12:00')),
    ];
    expect(decideBackup(circumstances(at('21T12:30'), of(at('21T10:59')))).run?.tenants).toEqual(['s']);
    expect(decideBackup(circumstances(at('21T16:30'), of(at('21T11:01')))).run).toBeUndefined();
  });

  test('has everything read back by the first backup after each Sunday at 02:00', () => {
    const nightly = (last: string, now: string) => decideBackup(circumstances(at(now), [subject(null, 'pro', at(last))])).run?.readData;
    expect([nightly('20T02:00', '21T02:00'), nightly('21T02:00', '22T02:00'), nightly('21T02:00', '23T02:00'), nightly('22T02:00', '23T02:00')]).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  test('waits longer after each failure, at most an hour', () => {
    const subjects = [subject(null, 'pro', at('20T12:00')), subject('a', 'pro', at('20T12:00'))];
    const tried = (count: number, now: Date) => decideBackup(circumstances(now, subjects, { failures: { count, lastAt: at('21T12:00') } })).run !== undefined;
    expect([tried(1, at('21T12:04')), tried(1, at('21T12:05'))]).toEqual([false, true]);
    expect([tried(3, at('21T12:19')), tried(3, at('21T12:20'))]).toEqual([false, true]);
    expect([tried(50, at('21T12:59')), tried(50, at('21T13:00'))]).toEqual([false, true]);
  });

  test('a recovery point from the future, made while the clock was wrong, counts for nothing', () => {
    const future = new Date('2031-01-01T00:00:00Z');
    expect(decideBackup(circumstances(at('21T12:30'), [subject(null, 'pro', future), subject('a', 'pro', future)])).run).toMatchObject({ tenants: undefined });
    expect(standingOf(subject('a', 'pro', future), 'database', { now: at('21T12:30'), runSeconds: 0 })).toMatchObject({ state: 'never', at: null });
  });

  test('where tiers are not regarded, everything goes by the slots alone', () => {
    const settings = { ...defaultBackupSettings, tierAware: false };
    const tenants = [subject(null, 'pro', at('21T12:00')), subject('e', 'enterprise', at('21T10:00')), subject('f', 'free', null), subject('g', 'free', null)];
    expect(decideBackup(circumstances(at('21T15:00'), tenants, { settings })).run).toBeUndefined();
    expect(decideBackup(circumstances(at('21T17:30'), tenants, { settings })).run).toMatchObject({ tenants: undefined });
  });
});

describe('a recovery point', () => {
  const clock = { now: at('21T12:00'), runSeconds: 60 };

  test('of each tier and class is judged against what is promised', () => {
    const states = (['enterprise', 'pro', 'starter', 'free'] as const).map((tier) =>
      ['11:30', '11:05', '05:59'].map((time) => standingOf(subject('t', tier, at(`21T${time}`)), 'database', clock).state).join(' '),
    );
    expect(states).toEqual(['ok due ok'.replace(/ok$/, 'late'), 'ok ok late', 'ok ok ok', 'ok ok ok']);
    expect(standingOf(subject('t', 'enterprise', at('21T05:59')), 'audit', clock).state).toBe('ok');
    expect(standingOf(subject('t', 'enterprise', at('20T11:59')), 'audit', clock).state).toBe('late');
    expect(standingOf(subject('t', 'free', at('14T11:59')), 'files', clock).state).toBe('late');
  });

  test('exactly as old as promised is not late', () => {
    expect(standingOf(subject('t', 'enterprise', at('21T11:00')), 'database', clock).state).toBe('due');
  });

  test('that a new tenant does not have yet is due, and missing once it was promised', () => {
    expect(standingOf(subject('t', 'pro', null, { since: at('21T11:00') }), 'database', clock).state).toBe('due');
    expect(standingOf(subject('t', 'pro', null, { since: at('21T05:59') }), 'database', clock).state).toBe('never');
  });

  test('is made early enough for the run to end in time', () => {
    expect(margin(3_600, 0)).toBe(600);
    expect(margin(3_600, 600)).toBe(1_560);
    expect(margin(3_600, 7_200)).toBe(1_800);
    expect(margin(86_400, 60)).toBe(8_760);
  });
});

describe('settings', () => {
  test("are read under the documents' names", () => {
    const env = { BACKUP_FREQUENCY: '6hourly', BACKUP_TIER_AWARE: 'false', BACKUP_RETENTION_DAYS: '45', BACKUP_RETENTION_PRO: '120' };
    expect(backupSettings(env)).toEqual({ frequency: '6hourly', tierAware: false, retentionDays: { pro: 120 }, recentDays: 45 });
    expect(backupSettings({})).toEqual(defaultBackupSettings);
    expect(backupSettings({ BACKUP_FREQUENCY: 'weekly', BACKUP_RETENTION_DAYS: '7' })).toEqual({ ...defaultBackupSettings, frequency: 'daily' });
  });

  test.each([
    { BACKUP_FREQUENCY: 'monthly' },
    { BACKUP_TIER_AWARE: 'yes' },
    { BACKUP_RETENTION_PRO: '0' },
    { BACKUP_RETENTION_FREE: '3d' },
    { BACKUP_RETENTION_DAYS: '-1' },
  ])('refuses %o', (env) => {
    expect(() => backupSettings(env)).toThrow(expect.objectContaining({ code: 'input_invalid' }));
  });
});
