import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted } from '../../model/table-name.ts';
import type { StagedTable } from './difference-sql.ts';

/**
 * Lets the sequences behind the columns of restored tables go on beyond the restored numbers, never back, and draws one: the next row that the
 * application inserts must not meet one that is there.
 *
 * @throws PartywallError import_conflict
 */
export async function raiseSequences(client: pg.ClientBase, catalog: Catalog, tables: readonly StagedTable[]): Promise<void> {
  for (const { schema, name, ownedBy } of catalog.sequences) {
    const table = ownedBy && tables.find(({ relation }) => relation.table === ownedBy.table);
    if (!table || table.rows === 0 || !table.columns.some((column) => column.name === ownedBy.column)) continue;
    const sequence = `${ident(schema)}.${ident(name)}`;
    const column = ident(ownedBy.column);
    await client.query(`select partywall_control.raise_sequence($1::regclass, max(s.${column})) from ${table.stage} s having max(s.${column}) is not null`, [
      sequence,
    ]);
    const { rows } = await client.query<{ taken: boolean }>(
      `with drawn as materialized (select nextval($1::regclass) as number)
select exists (select from ${quoted(table.relation.table)} t, drawn d where t.${column} = d.number) as taken from drawn`,
      [sequence],
    );
    if (rows[0]?.taken) throw new PartywallError('import_conflict', `restoring ${ownedBy.table}: its sequence ${sequence} is behind the rows that are there`);
  }
}
