import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dataClasses } from '../../../src/archive/format/manifest.ts';
import { classesOf, keepPeriods } from '../../../src/archive/retention/periods.ts';
import { planRetention, type RetainedBackup, type RetentionInput, type SubjectHolder } from '../../../src/archive/retention/plan.ts';
import { defaultBackupSettings } from '../../../src/archive/schedule/settings.ts';
import { planTiers } from '../../../src/metering/plans.ts';

const dayMs = 86_400_000;
const now = new Date('2026-11-21T12:00:00Z');
const at = (days: number): Date => new Date(now.getTime() - days * dayMs);
const holder = (of: SubjectHolder['holder'], legalHold = false): SubjectHolder => ({ holder: of, legalHold });

function backup(id: string, taken: Date, changes: Partial<RetainedBackup> = {}): RetainedBackup {
  return { id, at: taken, whole: true, verifiedAt: taken, classes: dataClasses, ...changes };
}

/** Daily backups at 02:00 for so many days, newest last. */
function daily(days: number): RetainedBackup[] {
  return Array.from({ length: days }, (_, n) => backup(`d${String(days - 1 - n).padStart(3, '0')}`, new Date(Date.UTC(2026, 10, 21 - (days - 1 - n), 2))));
}

function plan(backups: readonly RetainedBackup[], subjects: readonly string[], changes: Partial<RetentionInput> = {}) {
  const holders = new Map(planTiers.map((tier) => [tier as string, holder(tier)] as const));
  return planRetention({ backups, holders, now, settings: defaultBackupSettings, ...changes }, () => subjects);
}

const keptIds = (verdicts: ReturnType<typeof plan>, subject: string): string[] =>
  verdicts.filter(({ keep, retired }) => keep && !retired.includes(subject)).map(({ id }) => id);
const days = keepPeriods(defaultBackupSettings);

describe('periods', () => {
  test('are the longer of what the documents say, and never shorter than the interval of the class', () => {
    const table = [null, 'enterprise', 'pro', 'starter', 'free'].map((of) => {
      const tier = of as SubjectHolder['holder'];
      return [of, days('recent', tier), days('daily', tier), days('weekly', tier), days('monthly', tier)];
    });
    expect(table).toEqual([
      [null, 30, 30, 84, 366],
      ['enterprise', 30, 30, 84, 366],
      ['pro', 30, 30, 90, 90],
      ['starter', 30, 30, 30, 31],
      ['free', 7, 7, 7, 31],
    ]);
  });

  test('are lengthened by settings, and not shortened', () => {
    const settings = { ...defaultBackupSettings, retentionDays: { enterprise: 30, free: 3, pro: 120 }, recentDays: 60 };
    const set = keepPeriods(settings);
    expect([set('monthly', 'enterprise'), set('daily', 'free'), set('monthly', 'pro'), set('recent', 'pro'), set('daily', null)]).toEqual([
      366, 7, 120, 60, 60,
    ]);
    const same = keepPeriods({ ...defaultBackupSettings, tierAware: false });
    expect([same('daily', 'free'), same('weekly', 'free'), same('monthly', 'free')]).toEqual([30, 84, 366]);
  });
});

describe('classes', () => {
  test('are of the first verified backup of everything at or after 02:00, also where it was late', () => {
    const sunday = (time: string): Date => new Date(`2026-11-01T${time}:00Z`); // a Sunday and the first of the month
    const backups = [
      backup('early', sunday('01:59')),
      backup('failed', sunday('02:00'), { verifiedAt: null }),
      backup('part', sunday('02:30'), { whole: false }),
      backup('late', sunday('11:00')),
      backup('later', sunday('12:00')),
      backup('next', new Date('2026-11-02T02:00:00Z')),
    ];
    expect(Object.fromEntries(classesOf(backups))).toEqual({
      early: ['recent', 'daily', 'weekly', 'monthly'],
      part: ['recent'],
      late: ['recent', 'daily', 'weekly', 'monthly'],
      later: ['recent'],
      next: ['recent', 'daily'],
    });
  });

  test('of two that were taken at the same time go to one', () => {
    const tie = [backup('b', at(1)), backup('a', at(1))];
    expect([...classesOf(tie)].filter(([, classes]) => classes.includes('daily')).map(([id]) => id)).toEqual(['a']);
    expect(classesOf(tie)).toEqual(classesOf(tie.toReversed()));
  });
});

