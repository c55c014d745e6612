import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { canaryPlace, canonicalKey, modeOf, parseRolloutState, type RolloutState, tenantHash } from '../../src/rollout/mode.ts';

const state = (changes: Partial<RolloutState> = {}): RolloutState => ({
  change: 'x',
  keyType: 'uuid',
  all: null,
  percent: null,
  tenants: {},
  tables: [],
  ...changes,
});
const tenant = (n: number): string => `00000000-0000-0000-0000-${String(n).padStart(12, '0')}`;
const hash = (n: number): string => createHash('sha256').update(tenant(n)).digest('hex');

describe('the mode of a tenant', () => {
  test('is enforce without a state, and without a word about anybody', () => {
    expect(modeOf(undefined, tenant(1))).toBe('enforce');
    expect(modeOf(state(), tenant(1))).toBe('enforce');
    expect(modeOf(state())).toBe('enforce');
  });

  test('is its own before the percentage, and the percentage before that of all', () => {
    const inside = Array.from({ length: 100 }, (_, n) => n).find((n) => canaryPlace(hash(n)) < 10) ?? -1;
    const outside = Array.from({ length: 100 }, (_, n) => n).find((n) => canaryPlace(hash(n)) >= 10) ?? -1;
    const canary = state({ all: 'observe', percent: 10 });
    expect([modeOf(canary, tenant(inside)), modeOf(canary, tenant(outside)), modeOf(canary)]).toEqual(['enforce', 'observe', 'observe']);
    const own = { ...canary, tenants: { [hash(inside)]: 'observe', [hash(outside)]: 'enforce' } as const };
    expect([modeOf(own, tenant(inside)), modeOf(own, tenant(outside))]).toEqual(['observe', 'enforce']);
  });

  test('cannot be escaped by another spelling of the same key', () => {
    const enforced = state({ all: 'observe', tenants: { [hash(171)]: 'enforce' } });
    const plain = tenant(171);
    for (const spelling of [plain, plain.toUpperCase(), `{${plain}}`, plain.replaceAll('-', '')]) expect(modeOf(enforced, spelling)).toBe('enforce');
    const numbers = state({ keyType: 'bigint', all: 'observe', tenants: { [createHash('sha256').update('17').digest('hex')]: 'enforce' } });
    for (const spelling of ['17', ' 17', '+17', '0017', '0x11', '1_7']) expect(modeOf(numbers, spelling)).toBe('enforce');
    expect(modeOf(numbers, '18')).toBe('observe');
  });

  test('of a canary grows: who is in at 10 % is in at 20 %, and about as many as asked for are', () => {
    const enforced = (percent: number) =>
      new Set(Array.from({ length: 2_000 }, (_, n) => n).filter((n) => modeOf(state({ all: 'observe', percent }), tenant(n)) === 'enforce'));
    const ten = enforced(10);
    const twenty = enforced(20);
    expect([...ten].every((n) => twenty.has(n))).toBe(true);
    expect(ten.size).toBeGreaterThan(140);
    expect(ten.size).toBeLessThan(260);
    expect([enforced(0).size, enforced(100).size]).toEqual([0, 2_000]);
  });

  test('is the documented one: first four bytes of the SHA-256, modulo 100', () => {
    expect(canaryPlace('ffffffff00')).toBe(4_294_967_295 % 100);
    expect(tenantHash('text', 'acme')).toBe(createHash('sha256').update('acme').digest('hex'));
    expect(canonicalKey('bigint', '-007')).toBe('-7');
  });
});

test('an answer that cannot be understood is no state', () => {
  expect(parseRolloutState({ ...state(), tenants: { a: 'observe', b: 'sideways' } })).toEqual(state({ tenants: { a: 'observe' } }));
  for (const answer of [null, 'x', {}, { ...state(), all: 'off' }, { ...state(), tables: 'all' }]) expect(parseRolloutState(answer)).toBeUndefined();
});
