import { describe, expect, expectTypeOf, test } from 'vitest';
import { type Decision, decide, type Known, type Rules } from '../../src/http/decide.ts';
import { claimOf, prove } from '../../src/http/proof.ts';
import { type Claimed, type Identity, type Proven, provenTenant, provenUnit, run, type TenantContext } from '../../src/index.ts';

const rules: Rules = { nameRequired: false, asksUnits: true };
const anna: Identity = { user: 'anna', tenants: [provenTenant('a')] };
const both: Identity = { user: 'bo', tenants: [provenTenant('a'), provenTenant('b')] };

/** What becomes of a request, in one line. */
function outcome(known: Partial<Known>, given: Partial<Rules> = {}): string {
  const decision = decide({ requestId: 'r', identity: anna, tenants: [], units: [], ...known }, { ...rules, ...given });
  return told(decision);
}

function told(decision: Decision): string {
  if (decision.kind === 'ask_unit') return `ask ${decision.unit} in ${decision.context.tenant}`;
  if (decision.kind === 'admitted') return [decision.context.tenant, decision.context.unit].filter((part) => part !== undefined).join('/');
  const { attempt, error } = decision;
  return attempt ? `${error.code}: ${attempt.kind} ${attempt.actor} ${attempt.tenant} → ${attempt.claimed}` : error.code;
}

const named = (...values: string[]): { tenants: Claimed<'tenant'>[] } => ({ tenants: values.map((value) => claimOf(value)) });
const inUnit = (...values: string[]): { units: Claimed<'unit'>[] } => ({ units: values.map((value) => claimOf(value)) });

describe('what a request says never becomes a context without proof', () => {
  test('claims and proofs, of tenants and of units, are four types that do not stand for each other', () => {
    expectTypeOf<Claimed<'tenant'>>().not.toExtend<Proven<'tenant'>>();
    expectTypeOf<Proven<'tenant'>>().not.toExtend<Claimed<'tenant'>>();
    expectTypeOf<Proven<'unit'>>().not.toExtend<Proven<'tenant'>>();
    expectTypeOf<Claimed<'unit'>>().not.toExtend<Claimed<'tenant'>>();
    expectTypeOf<{ proven: string }>().not.toExtend<Proven<'tenant'>>();
    expectTypeOf<string>().not.toExtend<Proven<'tenant'>>();
  });

  test('neither runs as it is, and an identity holds proofs alone', () => {
    expectTypeOf<Claimed<'tenant'>>().not.toExtend<TenantContext['tenant']>();
    expectTypeOf<Claimed<'unit'>>().not.toExtend<TenantContext['unit']>();
    expectTypeOf(run).parameter(0).toEqualTypeOf<TenantContext>();
    expectTypeOf<{ user: string; tenants: Claimed<'tenant'>[] }>().not.toExtend<Identity>();
    expectTypeOf<{ user: string; tenants: string[] }>().not.toExtend<Identity>();
    expectTypeOf(prove<'tenant'>).returns.toEqualTypeOf<Proven<'tenant'> | undefined>();
  });

  test('a claim that is forced past the compiler is no tenant id either', async () => {
    await expect(Reflect.apply(run, undefined, [{ tenant: claimOf('a') }, () => 'ran'])).rejects.toThrow('no tenant id');
  });
});

