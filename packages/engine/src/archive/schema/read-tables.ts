import { addressOf, type Draft, identityOf, isFree, isOurs, type Reading, type Rows } from './draft.ts';

interface TableRow {
  readonly oid: number;
  readonly type: number;
  readonly id: string;
  readonly name: string;
  readonly unlogged: boolean;
  readonly isPartition: boolean;
  readonly partitionKey: string | null;
  readonly bound: string | null;
  readonly parents: readonly { readonly oid: number; readonly name: string }[];
  readonly options: readonly string[];
  readonly method: string | null;
  readonly identitySequences: readonly number[];
}

interface ColumnRow {
  readonly relation: number;
  readonly oid: number | null;
  readonly name: string;
  readonly plain: string;
  readonly type: string;
  readonly collation: string | null;
  readonly notNull: boolean;
  readonly expression: string | null;
  readonly generated: string;
  readonly identity: string | null;
  readonly local: boolean;
  readonly settings: readonly string[];
}

interface NotNullRow {
  readonly oid: number;
  readonly relation: number;
  readonly definition: string;
  readonly local: boolean;
  readonly validated: boolean;
}

/** Tables with their columns and defaults, and sequences. Rows are loaded into what this makes. */
export async function readTables(rows: Rows, serverVersion: number): Promise<Reading> {
  const tables = await rows<TableRow>(tablesSql);
  const columns = Map.groupBy(await rows<ColumnRow>(columnsSql(serverVersion)), ({ relation }) => relation);
  const notNulls = Map.groupBy(serverVersion >= 180_000 ? await rows<NotNullRow>(notNullsSql) : [], ({ relation }) => relation);
  const drafts = tables.flatMap((table) => tableDrafts(table, columns.get(table.oid) ?? [], notNulls.get(table.oid) ?? []));
  return { drafts: [...drafts, ...(await viewDefaults(rows)), ...(await sequences(rows))], unsupported: await notCarried(rows) };
}

function tableDrafts(table: TableRow, columns: readonly ColumnRow[], notNulls: readonly NotNullRow[]): Draft[] {
  const { oid, name, isPartition } = table;
  const address = addressOf('pg_class', oid);
  const inherits = !isPartition && table.parents.length > 0;
  // A partition is made alone and attached, so that its columns may stand in an order of its own.
  const listed = inherits ? columns.filter(({ local }) => local) : columns;
  const inline = notNulls.filter(({ local, validated }) => validated && (local || isPartition));
  const body = [...listed.map(columnText), ...inline.map(({ definition }) => definition)];
  const create = [
    `create ${table.unlogged ? 'unlogged ' : ''}table ${name} (${body.length === 0 ? '' : `\n  ${body.join(',\n  ')}\n`})`,
    ...(inherits ? [`inherits (${table.parents.map((parent) => parent.name).join(', ')})`] : []),
    ...(table.partitionKey === null ? [] : [`partition by ${table.partitionKey}`]),
    ...(table.method === null ? [] : [`using ${table.method}`]),
    ...(table.options.length === 0 ? [] : [`with (${table.options.join(', ')})`]),
  ].join(' ');
  const settings = columns.flatMap((column) => column.settings.map((setting) => `alter table only ${name} alter column ${column.name} ${setting}`));
  const inherited = inherits ? columns.filter(({ local, notNull }) => !local && notNull) : [];
  const generated = columns.filter((column) => column.generated !== '' && column.oid !== null);
  const defaults = columns.filter((column) => column.generated === '' && column.expression !== null);
  const [parent] = table.parents;
  return [
    {
      id: table.id,
      kind: 'table',
      statements: [create, ...inherited.map((column) => `alter table only ${name} alter column ${column.name} set not null`), ...settings],
      makes: [
        address,
        addressOf('pg_type', table.type),
        ...table.identitySequences.map((sequence) => addressOf('pg_class', sequence)),
        ...generated.map((column) => addressOf('pg_attrdef', column.oid ?? 0)),
        ...inline.map((constraint) => addressOf('pg_constraint', constraint.oid)),
      ],
      part: address,
    },
    ...(isPartition && parent
      ? [
          {
            id: `partition ${table.id}`,
            kind: 'partition' as const,
            statements: [`alter table only ${parent.name} attach partition ${name} ${table.bound ?? ''}`],
            makes: [],
            needs: [address, addressOf('pg_class', parent.oid)],
            part: address,
          },
        ]
      : []),
    ...defaults.map(
      (column): Draft => ({
        id: `default ${table.id}.${column.name}`,
        kind: 'default',
        statements: [`alter table only ${name} alter column ${column.name} set default ${column.expression}`],
        makes: [addressOf('pg_attrdef', column.oid ?? 0)],
        needs: [address],
        part: address,
      }),
    ),
    ...notNulls
      .filter(({ local, validated }) => local && !validated)
      .map(
        (constraint): Draft => ({
          id: `unproven ${table.id} ${constraint.definition}`,
          kind: 'check',
          statements: [`alter table only ${name} add ${constraint.definition}`],
          makes: [addressOf('pg_constraint', constraint.oid)],
          needs: [address],
          part: address,
        }),
      ),
  ];
}

