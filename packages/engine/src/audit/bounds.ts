/**
 * What an audit record can hold. PostgreSQL refuses NUL and lone surrogates in jsonb, and a text of any length would make the chain
 * slow to check: both come from requests, and neither may be why something goes unrecorded.
 */
const lengthsMax = { name: 400, target: 2_000, reason: 8_000 } as const;
/** UTF-8 bytes of the details as JSON; the database's own bound leaves room for its spaces. */
const detailsBytesMax = 16_384;
/** Deeper details are a mistake, and jsonb refuses very deep ones. */
const depthMax = 32;
/** Names that stay of details that were too large. */
const namesMax = 50;

/** The text without what PostgreSQL cannot hold, cut to the length its column takes. */
export function boundedText(text: string | undefined, kind: keyof typeof lengthsMax): string | undefined {
  if (text === undefined) return undefined;
  const held = holdable(text);
  const most = lengthsMax[kind];
  // The database counts characters, this counts UTF-16 units, of which a character has one or two.
  return held.length <= most ? held : `${held.slice(0, most - 1).toWellFormed()}…`;
}

/** The details as JSON has them; where they are too large, too deep or no JSON, a note of what they were. */
export function boundedDetails(details: Readonly<Record<string, unknown>> | undefined): unknown {
  if (details === undefined) return undefined;
  try {
    const held = holdableJson(details, depthMax);
    const bytes = Buffer.byteLength(JSON.stringify(held));
    return bytes <= detailsBytesMax ? held : { truncated: true, bytes, names: namesOf(details) };
  } catch {
    // A circle, or a toJSON that throws: the caller's mistake, which the record shows and does not repeat.
    return { unreadable: true, names: namesOf(details) };
  }
}

function holdableJson(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return holdable(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth === 0) throw new RangeError('the details are nested too deeply');
  if (Array.isArray(value)) return value.map((inner) => holdableJson(inner, depth - 1));
  if ('toJSON' in value && typeof value.toJSON === 'function') return holdableJson(value.toJSON(), depth - 1);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [holdable(name), holdableJson(inner, depth - 1)]));
}

function namesOf(details: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(details)
    .slice(0, namesMax)
    .map((name) => holdable(name).slice(0, 100).toWellFormed());
}

function holdable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\uFFFD');
}
