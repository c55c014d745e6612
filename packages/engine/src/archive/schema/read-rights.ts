import { ident, literal } from '../../db/sql.ts';
import { addressOf, type Draft, isFree, isOurs, type Reading, type Rows } from './draft.ts';

/** Owners, privileges, comments and the privileges of what is made later. */
export async function readRights(rows: Rows): Promise<Reading> {
  const grants = Map.groupBy(await rows<GrantRow>(grantsSql), ({ catalog, oid }) => addressOf(catalog, oid));
  const comments = Map.groupBy(await rows<CommentRow>(commentsSql), ({ catalog, oid }) => addressOf(catalog, oid));
  const owned = await rows<OwnedRow>(ownedSql);
  const addresses = new Set(owned.map(({ catalog, oid }) => addressOf(catalog, oid)));
  const drafts = owned.map((object): Draft => {
    const address = addressOf(object.catalog, object.oid);
    return rights(object.id, address, [
      ...(object.follows || object.owner === null ? [] : [`alter ${object.type} ${object.identity} owner to ${ident(object.owner)}`]),
      ...(object.changed ? privileges(object, grants.get(address) ?? []) : []),
      ...(comments.get(address) ?? []).map(commentStatement),
    ]);
  });
  // Columns, constraints, triggers and the like have no owner, but may have a comment.
  const others = [...comments]
    .filter(([address]) => !addresses.has(address))
    .map(([address, list]) => rights(`comments ${list[0]?.id}`, address, list.map(commentStatement)));
  return { drafts: [...drafts, ...others, ...(await defaultPrivileges(rows))].filter(({ statements }) => statements.length > 0) };
}

function rights(id: string, address: string, statements: readonly string[]): Draft {
  return { id: `rights of ${id}`, kind: 'rights', statements, makes: [`rights ${address}`], needs: [address] };
}

interface OwnedRow {
  readonly catalog: string;
  readonly oid: number;
  readonly id: string;
  /** Words of ALTER for it, and of GRANT. */
  readonly type: string;
  readonly grantType: string;
  readonly identity: string;
  readonly owner: string | null;
  /** It has the owner of its table. */
  readonly follows: boolean;
  /** Its privileges are not those that its kind has at first. */
  readonly changed: boolean;
}

interface GrantRow {
  readonly catalog: string;
  readonly oid: number;
  readonly column: string | null;
  readonly grantor: string;
  readonly grantee: string;
  readonly privilege: string;
  readonly grantable: boolean;
}

interface CommentRow {
  readonly catalog: string;
  readonly oid: number;
  readonly id: string;
  readonly target: string;
  readonly text: string;
}

function commentStatement({ target, text }: CommentRow): string {
  return `comment on ${target} is ${literal(text)}`;
}

/** Takes what the kind of object has at first, and gives what is there. Who was given the right to give, gives. */
function privileges({ grantType, identity, owner }: OwnedRow, grants: readonly GrantRow[]): string[] {
  if (owner === null) return [];
  const on = `on ${grantType} ${identity}`;
  const ordered = byGrantor(owner, grants);
  const groups = Map.groupBy(ordered, ({ grantor, grantee, grantable, column }) => JSON.stringify([grantor, grantee, grantable, column]));
  const statements = [...groups.values()].flatMap((group) => {
    const [{ grantor, grantee, grantable, column }] = group as [GrantRow, ...GrantRow[]];
    const names = group.map(({ privilege }) => `${privilege.toLowerCase()}${column === null ? '' : ` (${column})`}`).join(', ');
    const grant = `grant ${names} ${on} to ${grantee === 'public' ? 'public' : ident(grantee)}${grantable ? ' with grant option' : ''}`;
    return grantor === owner ? [grant] : [`set role ${ident(grantor)}`, grant, 'reset role'];
  });
  return [`revoke all ${on} from public, ${ident(owner)}`, ...statements];
}

