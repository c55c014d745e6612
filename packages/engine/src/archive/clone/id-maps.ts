import type pg from 'pg';
import { ident } from '../../db/sql.ts';
import type { TableName } from '../../model/table-name.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import type { CloneTable, ColumnFill } from './plan-clone.ts';

/** Old and new values of a column, in a temporary table (`old`, `new`): on disk, whatever a tenant has. */
export interface IdMap {
  readonly table: TableName;
  readonly column: string;
  readonly type: string;
  /** SQL name. */
  readonly name: string;
}

/** All UUIDs that were given anew (`old`, `new`). */
export const uuidMap = 'pg_temp.partywall_uuids';
export const uuidPattern = '[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}';

/**
 * Makes the new value of everything that gets one and is remembered: ids, and what others refer to. Sequences are drawn from, never set, so
 * whoever inserts meanwhile draws others.
 *
 * @param filled the expression of a rule, over the staged row `s`
 */
export async function makeIdMaps(
  client: pg.ClientBase,
  tables: readonly CloneTable[],
  staged: readonly StagedTable[],
  filled: (column: ColumnFill) => string,
): Promise<IdMap[]> {
  const referred = new Set(
    tables.flatMap(({ columns }) => columns.flatMap(({ fill }) => (fill.kind === 'reference' ? [`${fill.table}.${ident(fill.column)}`] : []))),
  );
  const maps: IdMap[] = [];
  for (const { relation, stage } of staged) {
    const columns = tables.find(({ table }) => table.relation.table === relation.table)?.columns ?? [];
    for (const filling of columns) {
      const { name, type, fill } = filling;
      const remembered = fill.kind === 'new' || (referred.has(`${relation.table}.${ident(name)}`) && (fill.kind === 'rule' || fill.kind === 'profile'));
      if (!remembered) continue;
      const map: IdMap = { table: relation.table, column: name, type, name: `pg_temp.partywall_ids_${maps.length}` };
      const column = ident(name);
      await client.query(
        `create temporary table partywall_ids_${maps.length} on commit drop as
select s.${column} as old, ${filled(filling)} as new from (select distinct ${column} from ${stage} where ${column} is not null) s`,
      );
      await client.query(`create index on ${map.name} (old)`);
      await client.query(`analyze ${map.name}`);
      maps.push(map);
    }
  }
  const uuids = maps.filter(({ type }) => type === 'uuid').map(({ name }) => `select old, new from ${name}`);
  await client.query(
    `create temporary table partywall_uuids on commit drop as ${uuids.length > 0 ? uuids.join(' union ') : 'select null::uuid as old, null::uuid as new where false'}`,
  );
  await client.query(`create index on ${uuidMap} (old)`);
  await client.query(`analyze ${uuidMap}`);
  return maps;
}

export function mapOf(maps: readonly IdMap[], table: TableName, column: string): IdMap | undefined {
  return maps.find((map) => map.table === table && map.column === column);
}
