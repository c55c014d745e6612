import type { ControlDatabase } from '../db/operation.ts';
import { ident } from '../db/sql.ts';
import { quoted, type TableName } from '../model/table-name.ts';

/**
 * The tenant of the row with this id (column `id`); undefined where there is none, and where the table is not scoped. For telling a guess from an
 * attempt once a request has been refused; nothing of the row but its tenant is read.
 *
 * @throws pg.DatabaseError 22P02 or 22003 where the text is no id of such a table, 42703 where it has no column `id`
 */
export async function ownerOfRow({ pool, model }: ControlDatabase, table: TableName, id: string): Promise<string | undefined> {
  const rule = model.tables.get(table);
  if (rule?.scope !== 'scoped') return undefined;
  const { rows } = await pool.query<{ tenant: string | null }>(
    `select t.${ident(rule.column)}::text as tenant from ${quoted(table)} t where t.id = $1 limit 1`,
    [id],
  );
  return rows[0]?.tenant ?? undefined;
}