/** The owner's grants first, then those of whoever holds one by now. */
function byGrantor(owner: string, grants: readonly GrantRow[]): GrantRow[] {
  const holders = new Set([owner]);
  const ordered: GrantRow[] = [];
  let rest = grants;
  while (rest.length > 0) {
    const possible = rest.filter(({ grantor }) => holders.has(grantor));
    // What nobody could give is given last, and fails where it is tried.
    const next = possible.length > 0 ? possible : rest;
    ordered.push(...next);
    for (const { grantee, grantable } of next) if (grantable) holders.add(grantee);
    rest = rest.filter((grant) => !next.includes(grant));
  }
  return ordered;
}

/** Everything of ours that has an owner. A procedure, an aggregate and a function are all routines to GRANT. */
const objectsSql = `select 'pg_namespace' as catalog, n.oid, n.nspowner as owner, n.nspacl as acl, 'n' as kind, 'schema' as "grantType", false as follows
from pg_catalog.pg_namespace n where ${isOurs('n')} and ${isFree('pg_namespace', 'n.oid')}
union all select 'pg_class', c.oid, c.relowner, c.relacl, c.relkind::text, case c.relkind when 'S' then 'sequence' else 'table' end,
  c.relkind = 'S' and exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid
    and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i'))
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'S') and c.relpersistence <> 't' and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}
union all select 'pg_proc', p.oid, p.proowner, p.proacl, 'f', 'routine', false
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where ${isOurs('n')} and ${isFree('pg_proc', 'p.oid')}
  and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'i')
union all select 'pg_type', t.oid, t.typowner, t.typacl, 'T', 'type', false
from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace left join pg_catalog.pg_class c on c.oid = t.typrelid
where (t.typtype in ('e', 'd', 'r') or t.typtype = 'c' and c.relkind = 'c') and ${isOurs('n')} and ${isFree('pg_type', 't.oid')}
union all select 'pg_collation', c.oid, c.collowner, null, 'o', '', false
from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace where ${isOurs('n')} and ${isFree('pg_collation', 'c.oid')}
union all select 'pg_operator', o.oid, o.oprowner, null, 'o', '', false
from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
where o.oprcode <> 0 and ${isOurs('n')} and ${isFree('pg_operator', 'o.oid')}
union all select 'pg_statistic_ext', s.oid, s.stxowner, null, 'o', '', false
from pg_catalog.pg_statistic_ext s join pg_catalog.pg_namespace n on n.oid = s.stxnamespace where ${isOurs('n')}
union all select 'pg_ts_config', s.oid, s.cfgowner, null, 'o', '', false
from pg_catalog.pg_ts_config s join pg_catalog.pg_namespace n on n.oid = s.cfgnamespace where ${isOurs('n')} and ${isFree('pg_ts_config', 's.oid')}
union all select 'pg_ts_dict', s.oid, s.dictowner, null, 'o', '', false
from pg_catalog.pg_ts_dict s join pg_catalog.pg_namespace n on n.oid = s.dictnamespace where ${isOurs('n')} and ${isFree('pg_ts_dict', 's.oid')}
union all select 'pg_publication', p.oid, p.pubowner, null, 'o', '', false from pg_catalog.pg_publication p
union all select 'pg_event_trigger', e.oid, e.evtowner, null, 'o', '', false from pg_catalog.pg_event_trigger e where ${isFree('pg_event_trigger', 'e.oid')}`;

/** What ALTER and COMMENT call what the catalog calls otherwise. */
const words = `case i.type when 'composite type' then 'type' when 'statistics object' then 'statistics' else i.type end`;

const ownedSql = `select o.catalog, o.oid, i.type || ' ' || i.identity as id, ${words} as type, o."grantType", i.identity,
  pg_catalog.pg_get_userbyid(o.owner) as owner, o.follows,
  o.acl is not null or o.kind in ('r', 'p', 'v', 'm') and exists (select from pg_catalog.pg_attribute a where a.attrelid = o.oid and a.attacl is not null) as changed
from (${objectsSql}) o, pg_catalog.pg_identify_object(('pg_catalog.' || o.catalog)::regclass, o.oid, 0) i`;

