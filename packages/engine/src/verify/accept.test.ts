import { describe, expect, it } from 'vitest';
import type { Waiver } from '../model/model.ts';
import { accept, baselineOf, parseBaseline } from './accept.ts';
import { finding } from './finding.ts';

const view = finding('view.owner-rights', 'public.overview', 'reads as its owner');
const index = finding('index.invalid', 'index "a" on public.t', 'is invalid');
const second = finding('view.owner-rights', 'public.other', 'reads as its owner', { severity: 'low' });
const waiver = (over: Partial<Waiver> = {}): Waiver => ({
  rule: 'view.owner-rights',
  target: 'public.overview',
  reason: 'a report for the board',
  until: '2026-11-30',
  ...over,
});
const acceptAll = (findings: Parameters<typeof accept>[0]['findings'], ...rest: [Parameters<typeof accept>[1], Parameters<typeof accept>[2], Date]) =>
  accept({ findings, couldNotRun: [] }, ...rest);
const on = (day: string) => new Date(`${day}T23:59:59Z`);

describe('a waiver', () => {
  it('takes out exactly the rule and target that it names', () => {
    const accepted = acceptAll([view, second], [waiver()], undefined, on('2026-11-21'));
    expect(accepted.findings).toEqual([second]);
    expect(accepted.waived).toEqual([{ finding: view, reason: 'a report for the board', until: '2026-11-30' }]);
    expect(accepted.unusedWaivers).toEqual([]);
  });

  it('holds to the end of its last day', () => {
    expect(acceptAll([view], [waiver()], undefined, on('2026-11-30')).findings).toEqual([]);
    expect(acceptAll([view], [waiver()], undefined, new Date('2026-12-01T00:00:00Z')).findings).toEqual([view]);
  });

  it('is named when it has ended, and its finding fails again', () => {
    const accepted = acceptAll([view], [waiver()], undefined, on('2026-12-24'));
    expect(accepted.findings).toEqual([view]);
    expect(accepted.expiredWaivers).toEqual([waiver()]);
  });

  it('that has ended is not saved by the baseline', () => {
    const baseline = { fingerprints: new Set([view.fingerprint]) };
    expect(acceptAll([view], [waiver()], baseline, on('2026-12-24')).findings).toEqual([view]);
  });

  it('that matches nothing is named', () => {
    expect(acceptAll([index], [waiver()], undefined, on('2026-11-21')).unusedWaivers).toEqual([waiver()]);
  });

  it('that was prolonged by another holds', () => {
    const accepted = acceptAll([view], [waiver({ until: '2026-01-01' }), waiver({ until: '2027-01-01' })], undefined, on('2026-11-21'));
    expect(accepted.findings).toEqual([]);
    expect(accepted.waived.map((entry) => entry.until)).toEqual(['2027-01-01']);
  });
});

describe('a waiver of what could not run', () => {
  const entry = { surface: 'direct' as const, rules: ['read.rows', 'write.update'] as const, target: 'public.t', reason: 'a trigger refuses every row' };
  const of = (rule: string): Waiver => waiver({ rule, target: 'public.t' });

  it('accepts the rules that it names on that target, and no other', () => {
    const accepted = accept({ findings: [], couldNotRun: [entry] }, [of('read.rows')], undefined, on('2026-11-21'));
    expect(accepted.couldNotRun).toEqual([{ ...entry, rules: ['write.update'] }]);
    expect(accepted.acceptedUnable).toEqual([{ rule: 'read.rows', target: 'public.t', reason: 'a report for the board', until: '2026-11-30' }]);
    expect(accept({ findings: [], couldNotRun: [entry] }, [of('read.rows'), of('write.update')], undefined, on('2026-11-21')).couldNotRun).toEqual([]);
  });

  it('ends like any other', () => {
    const accepted = accept({ findings: [], couldNotRun: [entry] }, [of('read.rows')], undefined, on('2026-12-24'));
    expect(accepted.couldNotRun).toEqual([entry]);
    expect(accepted.expiredWaivers).toEqual([of('read.rows')]);
  });

  it('does not reach a whole surface', () => {
    const surface = { ...entry, rules: [] };
    expect(accept({ findings: [], couldNotRun: [surface] }, [of('read.rows')], undefined, on('2026-11-21')).couldNotRun).toEqual([surface]);
  });
});

describe('a baseline', () => {
  it('lets known findings pass and new ones fail', () => {
    const baseline = parseBaseline(baselineOf({ findings: [view], known: [], database: 'shop' }));
    const accepted = acceptAll([view, index], [], baseline, on('2026-11-21'));
    expect(accepted.known).toEqual([view]);
    expect(accepted.findings).toEqual([index]);
  });

  it('written again keeps what was known before', () => {
    expect(parseBaseline(baselineOf({ findings: [index], known: [view], database: 'shop' })).fingerprints).toEqual(
      new Set([index.fingerprint, view.fingerprint]),
    );
  });

  it.each(['', 'no json', '{}', '{"version":2,"findings":[]}', '{"version":1,"findings":[{"fingerprint":"x"}]}'])('is refused as %j', (text) => {
    expect(() => parseBaseline(text)).toThrow(/^reading the baseline: /);
  });
});

it('puts the worst findings first, and the rest by rule and target', () => {
  const low = finding('index.invalid', 'b', 'm');
  const accepted = acceptAll([low, second, finding('index.invalid', 'a', 'm'), view], [], undefined, on('2026-11-21'));
  expect(accepted.findings.map((found) => found.target)).toEqual(['public.overview', 'a', 'b', 'public.other']);
});

it('gives a finding the same fingerprint whatever its message says', () => {
  expect(finding('index.invalid', 'a', 'one').fingerprint).toBe(finding('index.invalid', 'a', 'two', { severity: 'high', evidence: 'x' }).fingerprint);
  expect(finding('index.invalid', 'a', 'one').fingerprint).not.toBe(finding('tenant.no-index', 'a', 'one').fingerprint);
});