function columnText({ name, type, collation, generated, expression, identity, notNull }: ColumnRow): string {
  return [
    `${name} ${type}`,
    ...(collation === null ? [] : [`collate ${collation}`]),
    ...(generated === '' ? [] : [`generated always as (${expression}) ${generated === 'v' ? 'virtual' : 'stored'}`]),
    ...(identity === null ? [] : [identity]),
    ...(notNull ? ['not null'] : []),
  ].join(' ');
}

const tablesSql = `select c.oid, c.reltype as type, ${identityOf('pg_class', 'c.oid')} as id, format('%I.%I', n.nspname, c.relname) as name,
  c.relpersistence = 'u' as unlogged, c.relispartition as "isPartition", pg_catalog.pg_get_partkeydef(c.oid) as "partitionKey",
  pg_catalog.pg_get_expr(c.relpartbound, c.oid) as bound,
  coalesce((select json_agg(json_build_object('oid', i.inhparent::bigint, 'name', i.inhparent::regclass::text) order by i.inhseqno)
    from pg_catalog.pg_inherits i where i.inhrelid = c.oid), '[]') as parents,
  coalesce(c.reloptions, '{}') || array(select 'toast.' || o from pg_catalog.pg_class x, unnest(x.reloptions) o where x.oid = c.reltoastrelid) as options,
  case when m.amname <> 'heap' then quote_ident(m.amname) end as method,
  array(select d.objid from pg_catalog.pg_depend d where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid
    and d.classid = 'pg_catalog.pg_class'::regclass and d.deptype = 'i' and d.refobjsubid > 0) as "identitySequences"
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace left join pg_catalog.pg_am m on m.oid = c.relam
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`;

const sequenceOptions = `format('as %s increment by %s minvalue %s maxvalue %s start with %s cache %s%s', pg_catalog.format_type(s.seqtypid, null), s.seqincrement,
    s.seqmin, s.seqmax, s.seqstart, s.seqcache, case when s.seqcycle then ' cycle' else '' end)`;

/** Storage and compression that are the type's own are left out; so is `pg_attver`, which PostgreSQL 15.20 keeps among the options of every column. */
function columnsSql(serverVersion: number): string {
  const keepsNotNull = serverVersion >= 180_000;
  // Since 17 the identity of a partition is its parent's.
  const ownIdentity = serverVersion >= 170_000 ? "a.attidentity <> '' and not c.relispartition" : "a.attidentity <> ''";
  return `select a.attrelid as relation, d.oid, quote_ident(a.attname) as name, a.attname as plain, pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
  case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end as collation,
  ${keepsNotNull ? 'false' : 'a.attnotnull'} as "notNull", pg_catalog.pg_get_expr(d.adbin, d.adrelid) as expression, a.attgenerated as generated,
  case when ${ownIdentity} then (
    select format('generated %s as identity (sequence name %I.%I %s)', case a.attidentity when 'a' then 'always' else 'by default' end, sn.nspname, sc.relname,
      -- The type follows the column's.
      substr(${sequenceOptions}, position('increment' in ${sequenceOptions})))
    from pg_catalog.pg_depend e join pg_catalog.pg_sequence s on s.seqrelid = e.objid join pg_catalog.pg_class sc on sc.oid = s.seqrelid
    join pg_catalog.pg_namespace sn on sn.oid = sc.relnamespace
    where e.classid = 'pg_catalog.pg_class'::regclass and e.refclassid = 'pg_catalog.pg_class'::regclass and e.refobjid = a.attrelid
      and e.refobjsubid = a.attnum and e.deptype = 'i') end as identity,
  a.attislocal as local,
  array_remove(array[
    case when a.attstorage <> t.typstorage then 'set storage ' || case a.attstorage when 'p' then 'plain' when 'e' then 'external' when 'x' then 'extended' else 'main' end end,
    case a.attcompression when 'p' then 'set compression pglz' when 'l' then 'set compression lz4' end,
    case when a.attstattarget >= 0 then 'set statistics ' || a.attstattarget end,
    (select 'set (' || string_agg(o, ', ' order by o) || ')' from unnest(a.attoptions) o where o not like 'pg_attver=%')], null) as settings
from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_type t on t.oid = a.atttypid left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped and ${isOurs('n')}
order by a.attrelid, a.attnum`;
}

