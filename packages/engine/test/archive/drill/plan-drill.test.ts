import { type DrillCandidate, type DrillSelection, planDrill } from '@partywall/engine';
import { describe, expect, test } from 'vitest';

const now = new Date('2026-11-21T12:00:00Z');

function candidate(tenant: string, tier: DrillCandidate['tier'], daysAgo: number | null = null): DrillCandidate {
  const provedAt = daysAgo === null ? null : new Date(now.getTime() - daysAgo * 86_400_000);
  return { tenant, ref: tenant.padStart(32, '0'), tier, rows: 10, bytes: 100, provedAt };
}

function chosen(candidates: readonly DrillCandidate[], selection: DrillSelection, seed = 'a'): string[] {
  return planDrill(candidates, selection, seed).tenants.map(({ tenant }) => tenant);
}

describe('a plan of a drill', () => {
  const mixed = [
    candidate('e1', 'enterprise', 3),
    candidate('e2', 'enterprise', 8),
    candidate('p1', 'pro', 20),
    candidate('p2', 'pro', 40),
    candidate('s1', 'starter'),
    candidate('f1', 'free', 100),
    candidate('f2', 'free', 10),
  ];

  test('takes one of each tier before a second of any, and who waited longest first', () => {
    expect(chosen(mixed, { kind: 'sample', count: 4 })).toEqual(['e2', 'p2', 's1', 'f1']);
    expect(chosen(mixed, { kind: 'sample', count: 6 })).toEqual(['e2', 'p2', 's1', 'f1', 'e1', 'p1']);
    expect(chosen(mixed, { kind: 'sample', count: 100 })).toHaveLength(mixed.length);
  });

  test('accounts for every tenant, and says why each was chosen and what it is promised', () => {
    const plan = planDrill(mixed, { kind: 'sample', count: 2 }, 'a');
    expect(plan).toMatchObject({
      seed: 'a',
      leftOut: 5,
      tenants: [
        { tenant: 'e2', why: 'enterprise: last drilled 2026-11-13T12:00:00.000Z', rtoSeconds: 1800 },
        { tenant: 'p2', why: 'pro: last drilled 2026-10-12T12:00:00.000Z', rtoSeconds: 7200 },
      ],
    });
    expect(planDrill(mixed, { kind: 'all' }, 'a')).toMatchObject({ leftOut: 0 });
  });

  test('chooses among those who waited equally long by its seed, the same ones for the same seed', () => {
    const equal = Array.from({ length: 50 }, (_, at) => candidate(`t${at}`, 'free'));
    const sample: DrillSelection = { kind: 'sample', count: 5 };
    expect(chosen(equal, sample, 'x')).toEqual(chosen(equal.toReversed(), sample, 'x'));
    expect(chosen(equal, sample, 'x')).not.toEqual(chosen(equal, sample, 'y'));
  });

  test('adds a second tenant to one that is named, because a wall is attacked from somewhere', () => {
    const plan = planDrill(mixed, { kind: 'tenants', tenants: ['f2', 'f2'] }, 'a');
    expect(plan.tenants.map(({ tenant, why }) => [tenant, why])).toEqual([
      ['f2', 'named'],
      ['s1', 'its wall is attacked from a second tenant'],
    ]);
    expect(chosen([candidate('only', 'pro')], { kind: 'tenants', tenants: ['only'] })).toEqual(['only']);
    expect(() => planDrill(mixed, { kind: 'tenants', tenants: ['nobody'] }, 'a')).toThrow(expect.objectContaining({ code: 'backup_unknown' }));
  });

  test('by tier takes enterprise tenants after a week, pro after a month, and nobody else before', () => {
    expect(chosen(mixed, { kind: 'due', now })).toEqual(['e2', 'p2', 's1', 'f1']);
    expect(
      chosen([candidate('e', 'enterprise', 7), candidate('e9', 'enterprise', 6.9), candidate('p', 'pro', 30), candidate('p9', 'pro', 29)], {
        kind: 'due',
        now,
      }),
    ).toEqual(['e', 'p']);
    expect(chosen([candidate('e9', 'enterprise', 1), candidate('f', 'free', 1)], { kind: 'due', now })).toEqual([]);
  });

  test('by tier takes a sample of starter and free tenants each quarter, and everybody of the other tiers', () => {
    const many = [
      ...Array.from({ length: 30 }, (_, at) => candidate(`e${at}`, 'enterprise')),
      ...Array.from({ length: 500 }, (_, at) => candidate(`f${at}`, 'free', at < 15 ? 30 : null)),
    ];
    const due = chosen(many, { kind: 'due', now });
    expect(due.filter((tenant) => tenant.startsWith('e'))).toHaveLength(30);
    // Of twenty in a quarter, fifteen were drilled already.
    expect(due.filter((tenant) => tenant.startsWith('f'))).toHaveLength(5);
    const more = Array.from({ length: 500 }, (_, at) => candidate(`e${at}`, 'enterprise'));
    expect(chosen(more, { kind: 'due', now })).toHaveLength(100);
  });
});
