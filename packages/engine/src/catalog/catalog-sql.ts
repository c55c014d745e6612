/**
 * The catalog queries, one per kind of object, each returning rows shaped like the types in catalog.ts. They join nothing that
 * a thousand tables would make slow: the largest reads pg_attribute once. Partywall's own schema and temporary objects are left
 * out; ACLs are expanded with their defaults, because an absent ACL on a function means EXECUTE for everyone.
 */

/** Partywall's own schemas are no part of what is walled: the runtime's is read apart, the control plane's are closed to the application. */
const userSchema =
  "n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'partywall', 'partywall_control', 'partywall_people') and n.nspname !~ '^pg_(temp|toast_temp)_'";

/** Expands an ACL expression to a JSON list of grants, leaving out the owner's own. */
function grants(acl: string, owner: string): string {
  return `coalesce((select json_agg(json_build_object('grantee', coalesce(r.rolname, 'public'), 'privilege', lower(a.privilege_type), 'grantable', a.is_grantable)
      order by coalesce(r.rolname, 'public'), a.privilege_type)
    from pg_catalog.aclexplode(${acl}) a left join pg_catalog.pg_roles r on r.oid = a.grantee
    where a.grantee <> ${owner}), '[]'::json)`;
}

function extensionOf(catalog: string, oid: string): string {
  return `(select e.extname from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
    where d.classid = 'pg_catalog.${catalog}'::regclass and d.objid = ${oid} and d.objsubid = 0 and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e')`;
}

function columnNames(numbers: string, relation: string): string {
  return `coalesce((select json_agg(col.attname order by u.position)
    from unnest(${numbers}) with ordinality u(number, position)
    left join pg_catalog.pg_attribute col on col.attrelid = ${relation} and col.attnum = u.number and u.number <> 0), '[]'::json)`;
}

const enabled = (column: string) => `case ${column} when 'O' then 'origin' when 'D' then 'disabled' when 'R' then 'replica' else 'always' end`;

export const databaseSql = `select current_database() as database, current_setting('server_version_num')::int as "serverVersion", current_user::text as "currentUser",
  (select count(*)::int from pg_catalog.pg_largeobject_metadata o
    where o.lomowner is distinct from (select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'partywall_control')) as "largeObjects",
  (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
    or has_parameter_privilege(coalesce((select pg_get_userbyid(n.nspowner) from pg_catalog.pg_namespace n where n.nspname = 'partywall'), current_user),
      'backtrace_functions', 'set') as "protectsContext",
  (select ${grants("coalesce(d.datacl, acldefault('d', d.datdba))", 'd.datdba')} from pg_catalog.pg_database d where d.datname = current_database()) as "databaseGrants"`;

export const relationsSql = `select c.oid::int8::text::float8 as oid, n.nspname as schema, c.relname as name,
  case c.relkind when 'r' then 'table' when 'p' then 'partitioned' when 'v' then 'view' when 'm' then 'matview' else 'foreign' end as kind,
  pg_get_userbyid(c.relowner)::text as owner, c.relpersistence = 'u' as unlogged, ${extensionOf('pg_class', 'c.oid')} as extension,
  c.relrowsecurity as rls, c.relforcerowsecurity as "rlsForced", coalesce(to_json(c.reloptions), '[]'::json) as options,
  coalesce((select json_agg(json_build_array(pn.nspname, p.relname) order by i.inhseqno) from pg_catalog.pg_inherits i join pg_catalog.pg_class p on p.oid = i.inhparent
    join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace where i.inhrelid = c.oid), '[]'::json) as parents,
  c.relispartition as "isPartition", pg_get_expr(c.relpartbound, c.oid) as "partitionBound",
  coalesce((select ${columnNames('pt.partattrs::int2[]', 'c.oid')} from pg_catalog.pg_partitioned_table pt where pt.partrelid = c.oid), '[]'::json) as "partitionKey",
  c.reltuples::float8 as "estimatedRows", c.relpages as pages, obj_description(c.oid, 'pg_class') as comment,
  ${grants("coalesce(c.relacl, acldefault('r', c.relowner))", 'c.relowner')} as grants,
  coalesce((select json_agg(json_build_object('name', r.rulename, 'definition', pg_get_ruledef(r.oid)) order by r.rulename)
    from pg_catalog.pg_rewrite r where r.ev_class = c.oid and r.rulename <> '_RETURN'), '[]'::json) as rules,
  case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end as definition,
  case when c.relkind in ('v', 'm') then coalesce((select json_agg(distinct jsonb_build_array(sn.nspname, s.relname))
    from pg_catalog.pg_rewrite r join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_catalog.pg_class'::regclass
    join pg_catalog.pg_class s on s.oid = d.refobjid and s.oid <> c.oid and s.relkind in ('r', 'p', 'v', 'm', 'f') join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace
    where r.ev_class = c.oid), '[]'::json) else '[]'::json end as reads
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' and ${userSchema}
order by n.nspname, c.relname`;

