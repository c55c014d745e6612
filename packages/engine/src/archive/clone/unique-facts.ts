import type pg from 'pg';

/** Something that no two rows of a table may have in common: a unique index, or an exclusion constraint. */
export interface UniqueFact {
  /** Of the table. */
  readonly relation: number;
  readonly name: string;
  /** Every column that it depends on, those inside of expressions and conditions too. */
  readonly columns: readonly string[];
}

/** Expressions depend on their columns by the catalog's own account, so none has to be read. */
const uniquesSql = `select i.indrelid::int8::text::float8 as relation, c.relname as name,
  array(select distinct a.attname::text from pg_catalog.pg_attribute a where a.attrelid = i.indrelid and a.attnum > 0 and (a.attnum = any (i.indkey::int2[])
    or exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid
      and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = i.indrelid and d.refobjsubid = a.attnum)) order by 1) as columns
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
where i.indrelid = any ($1::oid[]) and (i.indisunique or i.indisexclusion) and i.indisvalid order by i.indisprimary desc, c.relname`;

export async function readUniques(client: pg.ClientBase, relations: readonly { readonly oid: number }[]): Promise<UniqueFact[]> {
  const { rows } = await client.query<UniqueFact>(uniquesSql, [relations.map(({ oid }) => oid)]);
  return rows;
}
