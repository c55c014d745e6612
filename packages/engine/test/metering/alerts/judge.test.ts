import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AlertRule, type Circumstances, type Judgement, judge, type Measurement, type StandingAlert } from '../../../src/metering/alerts/judge.ts';

const now = new Date('2026-03-01T12:00:00Z');
const ago = (minutes: number): Date => new Date(now.getTime() - minutes * 60_000);

const storage: AlertRule = {
  name: 'storage',
  title: 'Storage',
  metric: 'quota',
  quota: 'storage',
  warning: 80,
  critical: 95,
  windowMinutes: 1,
  minCalls: 0,
  forMinutes: 0,
  clearMinutes: 5,
  enabled: true,
};
const errorRate: AlertRule = { ...storage, name: 'error_rate', metric: 'error_rate', quota: null, warning: 1, critical: 5, windowMinutes: 5, minCalls: 20 };
const responseTime: AlertRule = { ...errorRate, name: 'response_time', metric: 'response_time', warning: 500, critical: 2000 };

function value(rule: AlertRule, of: number, changes: Partial<Measurement> = {}): Measurement {
  return { rule: rule.name, tenant: 'a', subject: rule.quota ?? '', value: of, details: {}, ...changes };
}

function standing(rule: AlertRule, changes: Partial<StandingAlert> = {}): StandingAlert {
  return {
    id: 'alert',
    rule: rule.name,
    tenant: 'a',
    subject: rule.quota ?? '',
    status: 'open',
    severity: 'warning',
    value: 85,
    threshold: 80,
    details: {},
    risingSince: null,
    fallingSince: null,
    active: true,
    ...changes,
  };
}

function judged(of: Partial<Circumstances>): Judgement {
  return judge({ rules: [storage, errorRate, responseTime], overrides: [], measurements: [], standing: [], now, ...of });
}

/** What happened, without what it happened to. */
function kinds(judgement: Judgement): Record<string, number> {
  return Object.fromEntries(Object.entries(judgement).flatMap(([kind, list]) => (list.length > 0 ? [[kind, list.length]] : [])));
}

describe('the documented thresholds', () => {
  test.each([
    { rule: storage, at: 79.99, severity: undefined },
    { rule: storage, at: 80, severity: 'warning' },
    { rule: storage, at: 94.99, severity: 'warning' },
    { rule: storage, at: 95, severity: 'critical' },
    { rule: storage, at: 130, severity: 'critical' },
    { rule: errorRate, at: 1, severity: undefined },
    { rule: errorRate, at: 1.01, severity: 'warning' },
    { rule: errorRate, at: 5, severity: 'warning' },
    { rule: errorRate, at: 5.01, severity: 'critical' },
    { rule: responseTime, at: 500, severity: undefined },
    { rule: responseTime, at: 500.1, severity: 'warning' },
    { rule: responseTime, at: 2000, severity: 'warning' },
    { rule: responseTime, at: 2001, severity: 'critical' },
  ])('$rule.name at $at is $severity', ({ rule, at, severity }) => {
    const { open } = judged({ measurements: [value(rule, at, { calls: 1_000 })] });
    expect(open.map(({ breach }) => breach.severity)).toEqual(severity ? [severity] : []);
  });

  test('three requests with one failure are no incident, twenty with one are', () => {
    expect(kinds(judged({ measurements: [value(errorRate, 33.3, { calls: 3 })] }))).toEqual({});
    expect(kinds(judged({ measurements: [value(errorRate, 5, { calls: 20 })] }))).toEqual({ open: 1 });
  });

  test('an alert that stands ends when there are too few requests to say anything', () => {
    const alert = standing(errorRate, { fallingSince: ago(5) });
    expect(kinds(judged({ measurements: [value(errorRate, 50, { calls: 2 })], standing: [alert] }))).toEqual({ resolve: 1 });
  });
});

describe('the course of an alert', () => {
  test('is opened once: the same value again only keeps it', () => {
    expect(kinds(judged({ measurements: [value(storage, 85)], standing: [standing(storage)] }))).toEqual({ keep: 1 });
  });

  test('rises from warning to critical once, and does not come back down', () => {
    expect(kinds(judged({ measurements: [value(storage, 96)], standing: [standing(storage)] }))).toEqual({ escalate: 1 });
    const critical = standing(storage, { severity: 'critical' });
    expect(kinds(judged({ measurements: [value(storage, 96)], standing: [critical] }))).toEqual({ keep: 1 });
    expect(kinds(judged({ measurements: [value(storage, 81)], standing: [critical] }))).toEqual({ keep: 1 });
  });

  test('ends when the value has been below for the time of its rule, and no sooner', () => {
    const first = judged({ measurements: [value(storage, 79)], standing: [standing(storage)] });
    expect(first.keep).toMatchObject([{ fallingSince: now }]);
    expect(kinds(judged({ standing: [standing(storage, { fallingSince: ago(4.9) })] }))).toEqual({ keep: 1 });
    expect(judged({ standing: [standing(storage, { fallingSince: ago(5) })] }).resolve).toMatchObject([{ resolution: 'cleared', quiet: false }]);
  });

  test('that falls and rises again in that time has not ended', () => {
    const { keep } = judged({ measurements: [value(storage, 81)], standing: [standing(storage, { fallingSince: ago(4) })] });
    expect(keep).toMatchObject([{ fallingSince: null }]);
  });

  test('ends quietly when its tenant is no longer active, or its rule is off or gone', () => {
    expect(judged({ standing: [standing(storage, { active: false })] }).resolve).toMatchObject([{ resolution: 'tenant_inactive', quiet: true }]);
    expect(judged({ standing: [standing({ ...storage, name: 'gone' })] }).resolve).toMatchObject([{ resolution: 'rule_off', quiet: true }]);
    const off = { rules: [{ ...storage, enabled: false }], measurements: [value(storage, 99)], standing: [standing(storage)] };
    expect(judged(off).resolve).toMatchObject([{ resolution: 'rule_off', quiet: true }]);
  });
});