/** From PostgreSQL 18 a column can carry a NOT NULL that is not validated yet: its rows may still hold nulls. */
export const columnsSql = (
  serverVersion: number,
) => `select a.attrelid::int8::text::float8 as relation, a.attnum as number, a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
  a.attnotnull${
    serverVersion >= 180_000
      ? " and not exists (select from pg_catalog.pg_constraint k where k.conrelid = a.attrelid and k.contype = 'n' and not k.convalidated and k.conkey = array[a.attnum])"
      : ''
  } as "notNull", case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end as default,
  a.attidentity <> '' as identity, a.attgenerated <> '' as generated, a.attislocal as local,
  case when a.attacl is null then '[]'::json else ${grants('a.attacl', 'c.relowner')} end as grants
from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' and ${userSchema}
order by a.attrelid, a.attnum`;

const action = (column: string) =>
  `case ${column} when 'r' then 'restrict' when 'c' then 'cascade' when 'n' then 'set null' when 'd' then 'set default' else 'no action' end`;

export const constraintsSql = (
  serverVersion: number,
) => `select k.conrelid::int8::text::float8 as relation, k.oid::int8::text::float8 as oid, k.conname as name,
  case k.contype when 'p' then 'primary' when 'u' then 'unique' when 'f' then 'foreign' when 'c' then 'check' when 'x' then 'exclude' when 'n' then 'not null' else 'trigger' end as kind,
  ${columnNames('k.conkey', 'k.conrelid')} as columns, k.convalidated as validated, ${serverVersion >= 180_000 ? 'k.conenforced' : 'true'} as enforced,
  k.condeferrable as deferrable, k.condeferred as deferred, k.conparentid <> 0 or (k.coninhcount > 0 and not k.conislocal) as inherited,
  pg_get_constraintdef(k.oid) as definition, (select i.relname from pg_catalog.pg_class i where i.oid = k.conindid and k.contype in ('p', 'u', 'x')) as index,
  case when k.contype = 'f' then json_build_object('table', json_build_array(fn.nspname, f.relname), 'columns', ${columnNames('k.confkey', 'k.confrelid')},
    'onDelete', ${action('k.confdeltype')}, 'onUpdate', ${action('k.confupdtype')}, 'setColumns', ${columnNames('k.confdelsetcols', 'k.conrelid')},
    'match', case k.confmatchtype when 'f' then 'full' when 'p' then 'partial' else 'simple' end) end as foreign
from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_class f on f.oid = k.confrelid left join pg_catalog.pg_namespace fn on fn.oid = f.relnamespace
where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' and ${userSchema}
  and not (k.contype = 'f' and k.conparentid <> 0 and exists (select from pg_catalog.pg_constraint p where p.oid = k.conparentid and p.conrelid = k.conrelid))
order by k.conrelid, k.conname`;

export const indexesSql = `select x.indrelid::int8::text::float8 as relation, i.relname as name,
  coalesce((select json_agg(case when k.number = 0 then null else a.attname end order by k.position) from unnest(x.indkey::int2[]) with ordinality k(number, position)
    left join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.number and k.number <> 0 where k.position <= x.indnkeyatts), '[]'::json) as columns,
  x.indisunique as unique, x.indisprimary as primary, x.indisvalid and x.indisready and x.indislive as valid, x.indnullsnotdistinct as "nullsNotDistinct",
  pg_get_expr(x.indpred, x.indrelid) as predicate, m.amname as method, pg_get_indexdef(x.indexrelid) as definition,
  (select k.conname from pg_catalog.pg_constraint k where k.conindid = x.indexrelid and k.conrelid = x.indrelid and k.contype in ('p', 'u', 'x')) as constraint,
  (select p.relname from pg_catalog.pg_inherits h join pg_catalog.pg_class p on p.oid = h.inhparent where h.inhrelid = x.indexrelid) as "attachedTo"
from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_am m on m.oid = i.relam
join pg_catalog.pg_class c on c.oid = x.indrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relpersistence <> 't' and ${userSchema} order by x.indrelid, i.relname`;

