import type { ControlDatabase } from '../db/operation.ts';
import { tableName } from '../model/table-name.ts';

/** A foreign key of the wall: it carries the tenant, so that what it refuses may be another tenant's row. */
export interface WallReference {
  readonly table: string;
  readonly constraint: string;
  readonly columns: readonly string[];
  readonly references: string;
}

const keySql = `select array(select a.attname::text from unnest(c.conkey) with ordinality k (number, place)
    join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number order by k.place) as columns, fn.nspname as schema, f.relname as name
from pg_constraint c join pg_class t on t.oid = c.conrelid join pg_namespace n on n.oid = t.relnamespace
  join pg_class f on f.oid = c.confrelid join pg_namespace fn on fn.oid = f.relnamespace
where c.contype = 'f' and n.nspname = $1 and t.relname = $2 and c.conname = $3`;

/**
 * The composite key behind a foreign-key violation, or undefined where it is no key of the wall. Asked of the catalog, because the error itself names
 * neither columns nor values to a role that policies bind.
 */
export async function wallReference(
  { pool, model }: ControlDatabase,
  violated: { readonly schema: string; readonly table: string; readonly constraint: string },
): Promise<WallReference | undefined> {
  const table = tableName(violated.schema, violated.table);
  const rule = model.tables.get(table);
  if (rule?.scope !== 'scoped') return undefined;
  const { rows } = await pool.query<{ columns: string[]; schema: string; name: string }>(keySql, [violated.schema, violated.table, violated.constraint]);
  const key = rows[0];
  if (!key || key.columns.length < 2 || !key.columns.includes(rule.column)) return undefined;
  return { table, constraint: violated.constraint, columns: key.columns, references: tableName(key.schema, key.name) };
}