/** Since 18 a NOT NULL has a name and may be unproven. */
const notNullsSql = `select k.oid, k.conrelid as relation, format('constraint %I %s', k.conname, pg_catalog.pg_get_constraintdef(k.oid)) as definition,
  k.conislocal as local, k.convalidated as validated
from pg_catalog.pg_constraint k join pg_catalog.pg_namespace n on n.oid = k.connamespace where k.contype = 'n' and k.conrelid <> 0 and ${isOurs('n')}
order by k.conrelid, k.conkey, k.conname`;

async function viewDefaults(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; relation: number; id: string; view: string; column: string; expression: string }>(
    `select d.oid, c.oid as relation, ${identityOf('pg_class', 'c.oid')} as id, c.oid::regclass::text as view, quote_ident(a.attname) as column,
  pg_catalog.pg_get_expr(d.adbin, d.adrelid) as expression
from pg_catalog.pg_attrdef d join pg_catalog.pg_class c on c.oid = d.adrelid join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = d.adnum
join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind = 'v' and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`,
  );
  return found.map(({ oid, relation, id, view, column, expression }) => ({
    id: `default ${id}.${column}`,
    // Of the kind of what it belongs to, so that it waits for it.
    kind: 'view',
    statements: [`alter view ${view} alter column ${column} set default ${expression}`],
    makes: [addressOf('pg_attrdef', oid)],
    needs: [addressOf('pg_class', relation)],
  }));
}

async function sequences(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; name: string; unlogged: boolean; options: string; owner: number | null; column: string | null }>(
    `select c.oid, ${identityOf('pg_class', 'c.oid')} as id, format('%I.%I', n.nspname, c.relname) as name, c.relpersistence = 'u' as unlogged,
  ${sequenceOptions} as options, o.refobjid as owner, o.refobjid::regclass || '.' || quote_ident(a.attname) as column
from pg_catalog.pg_class c join pg_catalog.pg_sequence s on s.seqrelid = c.oid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_depend o on o.classid = 'pg_catalog.pg_class'::regclass and o.objid = c.oid and o.refclassid = 'pg_catalog.pg_class'::regclass
  and o.refobjsubid > 0 and o.deptype in ('a', 'i')
left join pg_catalog.pg_attribute a on a.attrelid = o.refobjid and a.attnum = o.refobjsubid
where c.relpersistence <> 't' and o.deptype is distinct from 'i' and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`,
  );
  return found.flatMap(({ oid, id, name, unlogged, options, owner, column }): Draft[] => {
    const address = addressOf('pg_class', oid);
    const table = owner === null ? {} : { part: addressOf('pg_class', owner) };
    return [
      { id, kind: 'sequence', statements: [`create ${unlogged ? 'unlogged ' : ''}sequence ${name} ${options}`], makes: [address], ...table },
      ...(owner === null
        ? []
        : [
            {
              id: `owner of ${id}`,
              kind: 'sequence owner' as const,
              statements: [`alter sequence ${name} owned by ${column}`],
              makes: [],
              needs: [address, addressOf('pg_class', owner)],
              ...table,
            },
          ]),
    ];
  });
}

async function notCarried(rows: Rows): Promise<string[]> {
  const found = await rows<{ line: string }>(
    `select format('%s is in tablespace %s, and is made in the default one', ${identityOf('pg_class', 'c.oid')}, t.spcname) as line
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace join pg_catalog.pg_tablespace t on t.oid = c.reltablespace
where ${isOurs('n')}
union all select format('%s is of type %s, and is made as a table of its own', ${identityOf('pg_class', 'c.oid')}, c.reloftype::regtype)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.reloftype <> 0 and ${isOurs('n')} order by 1`,
  );
  return found.map(({ line }) => line);
}
