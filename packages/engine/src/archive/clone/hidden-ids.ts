import type pg from 'pg';
import { ident } from '../../db/sql.ts';
import { keyFamily } from '../../model/key-types.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { type IdMap, uuidMap, uuidPattern } from './id-maps.ts';
import type { CloneTable } from './plan-clone.ts';

/** Rows of a table that are searched for ids; the first that hides one is enough. */
const searchedRowsMax = 100_000;

/** Numbers are ids where a column is called so: `subject_id`, `reader_ids`, `subjectId`. */
const namedId = /(?:^id|_id|Id|_ids|Ids)$/;
const holdsTexts = /^(?:text|jsonb?|character(?: varying)?(?:\(\d+\))?|.*\[\])$/;

/**
 * Columns that hold ids of rows which get new ones, though no foreign key says so: a polymorphic pair, JSON, an array. They keep the old id, which
 * in the clone leads to the source's row, or to nothing. A line each.
 */
export async function findHiddenIds(
  client: pg.ClientBase,
  tables: readonly CloneTable[],
  staged: readonly StagedTable[],
  maps: readonly IdMap[],
): Promise<string[]> {
  const integers = maps.filter(({ type }) => keyFamily(type) === 'integer');
  const texts = maps.filter(({ type }) => keyFamily(type) === 'text');
  const found: string[] = [];
  for (const { relation, stage } of staged) {
    const columns = tables.find(({ table }) => table.relation.table === relation.table)?.columns ?? [];
    for (const { name, type, fill } of columns) {
      if (fill.kind !== 'kept') continue;
      const column = `s.${ident(name)}`;
      const rows = `(select ${ident(name)} from ${stage} limit ${searchedRowsMax}) s`;
      const among = (candidates: readonly IdMap[]): string[] => candidates.map((map) => `exists (select from ${map.name} m where m.old = ${column})`);
      const conditions = [
        ...(type === 'uuid' ? [`exists (select from ${uuidMap} m where m.old = ${column})`] : []),
        ...(holdsTexts.test(type)
          ? [`exists (select from pg_catalog.regexp_matches(${column}::text, '${uuidPattern}', 'g') h (hit) join ${uuidMap} m on m.old = h.hit[1]::uuid)`]
          : []),
        ...(keyFamily(type) === 'integer' && namedId.test(name) ? among(integers) : []),
        ...(keyFamily(type) === 'text' ? among(texts) : []),
      ];
      if (conditions.length === 0) continue;
      const { rowCount } = await client.query(`select from ${rows} where ${conditions.join(' or ')} limit 1`);
      if (rowCount !== 0) found.push(`${relation.table}.${name} (${type}) holds ids of cloned rows and is copied as it is; say in clone what it refers to`);
    }
  }
  return found;
}
