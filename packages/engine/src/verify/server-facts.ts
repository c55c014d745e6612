import type pg from 'pg';
import type { Grant } from '../catalog/catalog.ts';
import type { TableName } from '../model/table-name.ts';
import { tableName } from '../model/table-name.ts';

/** What the static rules need beside the catalog value: rights on parameters and on schema `partywall`, silent constraint triggers. */
export interface ServerFacts {
  /** `grant set on parameter ...`; a parameter without grants is not listed. */
  readonly parameters: readonly { readonly name: string; readonly grants: readonly Grant[] }[];
  readonly runtimeSchemaGrants: readonly Grant[];
  /** Constraints whose own triggers are disabled (`alter table ... disable trigger all`). */
  readonly silentConstraints: readonly { readonly table: TableName; readonly constraint: string }[];
  /** Whether the application's role may make large objects. */
  readonly largeObjectsOpen: boolean;
  /** Whether it may make temporary objects. */
  readonly temporaryOpen: boolean;
}

const grants = (acl: string, owner: string): string =>
  `coalesce((select json_agg(json_build_object('grantee', coalesce(r.rolname, 'public'), 'privilege', lower(a.privilege_type), 'grantable', a.is_grantable))
    from pg_catalog.aclexplode(${acl}) a left join pg_catalog.pg_roles r on r.oid = a.grantee where a.grantee <> ${owner}), '[]'::json)`;

const serverFactsSql = `select
  coalesce((select json_agg(json_build_object('name', p.parname, 'grants', ${grants('p.paracl', '10')})) from pg_catalog.pg_parameter_acl p), '[]'::json) as parameters,
  coalesce((select ${grants("coalesce(n.nspacl, acldefault('n', n.nspowner))", 'n.nspowner')} from pg_catalog.pg_namespace n where n.nspname = 'partywall'), '[]'::json)
    as "runtimeSchemaGrants",
  coalesce((select json_agg(distinct jsonb_build_array(n.nspname, c.relname, k.conname))
    from pg_catalog.pg_trigger t join pg_catalog.pg_constraint k on k.oid = t.tgconstraint join pg_catalog.pg_class c on c.oid = k.conrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where t.tgisinternal and t.tgenabled in ('D', 'R')), '[]'::json) as "silentConstraints",
  coalesce((select bool_or(has_function_privilege(r.oid, f.oid, 'execute')) from pg_catalog.pg_roles r
    cross join pg_catalog.pg_proc f where r.rolname = $1 and f.pronamespace = 'pg_catalog'::regnamespace and f.proname in ('lo_creat', 'lo_create', 'lo_from_bytea')), false)
    as "largeObjectsOpen",
  coalesce((select has_database_privilege(r.oid, current_database(), 'temp') from pg_catalog.pg_roles r where r.rolname = $1), false) as "temporaryOpen"`;

type Row = Omit<ServerFacts, 'silentConstraints'> & { silentConstraints: [schema: string, table: string, constraint: string][] };

export async function readServerFacts(client: pg.ClientBase, appRole: string): Promise<ServerFacts> {
  const { rows } = await client.query<Row>(serverFactsSql, [appRole]);
  const [row] = rows;
  if (!row) throw new Error('reading what verify needs of the server: a query that returns one row returned none');
  return {
    ...row,
    silentConstraints: row.silentConstraints.map(([schema, table, constraint]) => ({ table: tableName(schema, table), constraint })),
  };
}