const explained = `pg_catalog.pg_get_userbyid(g.grantor) as grantor, case when g.grantee = 0 then 'public' else pg_catalog.pg_get_userbyid(g.grantee) end as grantee,
  g.privilege_type as privilege, g.is_grantable as grantable`;

/** Privileges that are there; where none were ever given, those that a change of a column's alone leaves with the owner. */
const grantsSql = `select o.catalog, o.oid, null::text as column, ${explained}
from (${objectsSql}) o, pg_catalog.aclexplode(coalesce(o.acl, pg_catalog.acldefault((case o.kind when 'S' then 's' else 'r' end)::"char", o.owner))) g
where o.acl is not null or o.kind in ('r', 'p', 'v', 'm')
union all select 'pg_class', a.attrelid, quote_ident(a.attname), ${explained}
from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace,
  pg_catalog.aclexplode(a.attacl) g
where a.attacl is not null and not a.attisdropped and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}
order by 1, 2, 3 nulls first, 4, 5, 7, 6`;

const commentsSql = `select d.classoid::regclass::text as catalog, d.objoid as oid, i.type || ' ' || i.identity as id, d.description as text,
  case when i.type like '% column' then 'column ' || i.identity when i.type = 'table constraint' then 'constraint ' || i.identity
    when i.type = 'domain constraint' then (select format('constraint %I on domain %s', k.conname, k.contypid::regtype) from pg_catalog.pg_constraint k where k.oid = d.objoid)
    else ${words} || ' ' || i.identity end as target
from pg_catalog.pg_description d, pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) i
where d.objoid >= 16384 and d.classoid::regclass::text in ('pg_namespace', 'pg_class', 'pg_proc', 'pg_type', 'pg_constraint', 'pg_trigger', 'pg_policy', 'pg_rewrite',
  'pg_collation', 'pg_operator', 'pg_cast', 'pg_statistic_ext', 'pg_publication', 'pg_event_trigger', 'pg_ts_config', 'pg_ts_dict')
  and (i.schema is null or i.schema !~ '^pg_' and i.schema <> 'information_schema')
  and not exists (select from pg_catalog.pg_depend e where e.classid = d.classoid and e.objid = d.objoid and e.deptype in ('e'))
order by 1, 3`;

async function defaultPrivileges(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ role: string; schema: string | null; objects: string; grants: { grantee: string; privilege: string; grantable: boolean }[] }>(
    `select pg_catalog.pg_get_userbyid(d.defaclrole) as role, n.nspname as schema,
  case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'routines' when 'T' then 'types' when 'n' then 'schemas' else 'large objects' end as objects,
  coalesce((select json_agg(json_build_object('grantee', case when g.grantee = 0 then null else pg_catalog.pg_get_userbyid(g.grantee) end,
      'privilege', g.privilege_type, 'grantable', g.is_grantable) order by g.grantee = 0 desc, pg_catalog.pg_get_userbyid(g.grantee), g.privilege_type)
    from pg_catalog.aclexplode(d.defaclacl) g), '[]') as grants
from pg_catalog.pg_default_acl d left join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace`,
  );
  return found.map(({ role, schema, objects, grants }) => {
    const head = `alter default privileges for role ${ident(role)}${schema === null ? '' : ` in schema ${ident(schema)}`}`;
    return {
      id: `default privileges of ${role} on ${objects} in ${schema ?? 'every schema'}`,
      kind: 'default privileges',
      statements: [
        // In one schema they add to those of all; of all they replace what PostgreSQL gives.
        ...(schema === null ? [`${head} revoke all on ${objects} from public, ${ident(role)}`] : []),
        ...grants.map(
          ({ grantee, privilege, grantable }) =>
            `${head} grant ${privilege.toLowerCase()} on ${objects} to ${grantee === null ? 'public' : ident(grantee)}${grantable ? ' with grant option' : ''}`,
        ),
      ],
      makes: [],
    };
  });
}
