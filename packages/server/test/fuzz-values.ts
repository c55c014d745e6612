import fc from 'fast-check';
import type { JsonSchema, OpenApiDocument } from './openapi.ts';

/** Strings that systems are broken with: SQL, JSON, markup, paths, controls, halves of characters, names of the language. */
export const nastyStrings: readonly string[] = [
  '',
  ' ',
  "' or 1=1 --",
  "'; drop table partywall_control.directory; --",
  '1) union select rolpassword from pg_authid --',
  '"; select pg_sleep(10); --',
  '$$; $1 $2 %s {0} {{7*7}}',
  '\\',
  '\0',
  'a\0b',
  '\u0001\u0008\u001b[31m\u007f',
  '\r\nset-cookie: a=b\r\n\r\n',
  '\u202e\u2066abc\u2069',
  'ﷺ'.repeat(50),
  'e\u0301\u0301\u0301\u0301',
  '👩‍👩‍👧‍👦',
  '\ud800',
  '\udfff\ud800',
  '\ufeff\ufffe\uffff',
  '../../../../etc/passwd',
  '%00%2e%2e%2f',
  '<script>alert(1)</script>',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'null',
  'undefined',
  'NaN',
  '-0',
  '1e400',
  '9223372036854775808',
  '0x10',
  'true',
  '[]',
  '{}',
  '2024-02-30T25:61:61Z',
  '0000-00-00T00:00:00Z',
  '+275760-09-13T00:00:00.001Z',
  'infinity',
  'x'.repeat(10_000),
];

const nastyNumbers: readonly number[] = [
  0,
  -0,
  -1,
  0.1,
  1e21,
  2 ** 31,
  -(2 ** 31) - 1,
  2 ** 53,
  -(2 ** 53),
  2 ** 63,
  1e308,
  Number.MIN_VALUE,
  Number.NaN,
  Number.POSITIVE_INFINITY,
];

const text = fc.oneof({ weight: 2, arbitrary: fc.constantFrom(...nastyStrings) }, fc.string({ unit: 'binary', maxLength: 40 }), fc.string({ maxLength: 40 }));

/** Any JSON, with names that reach for prototypes. */
export const anything: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.constantFrom(...nastyNumbers),
  fc.constantFrom(null, true, false, [], {}),
  fc.array(text, { maxLength: 3 }),
  fc.dictionary(fc.oneof(fc.constantFrom('__proto__', 'constructor', 'id', 'tenantId', 'name'), text), fc.oneof(text, fc.constant(null)), { maxKeys: 3 }),
  fc.constant(nested(200)),
);

/** Deep enough to overflow what recurses without a limit on paths, small enough for any body limit. */
function nested(depth: number): unknown {
  let value: unknown = 'deep';
  for (let level = 0; level < depth; level += 1) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

/** Values that mean something: ids of what exists, and what a field of a name is likely to be. */
export interface Known {
  readonly ids: readonly string[];
  readonly byName: Readonly<Record<string, readonly string[]>>;
}

/** Values of a schema, of a field called `name` where it is one; strings are known ones now and then, so that they name what exists. */
export function valuesOf(document: OpenApiDocument, schema: JsonSchema, known: Known, name?: string): fc.Arbitrary<unknown> {
  const of = (part: JsonSchema, field = name): fc.Arbitrary<unknown> => valuesOf(document, part, known, field);
  if (schema.$ref !== undefined) return of(document.components.schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {});
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return fc.oneof(...choices.map((choice) => of(choice)));
  // Several patterns of one string; the generator follows the last.
  if (schema.allOf) return of(Object.assign({}, ...schema.allOf, { ...schema, allOf: undefined }));
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const [type] = [schema.type].flat();
  switch (type) {
    case 'string':
      return fc.oneof(strings(schema, known.ids), fc.constantFrom(...(known.byName[name ?? ''] ?? known.ids)));
    case 'integer':
    case 'number':
      return numbers(schema);
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array':
      return fc.array(of(schema.items ?? {}), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.max(schema.minItems ?? 0, Math.min(schema.maxItems ?? 3, 3)),
      });
    case 'object':
      return objects(schema, of);
    default:
      return anything;
  }
}

function objects(schema: JsonSchema, of: (part: JsonSchema, field?: string) => fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const required = [...(schema.required ?? [])];
  const named = fc.record(Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, part]) => [name, of(part, name)])), {
    requiredKeys: required,
  });
  if (typeof schema.additionalProperties !== 'object' || schema.properties) return named;
  return fc.dictionary(schema.propertyNames ? of(schema.propertyNames).map(String) : text, of(schema.additionalProperties), { maxKeys: 3 });
}

function strings({ format, pattern, minLength = 0, maxLength = 100 }: JsonSchema, ids: readonly string[]): fc.Arbitrary<string> {
  const known = fc.constantFrom(...ids);
  switch (format) {
    case 'email':
      return fc.oneof(
        fc.stringMatching(/^[a-z]{1,12}$/).map((name) => `${name}@example.com`),
        fc.emailAddress(),
      );
    case 'uuid':
      return fc.oneof(known, fc.uuid());
    case 'uri':
      return fc.constantFrom(
        'http://127.0.0.1:9/hook',
        'https://[::1]/',
        'https://169.254.169.254/latest',
        'file:///etc/passwd',
        'https://user:pass@localhost:1/',
      );
    case 'date-time':
      return fc.date({ noInvalidDate: true }).map((date) => date.toISOString());
  }
  const free = fc.string({ unit: 'grapheme', minLength: Math.min(minLength, 200), maxLength: Math.min(maxLength, 200) });
  const follows = matching(pattern);
  return follows ? fc.oneof(known, follows) : fc.oneof(known, free);
}

/** Undefined for a pattern that the generator cannot follow. */
function matching(pattern: string | undefined): fc.Arbitrary<string> | undefined {
  if (pattern === undefined || pattern.includes('\\p{') || pattern.includes('(?')) return undefined;
  return fc.stringMatching(new RegExp(pattern)).map((value) => value.slice(0, 200));
}

function numbers({ type, minimum, maximum, exclusiveMinimum, exclusiveMaximum }: JsonSchema): fc.Arbitrary<number> {
  const least = Math.max(minimum ?? exclusiveMinimum ?? -1_000_000, Number.MIN_SAFE_INTEGER);
  const most = Math.min(maximum ?? exclusiveMaximum ?? 1_000_000_000, Number.MAX_SAFE_INTEGER);
  const whole = fc.oneof(fc.integer({ min: Math.ceil(least), max: Math.floor(most) }), fc.constantFrom(Math.ceil(least), Math.floor(most)));
  return type === 'integer' ? whole : fc.oneof(whole, fc.double({ min: least, max: most, noNaN: true }));
}