export const policiesSql = `select p.polrelid::int8::text::float8 as relation, p.polname as name, p.polpermissive as permissive,
  case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end as command,
  case when p.polroles = '{0}' then '["public"]'::json else (select json_agg(r.rolname order by r.rolname) from pg_catalog.pg_roles r where r.oid = any (p.polroles)) end as roles,
  pg_get_expr(p.polqual, p.polrelid) as using, pg_get_expr(p.polwithcheck, p.polrelid) as check
from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where ${userSchema} order by p.polrelid, p.polname`;

export const triggersSql = `select t.tgrelid::int8::text::float8 as relation, t.tgname as name, fn.nspname || '.' || f.proname as function,
  ${enabled('t.tgenabled')} as enabled, pg_get_triggerdef(t.oid) as definition
from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_proc f on f.oid = t.tgfoid join pg_catalog.pg_namespace fn on fn.oid = f.pronamespace
where not t.tgisinternal and ${userSchema} order by t.tgrelid, t.tgname`;

const functionColumns = `p.oid::int8::text::float8 as oid, n.nspname as schema, p.proname as name, pg_get_function_identity_arguments(p.oid) as arguments,
  case p.prokind when 'f' then 'function' when 'p' then 'procedure' when 'a' then 'aggregate' else 'window' end as kind,
  pg_get_userbyid(p.proowner)::text as owner, l.lanname as language, p.prosecdef as "securityDefiner",
  case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end as volatility,
  case p.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end as parallel, p.proleakproof as leakproof,
  coalesce(to_json(p.proconfig), '[]'::json) as settings, ${extensionOf('pg_proc', 'p.oid')} as extension,
  p.prorettype in ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype) as "returnsTrigger",
  case when p.prosqlbody is null then p.prosrc else pg_get_function_sqlbody(p.oid) end as source,
  ${grants("coalesce(p.proacl, acldefault('f', p.proowner))", 'p.proowner')} as grants`;

const functionTables = 'from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace join pg_catalog.pg_language l on l.oid = p.prolang';

export const functionsSql = `select ${functionColumns} ${functionTables} where ${userSchema} order by n.nspname, p.proname, p.oid`;

export const runtimeFunctionsSql = `select ${functionColumns}, oidvectortypes(p.proargtypes) as types, pg_get_function_arguments(p.oid) as declared,
  pg_get_function_result(p.oid) as result, p.proisstrict as strict
${functionTables} where n.nspname = 'partywall' order by p.proname, p.oid`;

const relationAcl = `coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
    || array(select unnest(a.attacl) from pg_catalog.pg_attribute a where a.attrelid = c.oid and not a.attisdropped)`;

export const runtimeRelationsSql = `select c.relname as name, pg_get_userbyid(c.relowner)::text as owner,
  case c.relkind when 'r' then 'table' when 'p' then 'partitioned' when 'v' then 'view' when 'm' then 'matview' when 'S' then 'sequence' else 'foreign' end as kind,
  ${grants(relationAcl, 'c.relowner')} as grants, c.relrowsecurity or c.relforcerowsecurity as rls,
  coalesce((select json_agg(r.rulename order by r.rulename) from pg_catalog.pg_rewrite r where r.ev_class = c.oid and r.rulename <> '_RETURN'), '[]'::json) as rules,
  coalesce((select json_agg(json_build_object('name', t.tgname, 'function', fn.nspname || '.' || f.proname, 'enabled', ${enabled('t.tgenabled')},
      'definition', pg_get_triggerdef(t.oid)) order by t.tgname)
    from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid join pg_catalog.pg_namespace fn on fn.oid = f.pronamespace
    where t.tgrelid = c.oid and not t.tgisinternal), '[]'::json) as triggers,
  coalesce((select json_agg(i.inhrelid::regclass::text) from pg_catalog.pg_inherits i where i.inhparent = c.oid), '[]'::json) as children,
  coalesce((select json_agg(i.inhparent::regclass::text) from pg_catalog.pg_inherits i where i.inhrelid = c.oid), '[]'::json) as parents
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'partywall' and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') order by c.relname`;

/** By names in the catalogs and not by `to_regclass`, which fails for a role without USAGE on the schema. */
export const runtimeStateSql = `select pg_get_userbyid(n.nspowner)::text as owner,
  (select format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = n.oid and c.relname = 'registry' and a.attname = 'tenant_id') as "keyType",
  coalesce((select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') from pg_catalog.pg_class c
    where c.relnamespace = n.oid and c.relname = 'facts'), false) as "factsReadable"
from pg_catalog.pg_namespace n where n.nspname = 'partywall'`;

export const runtimeFactsSql = `select coalesce(jsonb_object_agg(name, value), '{}'::jsonb) as facts from partywall.facts`;

