import { addressOf, type Rows } from './draft.ts';

/** Which object needs which others, and which stand for others: all by their addresses. */
export interface Dependencies {
  readonly needs: ReadonlyMap<string, ReadonlySet<string>>;
  /** Array types for their elements', members for their extension. */
  readonly stands: ReadonlyMap<string, string>;
}

/** Objects with a lower number come with every database. */
const firstOwnOid = 16384;

export async function readDependencies(rows: Rows): Promise<Dependencies> {
  const edges = await rows<{ from: string; fromOid: number; to: string; toOid: number; kind: string }>(
    `select f.relname as from, d.objid as "fromOid", t.relname as to, d.refobjid as "toOid", d.deptype as kind
from pg_catalog.pg_depend d join pg_catalog.pg_class f on f.oid = d.classid join pg_catalog.pg_class t on t.oid = d.refclassid
where d.objid >= ${firstOwnOid} and d.refobjid >= ${firstOwnOid} and (d.classid, d.objid) <> (d.refclassid, d.refobjid)
  -- A sequence depends on the column that owns it, and the column's default on the sequence: the sequence comes first.
  and not (d.deptype = 'a' and d.classid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0
    and exists (select from pg_catalog.pg_sequence s where s.seqrelid = d.objid))`,
  );
  const needs = new Map<string, Set<string>>();
  const stands = new Map<string, string>();
  for (const { from, fromOid, to, toOid, kind } of edges) {
    const source = addressOf(from, fromOid);
    const target = addressOf(to, toOid);
    if (kind === 'e') stands.set(source, target);
    const known = needs.get(source);
    if (known) known.add(target);
    else needs.set(source, new Set([target]));
  }
  const arrays = await rows<{ array: number; element: number }>(
    `select t.typarray as array, t.oid as element from pg_catalog.pg_type t where t.typarray >= ${firstOwnOid}`,
  );
  for (const { array, element } of arrays) stands.set(addressOf('pg_type', array), addressOf('pg_type', element));
  return { needs, stands };
}