describe('the plan', () => {
  test('keeps daily ones 30 days, weekly ones 12 weeks, monthly ones 12 months', () => {
    const kept = keptIds(plan(daily(400), ['platform']), 'platform').map((id) => Number(id.slice(1)));
    const ofAge = (from: number, to: number): number[] => kept.filter((age) => age >= from && age < to);
    expect(ofAge(0, 30)).toHaveLength(30);
    // Sundays, back to twelve weeks before the newest; firsts of the month; nothing else.
    const sundays = Array.from({ length: 84 }, (_, age) => age).filter((age) => new Date(Date.UTC(2026, 10, 21 - age, 2)).getUTCDay() === 0);
    const firsts = Array.from({ length: 366 }, (_, age) => age).filter((age) => new Date(Date.UTC(2026, 10, 21 - age, 2)).getUTCDate() === 1);
    const thirty = Array.from({ length: 30 }, (_, age) => age);
    // The oldest there is stands for the month and the week in which the archive began.
    expect(kept.toSorted((a, b) => a - b)).toEqual([...new Set([...thirty, ...sundays, ...firsts])].sort((a, b) => a - b));
  });

  test('keeps a backup for one tenant and lets it go for another', () => {
    const verdicts = plan(daily(60), ['enterprise', 'free']);
    const tenDays = verdicts.find(({ id }) => id === 'd010');
    expect(tenDays).toMatchObject({ keep: true, kept: 1, retired: ['free'] });
    expect(keptIds(verdicts, 'free').filter((id) => id <= 'd007')).toEqual(['d000', 'd001', 'd002', 'd003', 'd004', 'd005', 'd006']);
    // Its monthly one stays for a month.
    expect(keptIds(verdicts, 'free').filter((id) => id > 'd007')).toEqual(['d020']);
    expect(keptIds(verdicts, 'enterprise')).toContain('d029');
  });

  test('never goes below three verified ones of everything and of each tenant', () => {
    const old = Array.from({ length: 5 }, (_, n) => backup(`w${n}`, at(700 + n * 40)));
    const part = Array.from({ length: 5 }, (_, n) => backup(`p${n}`, at(500 + n), { whole: false }));
    const subjects = new Map(part.map(({ id }) => [id, ['free']]));
    const holders = new Map([['free', holder('free')]]);
    const fresh = backup('now', at(0));
    const verdicts = planRetention(
      { backups: [...old, ...part, fresh], holders, now, settings: defaultBackupSettings },
      ({ id }) => subjects.get(id) ?? ['platform'],
    );
    expect(verdicts.filter(({ keep }) => keep).map(({ id }) => id)).toEqual(['now', 'p0', 'p1', 'p2', 'w0', 'w1']);
  });

  test('does not count what was not verified, and lets it push nothing out', () => {
    const verified = Array.from({ length: 3 }, (_, n) => backup(`v${n}`, at(800 + n * 40)));
    const failed = Array.from({ length: 50 }, (_, n) => backup(`f${n}`, at(n), { verifiedAt: null }));
    const verdicts = plan([...verified, ...failed], ['pro'], { now: at(0) });
    expect(verdicts.filter(({ id, keep }) => id.startsWith('v') && keep)).toHaveLength(3);
    // Counted from the newest verified one, so none of the failed is old either.
    expect(verdicts.every(({ keep }) => keep)).toBe(true);
    const mended = plan([...verified, ...failed, backup('good', at(0))], ['pro']);
    expect(mended.filter(({ id, keep }) => id.startsWith('f') && !keep).map(({ id }) => id)).toEqual(failed.slice(30).map(({ id }) => id));
    expect(mended.filter(({ id, keep }) => id.startsWith('v') && keep)).toHaveLength(2);
  });

  test('removes nothing while nothing is verified, and nothing twice', () => {
    expect(
      plan(
        daily(500).map((each) => ({ ...each, verifiedAt: null })),
        ['free'],
      ).every(({ keep, retired }) => keep && retired.length === 0),
    ).toBe(true);
    const first = plan(daily(100), ['enterprise', 'free', 'platform']);
    const left = new Map(
      first.filter(({ keep }) => keep).map(({ id, retired }) => [id, ['enterprise', 'free', 'platform'].filter((ref) => !retired.includes(ref))]),
    );
    const holders = new Map(planTiers.map((tier) => [tier as string, holder(tier)] as const));
    const again = planRetention(
      { backups: daily(100).filter(({ id }) => left.has(id)), holders, now, settings: defaultBackupSettings },
      ({ id }) => left.get(id) ?? [],
    );
    expect(again.filter(({ keep, retired }) => !keep || retired.length > 0)).toEqual([]);
  });

  test('removes nothing for a clock that is wrong in either direction', () => {
    const backups = daily(60);
    const forward = plan(backups, ['free', 'platform'], { now: new Date('2040-01-01T00:00:00Z') });
    expect(forward).toEqual(plan(backups, ['free', 'platform'], { now: new Date('2026-11-21T02:00:00Z') }));
    const backward = plan(backups, ['free', 'platform'], { now: new Date('2020-01-01T00:00:00Z') });
    expect(backward.every(({ keep, retired }) => keep && retired.length === 0)).toBe(true);
  });

  test('keeps everything of a tenant under a legal hold, and the longest of one that nobody knows', () => {
    const holders = new Map([
      ['held', holder('free', true)],
      ['free', holder('free')],
    ]);
    const verdicts = plan(daily(120), ['held', 'free', 'unknown'], { holders });
    expect(verdicts.every(({ retired }) => !retired.includes('held'))).toBe(true);
    expect(keptIds(verdicts, 'unknown')).toEqual(keptIds(plan(daily(120), ['platform']), 'platform'));
  });

  test('keeps each tenant for as long as its tier promises, whatever the backups are', () => {
    const given = fc.array(
      fc.record({
        age: fc.integer({ min: 0, max: 500 * 24 }),
        verified: fc.boolean(),
        whole: fc.boolean(),
        subjects: fc.subarray(['free', 'starter', 'pro', 'enterprise', 'x']),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(given, (list) => {
        const backups = list.map(({ age, verified, whole }, n) => backup(`b${n}`, at(age / 24), { verifiedAt: verified ? at(age / 24) : null, whole }));
        const subjects = new Map(list.map((each, n) => [`b${n}`, each.subjects]));
        const holders = new Map(planTiers.map((tier) => [tier as string, holder(tier)] as const));
        const verdicts = planRetention({ backups, holders, now, settings: defaultBackupSettings }, ({ id }) => subjects.get(id) ?? []);
        expect(verdicts).toHaveLength(backups.length);
        for (const verdict of verdicts) {
          const mine = subjects.get(verdict.id) ?? [];
          expect(verdict.kept + verdict.retired.length).toBe(mine.length);
          expect(verdict.reasons.length).toBeGreaterThan(0);
          if (!verdict.keep) expect(verdict.retired).toEqual(mine);
        }
        for (const tier of planTiers) {
          const verified = verdicts.filter((each) => each.verified && subjects.get(each.id)?.includes(tier));
          const kept = verified.filter(({ retired }) => !retired.includes(tier));
          // The newest three, and every recent one.
          expect(kept.slice(0, 3)).toEqual(verified.slice(0, 3));
          for (const each of verified) if (now.getTime() - each.at.getTime() < days('recent', tier) * dayMs) expect(kept).toContain(each);
        }
      }),
    );
  });

  test('of 10,000 tenants and 100 backups takes seconds', () => {
    const subjects = Array.from({ length: 10_000 }, (_, n) => `t${n}`);
    const holders = new Map(subjects.map((ref, n) => [ref, holder(planTiers[n % 4] ?? 'free')]));
    const begun = performance.now();
    const verdicts = plan(daily(100), subjects, { holders });
    console.info(`planned 10,000 tenants x 100 backups in ${Math.round(performance.now() - begun)} ms`);
    expect(verdicts.reduce((sum, { kept, retired }) => sum + kept + retired.length, 0)).toBe(1_000_000);
  });
});
