/**
 * Values as TypeScript source, laid out much as Biome and Prettier lay it out. Any string is safe: quotes, backticks, `$$`, newlines and comment ends are escaped or quoted.
 */

const lineWidth = 120;
const plainKey = /^[A-Za-z_$][\w$]*$/;

/** A value that is laid out: scalars, lists, and objects whose entries may carry a comment. */
export type Source = string | number | boolean | readonly Source[] | SourceObject;

export interface SourceObject {
  readonly entries: readonly SourceEntry[];
  /** One entry per line even where one line would do. */
  readonly open?: boolean;
}

export interface SourceEntry {
  readonly key: string;
  readonly value: Source;
  /** Written after the value; line ends in it become spaces. */
  readonly comment?: string;
  /** Lines written above the entry. */
  readonly above?: readonly string[];
}

export function object(entries: readonly (readonly [string, Source | undefined])[], open = false): SourceObject {
  return { entries: entries.flatMap(([key, value]) => (value === undefined ? [] : [{ key, value }])), open };
}

export function print(value: Source, indent = ''): string {
  if (typeof value === 'string') return printText(value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  const short = oneLine(value);
  if (short !== undefined && indent.length + short.length <= lineWidth) return short;
  const deeper = `${indent}  `;
  if (isList(value)) return `[\n${value.map((item) => `${deeper}${print(item, deeper)},\n`).join('')}${indent}]`;
  const lines = value.entries.map(({ key, value: inner, comment, above }) => {
    const before = (above ?? []).map((line) => `${deeper}${printComment(line)}\n`).join('');
    return `${before}${deeper}${printKey(key)}: ${print(inner, deeper)},${comment === undefined ? '' : ` ${printComment(comment)}`}\n`;
  });
  return `{\n${lines.join('')}${indent}}`;
}

/** Single quotes, unless the other kind needs fewer escapes. Line separators are escaped because editors show them as lines. */
export function printText(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  // JSON escapes control characters and backslashes as TypeScript does.
  const inner = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
  return `${quote}${inner.replaceAll(quote, `\\${quote}`)}${quote}`;
}

/** A line comment; nothing can end it but a line end, which it cannot contain. */
export function printComment(text: string): string {
  return `// ${text.replace(/[\r\n\u2028\u2029]+/g, ' ')}`;
}

function printKey(key: string): string {
  // Written plainly, this one key would set the prototype.
  if (key === '__proto__') return "['__proto__']";
  return plainKey.test(key) ? key : printText(key);
}

function oneLine(value: Source): string | undefined {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return print(value);
  if (isList(value)) {
    const items = value.map(oneLine);
    return items.includes(undefined) ? undefined : `[${items.join(', ')}]`;
  }
  if (value.open) return undefined;
  const entries = value.entries.map(({ key, value: inner, comment, above }) => {
    const text = comment === undefined && above === undefined ? oneLine(inner) : undefined;
    return text === undefined ? undefined : `${printKey(key)}: ${text}`;
  });
  if (entries.includes(undefined)) return undefined;
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}

function isList(value: readonly Source[] | SourceObject): value is readonly Source[] {
  return Array.isArray(value);
}
