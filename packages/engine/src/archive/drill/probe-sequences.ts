import type pg from 'pg';
import { ident } from '../../db/sql.ts';
import { parseTableName, quoted } from '../../model/table-name.ts';
import type { Manifest } from '../format/manifest.ts';

export interface SequenceProbe {
  readonly probed: number;
  readonly problems: readonly string[];
}

interface SequenceUse {
  readonly sequence: string;
  readonly schema: string;
  readonly table: string;
  readonly column: string;
  readonly increment: string;
}

/** Columns that a sequence fills: it belongs to them, or their default asks it. */
const usesSql = `select s.oid::regclass::text as sequence, n.nspname as schema, c.relname as "table", a.attname as "column", q.seqincrement::text as increment
from pg_catalog.pg_class s join pg_catalog.pg_sequence q on q.seqrelid = s.oid
join lateral (
  select d.refobjid as rel, d.refobjsubid as att from pg_catalog.pg_depend d
  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = s.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
  union
  select f.adrelid, f.adnum from pg_catalog.pg_depend d join pg_catalog.pg_attrdef f on f.oid = d.objid
  where d.classid = 'pg_catalog.pg_attrdef'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = s.oid) u on true
join pg_catalog.pg_class c on c.oid = u.rel join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = u.rel and a.attnum = u.att
join pg_catalog.pg_type t on t.oid = a.atttypid and t.typcategory = 'N'
where c.relkind in ('r', 'p') order by 1, 2, 3, 4`;

/**
 * Asks every sequence for its next value, and whether that is free in each column that the sequence fills: an insert would take it. Before that, whether it stands
 * where the manifest says. The values that it takes are lost, as those of any insert.
 */
export async function probeSequences(client: pg.ClientBase, sequences: Manifest['sequences']): Promise<SequenceProbe> {
  const problems: string[] = [];
  for (const { name, last, called } of sequences) {
    const parsed = parseTableName(name);
    if (!parsed) continue;
    const { rows } = await client.query<{ last: string; called: boolean }>(`select last_value::text as last, is_called as called from ${quoted(parsed)}`);
    const [there] = rows;
    if (there?.last !== last || there.called !== called) problems.push(`sequence ${name} stands at ${there?.last}, and the manifest has ${last}`);
  }
  const { rows: uses } = await client.query<SequenceUse>(usesSql);
  for (const [sequence, columns] of Map.groupBy(uses, (use) => use.sequence)) {
    const next = await nextValue(client, sequence);
    if (typeof next === 'string') {
      problems.push(`sequence ${sequence} gives nothing: ${next}`);
      continue;
    }
    for (const use of columns) {
      const taken = await furthest(client, use);
      const up = !use.increment.startsWith('-');
      const isFree = taken === null || (up ? next > taken : next < taken);
      if (!isFree) problems.push(`sequence ${sequence} gives ${next}, and ${use.schema}.${use.table}.${use.column} is at ${taken} already`);
    }
  }
  return { probed: sequences.length, problems };
}

/** What an insert would get; why there is nothing to get. */
async function nextValue(client: pg.ClientBase, sequence: string): Promise<bigint | string> {
  try {
    const { rows } = await client.query<{ next: string }>('select pg_catalog.nextval($1::regclass)::text as next', [sequence]);
    return BigInt(rows[0]?.next ?? 0);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The value that the sequence has to be beyond. */
async function furthest(client: pg.ClientBase, { schema, table, column, increment }: SequenceUse): Promise<bigint | null> {
  const end = increment.startsWith('-') ? 'floor(min' : 'ceil(max';
  const { rows } = await client.query<{ value: string | null }>(
    `select ${end}(t.${ident(column)})::numeric)::text as value from ${ident(schema)}.${ident(table)} t`,
  );
  const value = rows[0]?.value ?? null;
  return value === null ? null : BigInt(value);
}
