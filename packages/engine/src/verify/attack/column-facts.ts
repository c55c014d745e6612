import type pg from 'pg';
import type { WantedWall } from '../../wall/shape.ts';

/** What a value of a column must look like, beyond the name of its type. */
export interface ColumnFacts {
  /** The base type of a domain, else the type itself, as `format_type` prints it. */
  readonly base: string;
  /** `pg_type.typcategory` of the base type. */
  readonly category: string;
  readonly kind: 'base' | 'composite' | 'enum' | 'range' | 'multirange';
  readonly labels: readonly string[];
  /** Check expressions of the domain over VALUE. */
  readonly domainChecks: readonly string[];
}

export type ColumnFactsOf = (relation: number, column: string) => ColumnFacts | undefined;

const columnFactsSql = `with recursive used as (
  select a.attrelid, a.attname, a.atttypid, a.atttypmod from pg_catalog.pg_attribute a where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
), types (start, typmod, oid, checks) as (
  select distinct atttypid, atttypmod, atttypid, '{}'::text[] from used
  union all
  select y.start, case when t.typtypmod >= 0 then t.typtypmod else y.typmod end, t.typbasetype,
    y.checks || array(select pg_get_constraintdef(k.oid) from pg_catalog.pg_constraint k where k.contypid = t.oid)
  from types y join pg_catalog.pg_type t on t.oid = y.oid where t.typtype = 'd'
)
select u.attrelid::int8::text::float8 as relation, u.attname as name, format_type(t.oid, y.typmod) as base, t.typcategory::text as category,
  case t.typtype when 'c' then 'composite' when 'e' then 'enum' when 'r' then 'range' when 'm' then 'multirange' else 'base' end as kind,
  coalesce((select json_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid), '[]'::json) as labels,
  to_json(y.checks) as "domainChecks"
from used u join types y on y.start = u.atttypid and (y.typmod = u.atttypmod or y.oid <> y.start) join pg_catalog.pg_type t on t.oid = y.oid and t.typtype <> 'd'`;

/** Reads the facts of all columns of the walled tables, in one query. */
export async function readColumnFacts(client: pg.ClientBase, wanted: WantedWall): Promise<ColumnFactsOf> {
  const oids = [...wanted.tables.values()].map((table) => table.relation.oid);
  const { rows } = await client.query<ColumnFacts & { relation: number; name: string }>(columnFactsSql, [oids]);
  const facts = new Map(rows.map((row) => [`${row.relation}/${row.name}`, row]));
  return (relation, column) => facts.get(`${relation}/${column}`);
}
