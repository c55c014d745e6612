/**
 * Quoting. Names and values that end up in SQL text go through here; nothing else builds SQL from input.
 * Rules as in PostgreSQL's `quote_ident` and `quote_literal`, except that names are always quoted.
 */

/** A quoted identifier: `order` → `"order"`, `a"b` → `"a""b"`. */
export function ident(name: string): string {
  if (name.includes('\0')) throw new TypeError('a name cannot contain a NUL character');
  return `"${name.replaceAll('"', '""')}"`;
}

/** A quoted string literal, safe for any `standard_conforming_strings`. */
export function literal(value: string): string {
  if (value.includes('\0')) throw new TypeError('a value cannot contain a NUL character');
  const quoted = `'${value.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return value.includes('\\') ? ` E${quoted}` : quoted;
}

/** A comma-separated list of quoted identifiers. */
export function identList(names: readonly string[]): string {
  return names.map(ident).join(', ');
}

/** A dollar-quoted body whose tag does not occur in it. */
export function dollarQuote(body: string): string {
  let tag = '$pw$';
  for (let n = 0; body.includes(tag); n += 1) tag = `$pw${n}$`;
  return `${tag}${body}${tag}`;
}
