import { addressOf, type Draft, identityOf, isFree, isOurs, type Reading, type Rows } from './draft.ts';

/** Constraints, indexes and extended statistics: what is made over the rows when they are there. */
export async function readConstraints(rows: Rows): Promise<Reading> {
  const indexes = await readIndexes(rows);
  return {
    drafts: [...(await constraints(rows)), ...indexes.filter(({ valid }) => valid).map(indexDraft), ...(await statistics(rows))],
    unsupported: indexes.filter(({ valid }) => !valid).map(({ id }) => `${id} is invalid, and is not made`),
  };
}

interface ConstraintRow {
  readonly oid: number;
  readonly relation: number;
  readonly index: number | null;
  readonly id: string;
  readonly kind: 'p' | 'u' | 'x' | 'c' | 'f';
  readonly table: string;
  readonly only: string;
  readonly name: string;
  readonly definition: string;
  readonly indexName: string | null;
  readonly indexOptions: readonly string[];
  readonly parentIndex: string | null;
  readonly clustered: boolean;
  /** Checks of the same name further down, which must be there for this one to become their parent. */
  readonly below: readonly number[];
}

const constraintKinds = { p: 'key', u: 'key', x: 'key', c: 'check', f: 'foreign key' } as const;

async function constraints(rows: Rows): Promise<Draft[]> {
  const found = await rows<ConstraintRow>(
    `select k.oid, k.conrelid as relation, case when k.contype in ('p', 'u', 'x') then k.conindid end as index,
  ${identityOf('pg_constraint', 'k.oid')} as id, k.contype as kind, k.conrelid::regclass::text as table,
  -- A check is added to the children too, and a foreign key of a partitioned table to its partitions.
  case when k.contype = 'c' and not k.connoinherit or k.contype = 'f' and c.relkind = 'p' then '' else 'only ' end as only,
  quote_ident(k.conname) as name, pg_catalog.pg_get_constraintdef(k.oid) as definition,
  x.oid::regclass::text as "indexName", coalesce(x.reloptions, '{}') as "indexOptions", xi.inhparent::regclass::text as "parentIndex",
  coalesce(i.indisclustered, false) as clustered,
  case when k.contype = 'c' then array(
    with recursive below as (select h.inhrelid from pg_catalog.pg_inherits h where h.inhparent = k.conrelid
      union select h.inhrelid from below b join pg_catalog.pg_inherits h on h.inhparent = b.inhrelid)
    select o.oid from below b join pg_catalog.pg_constraint o on o.conrelid = b.inhrelid and o.conname = k.conname and o.contype = 'c' and o.conislocal)
  else '{}'::oid[] end as below
from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_class x on x.oid = k.conindid and k.contype in ('p', 'u', 'x')
left join pg_catalog.pg_index i on i.indexrelid = x.oid
left join pg_catalog.pg_inherits xi on xi.inhrelid = x.oid
where c.relkind in ('r', 'p') and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}
  and (k.contype in ('p', 'u', 'x') or k.contype = 'c' and k.conislocal or k.contype = 'f' and k.conparentid = 0)`,
  );
  return found.map((row) => ({
    id: row.id,
    kind: constraintKinds[row.kind],
    statements: [
      `alter table ${row.only}${row.table} add constraint ${row.name} ${row.definition}`,
      ...(row.indexOptions.length === 0 ? [] : [`alter index ${row.indexName} set (${row.indexOptions.join(', ')})`]),
      ...(row.parentIndex === null ? [] : [`alter index ${row.parentIndex} attach partition ${row.indexName}`]),
      ...(row.clustered ? [`alter table ${row.table} cluster on ${row.name}`] : []),
    ],
    makes: [addressOf('pg_constraint', row.oid), ...(row.index === null ? [] : [addressOf('pg_class', row.index)])],
    needs: row.below.map((oid) => addressOf('pg_constraint', oid)),
    part: addressOf('pg_class', row.relation),
  }));
}

interface IndexRow {
  readonly oid: number;
  readonly relation: number;
  readonly id: string;
  readonly name: string;
  readonly table: string;
  readonly valid: boolean;
  readonly definition: string;
  readonly parent: string | null;
  readonly parentOid: number | null;
  readonly clustered: boolean;
  readonly columnStatistics: readonly string[];
}

function readIndexes(rows: Rows): Promise<IndexRow[]> {
  return rows<IndexRow>(
    `select x.oid, i.indrelid as relation, ${identityOf('pg_class', 'x.oid')} as id, x.oid::regclass::text as name, i.indrelid::regclass::text as table,
  i.indisvalid or x.relkind = 'I' as valid, pg_catalog.pg_get_indexdef(x.oid) as definition, h.inhparent::regclass::text as parent, h.inhparent as "parentOid",
  i.indisclustered as clustered,
  array(select format('%s set statistics %s', a.attnum, a.attstattarget) from pg_catalog.pg_attribute a
    where a.attrelid = x.oid and a.attstattarget >= 0 order by a.attnum) as "columnStatistics"
from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid join pg_catalog.pg_class c on c.oid = i.indrelid
join pg_catalog.pg_namespace n on n.oid = x.relnamespace left join pg_catalog.pg_inherits h on h.inhrelid = x.oid
where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and ${isOurs('n')} and ${isFree('pg_class', 'x.oid')} and ${isFree('pg_class', 'c.oid')}
  and not exists (select from pg_catalog.pg_constraint k where k.conindid = x.oid and k.contype in ('p', 'u', 'x'))`,
  );
}

function indexDraft({ oid, relation, id, name, table, definition, parent, parentOid, clustered, columnStatistics }: IndexRow): Draft {
  return {
    id,
    kind: 'index',
    statements: [
      definition,
      ...columnStatistics.map((column) => `alter index ${name} alter column ${column}`),
      ...(parent === null ? [] : [`alter index ${parent} attach partition ${name}`]),
      ...(clustered ? [`alter table ${table} cluster on ${name.slice(name.lastIndexOf('.') + 1)}`] : []),
    ],
    makes: [addressOf('pg_class', oid)],
    needs: parentOid === null ? [] : [addressOf('pg_class', parentOid)],
    part: addressOf('pg_class', relation),
  };
}

async function statistics(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; relation: number; id: string; name: string; definition: string; target: number | null }>(
    `select s.oid, s.stxrelid as relation, ${identityOf('pg_statistic_ext', 's.oid')} as id, format('%I.%I', n.nspname, s.stxname) as name,
  pg_catalog.pg_get_statisticsobjdef(s.oid) as definition, nullif(s.stxstattarget, -1) as target
from pg_catalog.pg_statistic_ext s join pg_catalog.pg_namespace n on n.oid = s.stxnamespace where ${isOurs('n')} and ${isFree('pg_statistic_ext', 's.oid')}`,
  );
  return found.map(({ oid, relation, id, name, definition, target }) => ({
    id,
    kind: 'statistics',
    statements: [definition, ...(target === null ? [] : [`alter statistics ${name} set statistics ${target}`])],
    makes: [addressOf('pg_statistic_ext', oid)],
    part: addressOf('pg_class', relation),
  }));
}