test.each<[string, Partial<Known>, Partial<Rules>, string]>([
  ['nobody', { identity: null }, {}, 'unauthenticated'],
  ['nobody, who names a tenant', { identity: null, ...named('a'), ...inUnit('x') }, {}, 'unauthenticated'],
  ['one tenant, unnamed', {}, {}, 'a'],
  ['one tenant, named', named('a'), {}, 'a'],
  ['one tenant, and a foreign one named', named('b'), {}, 'tenant_foreign: tenant anna a → b'],
  ['one tenant, and the right and a foreign one named', named('a', 'b'), {}, 'tenant_foreign: tenant anna a → b'],
  ['one tenant, unnamed where a name is required', {}, { nameRequired: true }, 'tenant_required'],
  ['two tenants, unnamed', { identity: both }, {}, 'tenant_required'],
  ['two tenants, one named', { identity: both, ...named('b') }, {}, 'b'],
  ['two tenants, both named', { identity: both, ...named('a', 'b') }, {}, 'tenant_required'],
  ['two tenants, a foreign one named', { identity: both, ...named('c') }, {}, 'tenant_foreign: tenant bo null → c'],
  ['two tenants, one active', { identity: { ...both, active: provenTenant('b') } }, {}, 'b'],
  ['two tenants, one active, the other named', { identity: { ...both, active: provenTenant('b') }, ...named('a') }, {}, 'a'],
  ['no tenant', { identity: { user: 'x', tenants: [] } }, {}, 'tenant_required'],
  ['no tenant, one named', { identity: { user: 'x', tenants: [] }, ...named('a') }, {}, 'tenant_foreign: tenant x null → a'],
  ['a session with one tenant, not selected', { identity: { ...anna, selects: true } }, {}, 'tenant_unselected'],
  ['a session with one tenant, not selected but named', { identity: { ...anna, selects: true }, ...named('a') }, {}, 'a'],
  ['a unit', inUnit('x'), {}, 'ask x in a'],
  ['a unit that belongs', { ...inUnit('x'), unitBelongs: true }, {}, 'a/x'],
  ['a unit that does not', { ...inUnit('x'), unitBelongs: false }, {}, 'unit_foreign: unit anna a → x'],
  ['a unit in other spelling', { ...inUnit('a%20b'), unitBelongs: true }, {}, 'a/a b'],
  ['two units', { ...inUnit('x', 'y'), unitBelongs: true }, {}, 'a/x, y'],
  ['a foreign tenant and a unit', { ...named('b'), ...inUnit('x'), unitBelongs: true }, {}, 'tenant_foreign: tenant anna a → b'],
  ['a proven unit', { identity: { ...anna, unit: provenUnit('x') } }, {}, 'ask x in a'],
  ['a proven unit where nobody can be asked', { identity: { ...anna, unit: provenUnit('x') } }, { asksUnits: false }, 'a/x'],
  ['a claimed unit where nobody can be asked', inUnit('x'), { asksUnits: false }, 'a'],
  ['a proven unit that does not belong', { identity: { ...anna, unit: provenUnit('x') }, unitBelongs: false }, {}, 'unit_foreign: unit anna a → x'],
  ['a proven unit and another one', { identity: { ...anna, unit: provenUnit('x') }, ...inUnit('y'), unitBelongs: true }, {}, 'unit_foreign: unit anna a → y'],
  ['a proven unit and itself', { identity: { ...anna, unit: provenUnit('x') }, ...inUnit('x'), unitBelongs: true }, {}, 'a/x'],
])('%s', (_, known, given, expected) => {
  expect(outcome(known, given)).toBe(expected);
});

describe('a claim means a proven value', () => {
  const among = [
    provenTenant('a b'),
    provenTenant('a%20b'),
    provenTenant('100%'),
    provenTenant('ÅA'),
    provenTenant('a,b'),
    provenTenant('7c9E6679-7425-40de-944b-e07fc1f90ae7'),
  ];
  test.each([
    ['a b', 'a b'],
    ['a%20b', 'a%20b'],
    ['a%2520b', 'a%20b'],
    ['100%', '100%'],
    ['%C3%85A', 'ÅA'],
    ['a%2Cb', 'a,b'],
    ['7C9E6679-7425-40DE-944B-E07FC1F90AE7', '7c9E6679-7425-40de-944b-e07fc1f90ae7'],
    ['A B', undefined],
    ['åa', undefined],
    ['', undefined],
    ['a', undefined],
    [`a b${' '.repeat(300)}`, undefined],
    ['__proto__', undefined],
  ])('%j means %j', (claim, proven) => {
    expect(prove(claimOf<'tenant'>(claim), among)?.proven).toBe(proven);
  });
});
