import { expect, it } from 'vitest';
import { patternSamples } from './pattern-samples.ts';

/** The samples of a check by those that its pattern, as JavaScript reads it, accepts. */
function accepted(check: string, pattern: RegExp): string[] {
  return [false, true].flatMap((unique) => patternSamples(check, unique)).filter((sample) => pattern.test(sample));
}

const checks: readonly [string, RegExp][] = [
  ["CHECK ((code ~ '^[A-Z]{3}-\\d{4}$'::text))", /^[A-Z]{3}-\d{4}$/],
  ["CHECK (((slug)::text ~ '^[a-z0-9]+(?:-[a-z0-9]+)*$'::text))", /^[a-z0-9]+(?:-[a-z0-9]+)*$/],
  ["CHECK ((iban ~* '^DE[[:digit:]]{20}$'::text))", /^DE\d{20}$/],
  ["CHECK ((tag ~ '^[^a-z/]{2,5}$'::text))", /^[^a-z/]{2,5}$/],
  ["CHECK ((kind ~ '^(invoice|credit)_(a|b)?$'::text))", /^(invoice|credit)_(a|b)?$/],
  ["CHECK ((path ~ '^/(\\w+/)*\\w+\\.pdf$'::text))", /^\/(\w+\/)*\w+\.pdf$/],
  ["CHECK ((name ~ '^[]x]''[\\d.-]$'::text))", /^[\]x]'[\d.-]$/],
  ["CHECK ((phone ~ '(?i)^\\+?[0-9 ]{7,15}$'::text))", /^\+?[0-9 ]{7,15}$/],
  ["CHECK ((note ~~ 'Re: %50\\%_'::text))", /^Re: .*50%.$/s],
  ["CHECK ((sku ~ similar_to_escape('(AB|CD)-[0-9]{2}.%'::text)))", /^(AB|CD)-[0-9]{2}\..*$/],
  ["CHECK (((length(token) = 24) AND (token ~ '^usr_[a-z]+$'::text)))", /^usr_[a-z]{20}$/],
];

it.each(checks)('makes texts that %s accepts, also new ones', (check, pattern) => {
  expect(patternSamples(check, false).some((sample) => pattern.test(sample))).toBe(true);
  expect(accepted(check, pattern).length).toBeGreaterThan(1);
});

it('draws others at each call where they have to be new', () => {
  const drawn = () => patternSamples("CHECK ((code ~ '^[A-Z0-9]{12}$'::text))", true)[0];
  expect(drawn()).not.toBe(drawn());
});

it.each(['^(?=.*\\d)x$', '(a)\\1', '(', '[a', 'a{2000}', 'a**', '[[:nothing:]]', '\\u0041', '['.repeat(50), '('.repeat(50)])('makes none of %s', (pattern) => {
  expect(patternSamples(`CHECK ((code ~ '${pattern}'::text))`, false)).toEqual([]);
});

it('makes none of a pattern that must not match', () => {
  expect(patternSamples("CHECK ((code !~ '^x$'::text))", false)).toEqual([]);
  expect(patternSamples("CHECK ((code !~~ 'x%'::text))", false)).toEqual([]);
});

it('is bounded, whatever is nested', () => {
  expect(patternSamples("CHECK ((code ~ '^((((a{9}){9}){9}){9}){9}$'::text))", false)).toEqual([]);
});
