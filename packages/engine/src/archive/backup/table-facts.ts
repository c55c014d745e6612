import type pg from 'pg';
import type { TableName } from '../../model/table-name.ts';
import { tableName } from '../../model/table-name.ts';

/** What reading a table takes, as of the transaction that asks. */
export interface TableFacts {
  readonly oid: string;
  readonly table: TableName;
  readonly schema: string;
  readonly name: string;
  readonly unlogged: boolean;
  /** File of the rows: a rewrite of the table gives it another. */
  readonly filenode: string;
  /** Blocks of the rows, and bytes with their long values. */
  readonly blocks: number;
  readonly bytes: number;
  readonly estimatedRows: number;
  /** In order, without generated ones. */
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** Their numbers: one that was dropped and made again has another, and what it says of rows that are older than it is written into no row. */
  readonly columnNumbers: readonly number[];
  readonly primaryKey: readonly string[];
  /** Columns that an index leads with. */
  readonly leading: readonly string[];
  /** A value may be written otherwise although the row has not changed: `regclass` and its like write names. */
  readonly namesObjects: boolean;
  /** Top of the partitions or children that it is one of; itself where it is none. */
  readonly top: TableName;
  readonly isPartition: boolean;
}

interface FactsRow extends Omit<TableFacts, 'table' | 'top'> {
  readonly parents: readonly [schema: string, name: string][];
}

/**
 * Tables with rows of their own in the schemas: partitions, no partitioned tables. Types that name objects, and those that have one inside, are found once
 * for all tables: to look into the types of each took most of the time, 0.3 ms a table.
 */
const factsSql = `with recursive part (type, whole) as materialized (
  select t.typelem, t.oid from pg_catalog.pg_type t where t.typelem <> 0
  union all select t.typbasetype, t.oid from pg_catalog.pg_type t where t.typbasetype <> 0
  union all select r.rngsubtype, m.type from pg_catalog.pg_range r cross join lateral (values (r.rngtypid), (r.rngmultitypid)) m (type)
  union all select a.atttypid, c.reltype from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
    where c.reltype <> 0 and a.attnum > 0 and not a.attisdropped
), naming (type) as (
  select t.oid from pg_catalog.pg_type t where t.typnamespace = 'pg_catalog'::regnamespace and (t.typname ~ '^reg' or t.typname = 'aclitem')
  union select part.whole from naming join part on part.type = naming.type
)
select c.oid::text as oid, n.nspname as schema, c.relname as name, c.relpersistence = 'u' as unlogged,
  pg_catalog.pg_relation_filenode(c.oid)::text as filenode,
  (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint)::float8 as blocks,
  pg_catalog.pg_table_size(c.oid)::float8 as bytes, greatest(c.reltuples, 0)::float8 as "estimatedRows", c.relispartition as "isPartition",
  coalesce((select json_agg(json_build_object('name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod)) order by a.attnum)
    from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''), '[]'::json) as columns,
  array(select a.attnum::integer from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum) as "columnNumbers",
  coalesce((select json_agg(a.attname order by k.place) from pg_catalog.pg_index i cross join lateral unnest(i.indkey::int2[]) with ordinality k (number, place)
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.number where i.indrelid = c.oid and i.indisprimary), '[]'::json) as "primaryKey",
  coalesce((select json_agg(distinct a.attname) from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
    join pg_catalog.pg_class ic on ic.oid = i.indexrelid join pg_catalog.pg_am m on m.oid = ic.relam
    where i.indrelid = c.oid and i.indisvalid and i.indpred is null and m.amname = 'btree'), '[]'::json) as leading,
  exists (select from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.atttypid = any (array(select type from naming))) as "namesObjects",
  coalesce((with recursive up (oid, depth) as (
      select i.inhparent, 1 from pg_catalog.pg_inherits i where i.inhrelid = c.oid
      union all select i.inhparent, up.depth + 1 from up join pg_catalog.pg_inherits i on i.inhrelid = up.oid)
    select json_agg(json_build_array(pn.nspname, p.relname) order by up.depth) from up join pg_catalog.pg_class p on p.oid = up.oid
      join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace), '[]'::json) as parents
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname = any ($1::text[])
order by n.nspname, c.relname`;

export async function readTableFacts(client: pg.ClientBase, schemas: readonly string[]): Promise<TableFacts[]> {
  const { rows } = await client.query<FactsRow>(factsSql, [schemas]);
  return rows.map(({ parents, ...facts }) => {
    const table = tableName(facts.schema, facts.name);
    const [schema, name] = parents.at(-1) ?? [facts.schema, facts.name];
    return { ...facts, table, top: facts.isPartition ? tableName(schema, name) : table };
  });
}

/**
 * What else decides how a row is written as text: labels of enums, parts of composite types (a table's rows are one where a column has them as its type),
 * versions of extensions, the server's major version. Changes when one of them does, in any way.
 */
export async function readTextFacts(client: pg.ClientBase): Promise<string> {
  const { rows } = await client.query<{ facts: string }>(`select pg_catalog.md5(pg_catalog.concat_ws('|',
    pg_catalog.current_setting('server_version_num')::int / 10000,
    (select string_agg(e.enumtypid || ':' || e.enumsortorder || ':' || e.enumlabel, ',' order by e.enumtypid, e.enumsortorder) from pg_catalog.pg_enum e),
    (select string_agg(concat_ws(':', a.attrelid, a.attnum, a.atttypid, a.atttypmod, a.attisdropped), ',' order by a.attrelid, a.attnum)
      from pg_catalog.pg_class c join pg_catalog.pg_type t on t.oid = c.reltype join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
      where c.relkind = 'c' or exists (select from pg_catalog.pg_depend d where d.refclassid = 'pg_catalog.pg_type'::regclass
        and d.refobjid in (t.oid, nullif(t.typarray, 0)) and d.classid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_type'::regclass) and d.objsubid > 0)),
    (select string_agg(x.extname || ':' || x.extversion, ',' order by x.extname) from pg_catalog.pg_extension x))) as facts`);
  return rows[0]?.facts ?? '';
}