export const sequencesSql = `select n.nspname as schema, c.relname as name, pg_get_userbyid(c.relowner)::text as owner,
  (select json_build_object('table', json_build_array(tn.nspname, t.relname), 'column', a.attname) from pg_catalog.pg_depend d join pg_catalog.pg_class t on t.oid = d.refobjid
    join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
    where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i') limit 1) as "ownedBy",
  ${grants("coalesce(c.relacl, acldefault('s', c.relowner))", 'c.relowner')} as grants
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and c.relpersistence <> 't' and ${userSchema} order by n.nspname, c.relname`;

/** Before PostgreSQL 16 a membership always allows SET ROLE, and inheriting is the member's own attribute. */
export const rolesSql = (
  serverVersion: number,
) => `select r.rolname as name, r.rolsuper as superuser, r.rolbypassrls as "bypassRls", r.rolcanlogin as login, r.rolinherit as inherit,
  r.rolcreaterole as "createRole", r.rolcreatedb as "createDatabase", r.rolreplication as replication,
  coalesce((select json_agg(json_build_object('role', g.rolname, 'admin', m.admin_option,
      'inherit', ${serverVersion >= 160_000 ? 'm.inherit_option' : 'r.rolinherit'}, 'set', ${serverVersion >= 160_000 ? 'm.set_option' : 'true'}) order by g.rolname)
    from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid), '[]'::json) as "memberOf"
from pg_catalog.pg_roles r order by r.rolname`;

export const schemasSql = `select n.nspname as name, pg_get_userbyid(n.nspowner)::text as owner, ${grants("coalesce(n.nspacl, acldefault('n', n.nspowner))", 'n.nspowner')} as grants
from pg_catalog.pg_namespace n where ${userSchema} order by n.nspname`;

export const enumsSql = `select format_type(t.oid, null) as name, (select json_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid) as labels
from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace where t.typtype = 'e' and ${userSchema} order by 1`;

export const defaultPrivilegesSql = `select pg_get_userbyid(d.defaclrole)::text as role, n.nspname as schema,
  case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' when 'n' then 'schemas' else 'large objects' end as objects,
  ${grants('d.defaclacl', 'd.defaclrole')} as grants
from pg_catalog.pg_default_acl d left join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace order by 1, 2 nulls first, 3`;

export const serverObjectsSql = `select
  coalesce((select json_agg(json_build_object('name', e.evtname, 'event', e.evtevent, 'function', n.nspname || '.' || p.proname, 'enabled', ${enabled('e.evtenabled')},
      'tags', coalesce(to_json(e.evttags), '[]'::json)) order by e.evtname)
    from pg_catalog.pg_event_trigger e join pg_catalog.pg_proc p on p.oid = e.evtfoid join pg_catalog.pg_namespace n on n.oid = p.pronamespace), '[]'::json) as "eventTriggers",
  coalesce((select json_agg(json_build_object('name', e.extname, 'schema', n.nspname, 'version', e.extversion) order by e.extname)
    from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace), '[]'::json) as extensions,
  coalesce((select json_agg(json_build_object('name', s.srvname, 'wrapper', w.fdwname, 'grants', ${grants("coalesce(s.srvacl, acldefault('S', s.srvowner))", 's.srvowner')}) order by s.srvname)
    from pg_catalog.pg_foreign_server s join pg_catalog.pg_foreign_data_wrapper w on w.oid = s.srvfdw), '[]'::json) as "foreignServers",
  coalesce((select json_agg(json_build_object('name', l.lanname, 'trusted', l.lanpltrusted, 'grants', ${grants("coalesce(l.lanacl, acldefault('l', l.lanowner))", 'l.lanowner')}) order by l.lanname)
    from pg_catalog.pg_language l where l.lanname not in ('internal', 'c', 'sql')), '[]'::json) as languages,
  coalesce((select json_agg(json_build_object('role', coalesce(r.rolname, ''), 'database', coalesce(b.datname, ''), 'name', split_part(c, '=', 1), 'value', substr(c, strpos(c, '=') + 1)))
    from pg_catalog.pg_db_role_setting s cross join unnest(s.setconfig) c left join pg_catalog.pg_roles r on r.oid = s.setrole left join pg_catalog.pg_database b on b.oid = s.setdatabase
    where s.setdatabase = 0 or b.datname = current_database()), '[]'::json) as settings,
  coalesce((select json_agg(json_build_object('name', p.pubname, 'allTables', p.puballtables, 'tables',
      coalesce((select json_agg(json_build_array(t.schemaname, t.tablename)) from pg_catalog.pg_publication_tables t where t.pubname = p.pubname), '[]'::json)) order by p.pubname)
    from pg_catalog.pg_publication p), '[]'::json) as publications`;
