import { isOurs, type Rows } from './draft.ts';
import type { SchemaRole } from './schema-document.ts';

/** Roles that the schema names, and those that they are members of. Passwords are nobody's business. */
export function readRoles(rows: Rows): Promise<SchemaRole[]> {
  return rows<SchemaRole>(`with recursive named as (
  select d.refobjid as oid from pg_catalog.pg_shdepend d
  where d.refclassid = 'pg_catalog.pg_authid'::regclass and d.dbid = (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database())
  -- The role that initdb made is in no dependency.
  union select c.relowner from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where ${isOurs('n')}
  union select p.proowner from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where ${isOurs('n')}
  union select n.nspowner from pg_catalog.pg_namespace n where ${isOurs('n')}
  union select s.setrole from pg_catalog.pg_db_role_setting s
  where s.setdatabase = (select b.oid from pg_catalog.pg_database b where b.datname = pg_catalog.current_database())
  union select m.roleid from named d join pg_catalog.pg_auth_members m on m.member = d.oid
)
select r.rolname as name, r.rolcanlogin as login, r.rolsuper or r.rolbypassrls as unbound, r.rolsuper as superuser,
  array(select pg_catalog.pg_get_userbyid(m.roleid)::text from pg_catalog.pg_auth_members m where m.member = r.oid order by 1) as "memberOf"
from named d join pg_catalog.pg_roles r on r.oid = d.oid where r.rolname !~ '^pg_' order by r.rolname`);
}