describe('a rule that waits', () => {
  const waits: AlertRule = { ...storage, forMinutes: 10 };
  const of = (at: number, ...alerts: StandingAlert[]): Judgement => judged({ rules: [waits], measurements: [value(waits, at)], standing: alerts });

  test('watches first, opens after its time with the severity of then, and forgets what went below before', () => {
    expect(kinds(of(85))).toEqual({ watch: 1 });
    expect(kinds(of(85, standing(waits, { status: 'pending', risingSince: ago(9) })))).toEqual({ keep: 1 });
    expect(of(97, standing(waits, { status: 'pending', risingSince: ago(10) })).open).toMatchObject([{ breach: { severity: 'critical' } }]);
    expect(kinds(of(20, standing(waits, { status: 'pending', risingSince: ago(9) })))).toEqual({ drop: 1 });
  });

  test('also waits before it escalates', () => {
    expect(of(97, standing(waits)).keep).toMatchObject([{ risingSince: now }]);
    expect(kinds(of(97, standing(waits, { risingSince: ago(10) })))).toEqual({ escalate: 1 });
    expect(of(85, standing(waits, { risingSince: ago(9) })).keep).toMatchObject([{ risingSince: null }]);
  });
});

describe('an override', () => {
  test('holds for its tenant and for no other', () => {
    const overrides = [{ rule: 'storage', tenant: 'a', warning: 90, critical: null, enabled: null }];
    const measurements = [value(storage, 85), value(storage, 85, { tenant: 'b' })];
    expect(judged({ overrides, measurements }).open.map(({ breach }) => breach.tenant)).toEqual(['b']);
  });

  test('can switch a rule off for its tenant', () => {
    const overrides = [{ rule: 'storage', tenant: 'a', warning: null, critical: null, enabled: false }];
    expect(kinds(judged({ overrides, measurements: [value(storage, 99)] }))).toEqual({});
  });

  test('above the critical threshold of the rule raises that too', () => {
    const overrides = [{ rule: 'storage', tenant: 'a', warning: 99, critical: null, enabled: null }];
    expect(judged({ overrides, measurements: [value(storage, 98)] }).open).toEqual([]);
    expect(judged({ overrides, measurements: [value(storage, 99)] }).open).toMatchObject([{ breach: { severity: 'critical' } }]);
  });
});

test('every standing alert and every breach is judged exactly once, whatever comes together', () => {
  const measurement = fc.record({ tenant: fc.constantFrom('a', 'b', 'c'), value: fc.double({ min: 0, max: 200, noNaN: true }) });
  const alert = fc.record({
    tenant: fc.constantFrom('a', 'b', 'c', 'd'),
    status: fc.constantFrom('pending' as const, 'open' as const),
    severity: fc.constantFrom('warning' as const, 'critical' as const),
    risingSince: fc.option(fc.integer({ min: 0, max: 20 }).map(ago)),
    fallingSince: fc.option(fc.integer({ min: 0, max: 20 }).map(ago)),
    active: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.uniqueArray(measurement, { selector: ({ tenant }) => tenant }),
      fc.uniqueArray(alert, { selector: ({ tenant }) => tenant }),
      fc.constantFrom(0, 5),
      (measured, alerts, forMinutes) => {
        const rules = [{ ...storage, forMinutes }];
        const all = alerts.map((changes, index) => standing(storage, { ...changes, id: String(index) }));
        const judgement = judged({ rules, standing: all, measurements: measured.map((one) => value(storage, one.value, one)) });
        const touched = [...judgement.open, ...judgement.escalate, ...judgement.resolve, ...judgement.keep].flatMap((one) => one.standing?.id ?? []);
        expect([...touched, ...judgement.drop.map(({ id }) => id)].sort()).toEqual(all.map(({ id }) => id).sort());
        const begun = [...judgement.open.filter((one) => !one.standing).map(({ breach }) => breach), ...judgement.watch].map(({ tenant }) => tenant);
        const known = new Set(alerts.map(({ tenant }) => tenant));
        expect(begun.sort()).toEqual(
          measured
            .filter((one) => one.value >= 80 && !known.has(one.tenant))
            .map(({ tenant }) => tenant)
            .sort(),
        );
      },
    ),
  );
});
