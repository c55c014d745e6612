import { ident } from '../db/sql.ts';

/** A schema-qualified table name in canonical form: each part quoted exactly when SQL requires it (`public."User"`). */
export type TableName = string & { readonly __table: unique symbol };

const plainName = /^[a-z_][a-z0-9_$]*$/;

/** Canonical form of (schema, name). */
export function tableName(schema: string, name: string): TableName {
  // Branding is this function's purpose: nothing else makes a TableName.
  return `${quotePart(schema)}.${quotePart(name)}` as TableName;
}

/**
 * Reads `schema.name`, `"Schema"."na.me"` or `name` (in `public`). Unquoted parts are taken as written, without SQL's folding to
 * lower case: `public.User` is the table whose name is `User`. Returns undefined when the text is not a table name.
 */
export function parseTableName(text: string): TableName | undefined {
  const parts: string[] = [];
  let rest = text;
  while (true) {
    const match = /^(?:"((?:[^"]|"")+)"|([^".\s]+))(?:\.|$)/.exec(rest);
    if (!match) return undefined;
    parts.push(match[1] === undefined ? (match[2] ?? '') : match[1].replaceAll('""', '"'));
    const ended = !match[0].endsWith('.');
    rest = rest.slice(match[0].length);
    if (ended) break;
  }
  if (rest !== '' || parts.length > 2) return undefined;
  const [first = '', second] = parts;
  return second === undefined ? tableName('public', first) : tableName(first, second);
}

/** Schema and name of a table name. */
export function partsOf(table: TableName): { schema: string; name: string } {
  const match = /^(?:"((?:[^"]|"")+)"|([^".]+))\.(?:"((?:[^"]|"")+)"|([^".]+))$/.exec(table);
  const part = (quotedPart: string | undefined, plain: string | undefined) => quotedPart?.replaceAll('""', '"') ?? plain ?? '';
  return { schema: part(match?.[1], match?.[2]), name: part(match?.[3], match?.[4]) };
}

/** For SQL text: always quoted, so that a reserved word is a name too. */
export function quoted(table: TableName): string {
  const { schema, name } = partsOf(table);
  return `${ident(schema)}.${ident(name)}`;
}

function quotePart(part: string): string {
  return plainName.test(part) ? part : `"${part.replaceAll('"', '""')}"`;
}
