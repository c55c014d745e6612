import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import type { ColumnFacts } from './column-facts.ts';
import { patternSamples } from './pattern-samples.ts';

/**
 * Values to try for a column in order, as text; the first that the column's checks accept is taken. `unique` draws where there is a
 * choice: two rows of a table whose unique column is an enum must differ.
 */
export function candidateValues(facts: ColumnFacts, checks: readonly string[], unique = false): string[] {
  const hints = [...checks, ...facts.domainChecks];
  const shapes = facts.category === 'S' ? textShapes : [];
  const patterned = facts.category === 'S' ? hints.flatMap((check) => patternSamples(check, unique)) : [];
  const first = [...facts.labels, ...(facts.base === 'boolean' ? ['true', 'false'] : [])];
  const values = [...(unique ? shuffled(first) : first), ...patterned, ...ofType(facts), ...fromChecks(hints, facts, unique), ...shapes];
  return [...new Set(values)].map((value) => fitted(value, facts.base));
}

function shuffled(values: readonly string[]): string[] {
  const from = values.length === 0 ? 0 : randomInt(0, values.length);
  return [...values.slice(from), ...values.slice(0, from)];
}

/** A value that no other row has, where the type has enough of them; undefined where it has not. */
export function uniqueValue(facts: ColumnFacts): string | undefined {
  switch (facts.base.replace(/\(.*/, '')) {
    case 'uuid':
      return randomUUID();
    case 'smallint':
      return String(randomInt(20_000, 32_767));
    case 'integer':
      return String(randomInt(1_500_000_000, 2_147_483_647));
    case 'bigint':
      return `8${String(randomInt(0, 281_474_976_710_655)).padStart(17, '0')}`;
    case 'numeric': {
      const digits = Number(/\((\d+),(-?\d+)\)/.exec(facts.base)?.[1] ?? 12) - Number(/\((\d+),(-?\d+)\)/.exec(facts.base)?.[2] ?? 0);
      return String(randomInt(1, 10 ** Math.max(1, Math.min(digits, 12))));
    }
    case 'date':
      return new Date(Date.UTC(1900, 0, 1) + randomInt(0, 30_000) * 86_400_000).toISOString().slice(0, 10);
    case 'timestamp without time zone':
    case 'timestamp with time zone':
      return new Date(Date.UTC(1990, 0, 1) + randomInt(0, 900_000_000) * 1000).toISOString();
    case 'bytea':
      return `\\x${randomBytes(8).toString('hex')}`;
    case 'inet':
    case 'cidr':
      return `10.${randomInt(0, 256)}.${randomInt(0, 256)}.${randomInt(0, 256)}`;
    default:
      return facts.category === 'S' && facts.kind === 'base' ? fitted(randomBytes(12).toString('hex'), facts.base) : undefined;
  }
}

function ofType(facts: ColumnFacts): string[] {
  if (facts.kind === 'range') return ['empty'];
  if (facts.kind === 'multirange') return ['{}'];
  if (facts.kind === 'composite') return [];
  switch (facts.base.replace(/\(.*/, '')) {
    case 'uuid':
      return [randomUUID()];
    case 'json':
    case 'jsonb':
      return ['{}', '[]', 'null', '""', '1'];
    case 'bytea':
      return ['\\x00'];
    case 'xml':
      return ['<a/>'];
    case 'tsvector':
    case 'tsquery':
      return ['a'];
    case 'bit':
      return ['0'.repeat(lengthOf(facts.base) ?? 1)];
    case 'bit varying':
      return ['0'];
    case 'macaddr':
      return ['08:00:2b:01:02:03'];
    case 'macaddr8':
      return ['08:00:2b:01:02:03:04:05'];
    case 'hstore':
    case 'public.hstore':
      return ['a=>1'];
    case 'pg_lsn':
      return ['0/0'];
    default:
      return [...ofCategory(facts.category)];
  }
}

function ofCategory(category: string): readonly string[] {
  switch (category) {
    case 'A':
      return ['{}', '{a}', '{1}'];
    case 'B':
      return ['true', 'false'];
    case 'D':
      return [new Date().toISOString(), '2026-01-01', '12:00:00'];
    case 'G':
      return ['(1,1)', '((0,0),(1,1))', '<(0,0),1>', '{1,1,1}'];
    case 'I':
      return ['127.0.0.1'];
    case 'N':
      return ['1', '0', '10', '100', '-1', '0.5', '1000', '2026'];
    case 'S':
      return ['a', '1', 'A', 'true', ''];
    case 'T':
      return ['1 hour'];
    default:
      return [];
  }
}

/** Shapes that checks on text ask for most. */
const textShapes = (
  'AA AAA AAAA aa aaa aaaaaaaa a-a a_a a.a Aaaaaa1! 12 123 1234 12345 123456 00000000 a@example.org https://example.org/ example.org ' +
  '+491701234567 #aabbcc 2026-01-01 12:00 {} [] en en-US EUR DE /a a/a 1.0.0 0c7b1ed4-5b0e-4f6e-9d3f-5d5a1c1f3a11'
).split(' ');

/** Which literals of a check can be values of a type of each category; one that cannot be cast would spoil the query it is tried in. */
const looksLike: Readonly<Record<string, RegExp>> = { S: /^/, D: /^\d{4}-\d\d-\d\d|^\d\d:\d\d/, A: /^\{.*\}$/s, U: /^[[{"]/, B: /^(true|false)$/ };

/** Literals and numbers that occur in the checks, and the numbers beside them. */
function fromChecks(checks: readonly string[], facts: ColumnFacts, unique: boolean): string[] {
  return checks.flatMap((check) => {
    const literals = [...check.matchAll(/'((?:[^']|'')*)'/g)].map(([, text = '']) => text.replaceAll("''", "'"));
    const numbers = [...check.matchAll(/(?<![\w'.])-?\d+(?:\.\d+)?/g)].flatMap(([text]) => {
      const value = Number(text);
      return [text, String(value + 1), String(value - 1), String(value + 0.5)];
    });
    if (facts.category === 'N') return [...numbers, ...literals.filter((text) => /^-?\d+(\.\d+)?$/.test(text))];
    // A length bound names how long a text must be.
    const lengths =
      facts.category === 'S' && /length/.test(check)
        ? numbers
            .map(Number)
            .filter((n) => Number.isInteger(n) && n > 0 && n <= 1_000)
            .map((n) => (unique ? randomBytes(n).toString('hex').slice(0, n) : 'a'.repeat(n)))
        : [];
    const castable = looksLike[facts.category];
    return [...(castable ? literals.filter((text) => castable.test(text)) : []), ...lengths];
  });
}

function fitted(value: string, type: string): string {
  const length = /^(character|character varying|text|varchar|bpchar)/.test(type) ? lengthOf(type) : undefined;
  return length === undefined ? value : value.slice(0, length);
}

function lengthOf(type: string): number | undefined {
  const found = /\((\d+)\)/.exec(type)?.[1];
  return found === undefined ? undefined : Number(found);
}
