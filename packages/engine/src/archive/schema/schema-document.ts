import { createHash } from 'node:crypto';
import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { canonicalJson } from '../format/canonical-json.ts';
import { kinds } from './draft.ts';

/**
 * The schema of a database as statements, each with what it makes and what it needs: `schemaDdl` reads it from the catalogs, a backup keeps it as
 * `partywall:schema`, `runSchema` makes it.
 */
export const schemaFormat = 'partywall.schema/1';

const item = z.strictObject({
  /** `table public.customers`; no two are the same. */
  id: z.string(),
  kind: z.enum(kinds),
  /** Before the rows are loaded, or after. */
  phase: z.enum(['before', 'after']),
  /** In order, each a statement without its semicolon. They name everything in full and stand for an empty search path. */
  statements: z.array(z.string()),
  /** Ids of items that come before it. */
  needs: z.array(z.string()),
  /** Table or view that it is a part of. */
  table: z.string().nullable(),
});

const role = z.strictObject({
  name: z.string(),
  login: z.boolean(),
  /** No policy binds it: superuser or BYPASSRLS. */
  unbound: z.boolean(),
  superuser: z.boolean(),
  memberOf: z.array(z.string()),
});

const schemaDocument = z.strictObject({
  format: z.literal(schemaFormat),
  /** Major version of the server it was read from. */
  major: z.int(),
  /** Roles that own something, are granted something or are named by a policy; PostgreSQL's own are left out. */
  roles: z.array(role),
  extensions: z.array(z.strictObject({ name: z.string(), version: z.string() })),
  items: z.array(item),
  /** What the database has and the statements do not make, a line each. */
  unsupported: z.array(z.string()),
});

export type SchemaDdl = z.output<typeof schemaDocument>;
export type SchemaItem = SchemaDdl['items'][number];
export type SchemaRole = SchemaDdl['roles'][number];

/** The form in which a backup keeps it. */
export function writeSchema(schema: SchemaDdl): string {
  return canonicalJson(schema);
}

/** @throws PartywallError archive_foreign: not written by `writeSchema`, or by a newer version */
export function parseSchema(text: string): SchemaDdl {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new PartywallError('archive_foreign', 'reading the schema of a backup: not JSON', { cause });
  }
  const parsed = schemaDocument.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new PartywallError('archive_foreign', `reading the schema of a backup: malformed at ${parsed.error.issues[0]?.path.join('.')}`);
}

/** SHA-256 of the statements, hex: the same for the same schema in any database of the same version. */
export function schemaFingerprint({ items }: Pick<SchemaDdl, 'items'>): string {
  const hash = createHash('sha256');
  for (const { id, statements } of items) hash.update(canonicalJson([id, ...statements]));
  return hash.digest('hex');
}

/** Statements of a phase as text that `psql` takes. */
export function schemaText({ items }: Pick<SchemaDdl, 'items'>, phase: SchemaItem['phase']): string {
  const statements = items.filter((each) => each.phase === phase).flatMap((each) => each.statements);
  return ['set check_function_bodies = off', "set search_path = ''", ...statements].map((statement) => `${statement};\n`).join('');
}
