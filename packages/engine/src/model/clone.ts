import { z } from 'zod';
import { parseTableName, type TableName } from './table-name.ts';

/**
 * How a column is filled when a tenant is cloned, where the schema does not say it: a value that no two tenants may have, or an id that no
 * foreign key follows. By table and column.
 */
export type CloneRules = ReadonlyMap<TableName, ReadonlyMap<string, CloneRule>>;

export type CloneRule =
  /** suffix: the value and a few characters, the same ones for the whole clone. random: a new random text. null: nothing. */
  | { readonly kind: 'suffix' | 'random' | 'null' }
  /** ids: a text, JSON or array in which ids of cloned rows are exchanged. keep: stays as it is, and is not reported. */
  | { readonly kind: 'ids' | 'keep' }
  /** An expression over the row `s` that is copied. */
  | { readonly kind: 'sql'; readonly sql: string }
  /** An id of a row of that table, without a foreign key. */
  | { readonly kind: 'reference'; readonly table: TableName }
  /** The same where another column says of which table. */
  | { readonly kind: 'polymorphic'; readonly by: string; readonly tables: ReadonlyMap<string, TableName> };

const column = z.string().min(1).max(63);

const table = z.string().transform((text, context) => {
  const parsed = parseTableName(text);
  if (parsed) return parsed;
  context.addIssue({ code: 'custom', message: `not a table name: ${JSON.stringify(text)}` });
  return z.NEVER;
});

const ruleConfig = z.union([
  z.enum(['suffix', 'random', 'null', 'ids', 'keep']),
  z.strictObject({ sql: z.string().min(1) }),
  z.strictObject({ reference: table }),
  z.strictObject({ reference: z.strictObject({ by: column, tables: z.record(z.string(), table) }) }),
]);

/** As a person writes it: `{ 'public.tenants': { slug: 'suffix' } }`. */
export const cloneConfig = z.record(z.string(), z.record(column, ruleConfig)).transform((written, context): CloneRules => {
  const rules = new Map<TableName, ReadonlyMap<string, CloneRule>>();
  for (const [text, columns] of Object.entries(written)) {
    const name = parseTableName(text);
    if (name) rules.set(name, new Map(Object.entries(columns).map(([of, rule]) => [of, toRule(rule)])));
    else context.addIssue({ code: 'custom', path: [text], message: `not a table name: ${JSON.stringify(text)}` });
  }
  return rules;
});

function toRule(written: z.output<typeof ruleConfig>): CloneRule {
  if (typeof written === 'string') return { kind: written };
  if ('sql' in written) return { kind: 'sql', sql: written.sql };
  const { reference } = written;
  if (typeof reference === 'string') return { kind: 'reference', table: reference };
  return { kind: 'polymorphic', by: reference.by, tables: new Map(Object.entries(reference.tables)) };
}
