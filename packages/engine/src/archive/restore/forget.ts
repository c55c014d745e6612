import type pg from 'pg';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { TableName } from '../../model/table-name.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { foreignKeys } from '../../tenants/transfer/tables.ts';

/** A row that was erased since the source was made and must not come back, by its key: somebody who asked to be forgotten. */
export interface ForgottenRow {
  readonly table: TableName;
  /** Columns of the key, as text. */
  readonly key: Readonly<Record<string, string>>;
}

/** Rows that refer to rows that refer …: no schema is deeper. */
const depthMax = 64;

/**
 * Takes forgotten rows out of what was staged, and what hangs on them as their foreign keys say: with `on delete cascade` it goes too, with `set null`
 * it lets go; anything else is left to the search for conflicts. Returns how many rows went.
 *
 * @throws PartywallError restore_refused for a key that the table does not have: who was erased must not come back by a renamed column
 */
export async function forgetRows(client: pg.ClientBase, tables: readonly StagedTable[], rows: readonly ForgottenRow[]): Promise<number> {
  let gone = 0;
  for (const { table, key } of rows) {
    const staged = tables.find(({ relation }) => relation.table === table);
    if (!staged) continue;
    const columns = Object.keys(key);
    const unknown = columns.filter((name) => !staged.columns.some((column) => column.name === name));
    if (columns.length === 0 || unknown.length > 0) {
      throw new PartywallError('restore_refused', `looking for a row of ${table} that was erased: it has no column ${unknown[0] ?? ''}`);
    }
    const { rowCount } = await client.query(
      `delete from ${staged.stage} s where ${columns.map((name, at) => `s.${ident(name)}::text = $${at + 1}`).join(' and ')}`,
      Object.values(key),
    );
    gone += rowCount ?? 0;
  }
  for (let depth = 0; gone > 0 && depth < depthMax; depth += 1) {
    const more = await dropDangling(client, tables);
    if (more === 0) break;
    gone += more;
  }
  return gone;
}

async function dropDangling(client: pg.ClientBase, tables: readonly StagedTable[]): Promise<number> {
  let gone = 0;
  for (const child of tables) {
    for (const { columns, foreign } of foreignKeys(child.relation)) {
      const parent = tables.find(({ relation }) => relation.table === foreign.table);
      if (!parent || (foreign.onDelete !== 'cascade' && foreign.onDelete !== 'set null')) continue;
      const dangling = `${columns.map((name) => `s.${ident(name)} is not null`).join(' and ')} and not exists (select from ${parent.stage} p where ${columns
        .map((name, at) => `p.${ident(foreign.columns[at] ?? '')} = s.${ident(name)}`)
        .join(' and ')})`;
      const loosened = foreign.setColumns.length > 0 ? foreign.setColumns : columns;
      const { rowCount } = await client.query(
        foreign.onDelete === 'cascade'
          ? `delete from ${child.stage} s where ${dangling}`
          : `update ${child.stage} s set ${loosened.map((name) => `${ident(name)} = null`).join(', ')} where ${dangling}`,
      );
      gone += rowCount ?? 0;
    }
  }
  return gone;
}
