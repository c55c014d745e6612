/**
 * Where things are in a config that a person has written: enough of TypeScript's syntax to find the entries of object literals
 * past strings, templates and comments, so that a line can be added without touching any other.
 */

export interface ObjectSpan {
  /** Position of `{`. */
  readonly open: number;
  /** Position of `}`. */
  readonly close: number;
  readonly entries: readonly EntrySpan[];
}

export interface EntrySpan {
  /** The key as a value; undefined for spreads, methods and computed keys. */
  readonly key: string | undefined;
  readonly start: number;
  readonly valueStart: number;
  /** Position after the value, before its comma. */
  readonly end: number;
  readonly comma: boolean;
}

/** The object literal that the config hands to `defineTenancy`, or exports as it is. */
export function configObject(source: string): ObjectSpan | undefined {
  const call = /defineTenancy\s*\(\s*(?=\{)|export\s+default\s+(?=\{)/.exec(source);
  return call ? objectAt(source, call.index + call[0].length) : undefined;
}

export function entryOf(span: ObjectSpan, key: string): EntrySpan | undefined {
  return span.entries.find((entry) => entry.key === key);
}

/** The object literal that begins at `open`; undefined where none does, or where it never ends. */
export function objectAt(source: string, open: number): ObjectSpan | undefined {
  if (source[open] !== '{') return undefined;
  const entries: EntrySpan[] = [];
  let at = skipTrivia(source, open + 1);
  while (at < source.length && source[at] !== '}') {
    const start = at;
    const name = keyAt(source, at);
    const colon = name ? skipTrivia(source, name.end) : at;
    const isPlain = name !== undefined && source[colon] === ':';
    const valueStart = isPlain ? skipTrivia(source, colon + 1) : start;
    const end = expressionEnd(source, valueStart);
    at = skipTrivia(source, end);
    const comma = source[at] === ',';
    entries.push({ key: isPlain ? name.value : undefined, start, valueStart, end, comma });
    if (comma) at = skipTrivia(source, at + 1);
    else if (source[at] !== '}') return undefined;
  }
  return at < source.length ? { open, close: at, entries } : undefined;
}

function keyAt(source: string, at: number): { value: string; end: number } | undefined {
  const quote = source[at];
  if (quote === "'" || quote === '"') {
    const end = stringEnd(source, at);
    return { value: decode(source.slice(at + 1, end - 1)), end };
  }
  const word = /^[\p{L}_$][\p{L}\p{N}_$]*/u.exec(source.slice(at, at + 256));
  return word ? { value: word[0], end: at + word[0].length } : undefined;
}

function decode(text: string): string {
  return text.replace(
    /\\(?:u([\da-fA-F]{4})|x([\da-fA-F]{2})|([\s\S]))/g,
    (_whole, unicode: string | undefined, byte: string | undefined, plain: string | undefined) => {
      if (plain === undefined) return String.fromCharCode(Number.parseInt(unicode ?? byte ?? '0', 16));
      return ({ n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v', 0: '\0' } as Readonly<Record<string, string>>)[plain] ?? plain; // every other escaped character stands for itself
    },
  );
}

/** After the last character of the expression at `at` that is neither space nor comment. */
function expressionEnd(source: string, at: number): number {
  let depth = 0;
  let end = at;
  for (let next = at; next < source.length; ) {
    const trivia = skipTrivia(source, next);
    if (trivia > next) {
      next = trivia;
      continue;
    }
    const character = source[next] ?? '';
    if (depth === 0 && (character === ',' || character === '}' || character === ')' || character === ']')) return end;
    if ('([{'.includes(character)) depth += 1;
    if (')]}'.includes(character)) depth -= 1;
    next = character === "'" || character === '"' ? stringEnd(source, next) : character === '`' ? templateEnd(source, next) : next + 1;
    end = next;
  }
  return end;
}

function skipTrivia(source: string, at: number): number {
  let next = at;
  while (next < source.length) {
    const space = /^\s+/.exec(source.slice(next, next + 4096))?.[0].length ?? 0;
    if (space > 0) next += space;
    else if (source.startsWith('//', next)) next = endOr(source, source.indexOf('\n', next));
    else if (source.startsWith('/*', next)) next = endOr(source, source.indexOf('*/', next + 2) + 2, 2);
    else return next;
  }
  return next;
}

function endOr(source: string, found: number, offset = 0): number {
  return found < offset ? source.length : found;
}

function stringEnd(source: string, at: number): number {
  const quote = source[at];
  for (let next = at + 1; next < source.length; next += 1) {
    if (source[next] === '\\') next += 1;
    else if (source[next] === quote) return next + 1;
  }
  return source.length;
}

function templateEnd(source: string, at: number): number {
  for (let next = at + 1; next < source.length; next += 1) {
    if (source[next] === '\\') next += 1;
    else if (source[next] === '`') return next + 1;
    else if (source.startsWith('${', next)) next = expressionEnd(source, next + 2);
  }
  return source.length;
}
