import { createHash } from 'node:crypto';
import type pg from 'pg';
import { dollarQuote, ident, identList, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import { nameBytesMax } from '../../wall/names.ts';
import type { TransferTable } from './tables.ts';

/**
 * Statements that change a tenant's rows run as a role that the policies bind to that tenant: whatever is in an export or a backup, no statement
 * reaches a row of another. The role cannot log in, nobody is a member of it and nobody can become it: it owns one function, and the service role
 * may call that. Checks and proofs ask as the service role, which sees everything.
 */
const roleSuffix = '_restorer';
const boundName = 'partywall_control.run_bound';
export const boundSignature = `${boundName}(text, text, text)`;

/** The role that policies bind while a tenant is restored: `<service>_restorer`. */
export function restorerRole({ roles: { service } }: TenancyModel): string {
  const name = `${service}${roleSuffix}`;
  if (Buffer.byteLength(name) <= nameBytesMax) return name;
  // PostgreSQL would cut the end off, and two services could come to share a role.
  const hash = createHash('sha256').update(service).digest('hex').slice(0, 16);
  return `partywall_${hash}${roleSuffix}`;
}

/** Statements of the owner of the control plane, in order; the function is given to its role by `giveBoundSql`. */
export function boundSql(model: TenancyModel): string[] {
  const role = ident(restorerRole(model));
  return [
    // Whoever owns the schema may drop what another role owns in it, and may not replace it.
    `drop function if exists ${boundSignature}`,
    `create function ${boundName}(tenant text, statement text, path text default '') returns bigint language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set row_security = on as ${dollarQuote(boundBody)}`,
    `grant usage on schema partywall to ${role}`,
    `grant execute on function partywall.tenant_id(), partywall.unit_id(), partywall.no_context() to ${role}`,
    // The context is the owner's to set. As that role runs this one function alone, nobody else comes by these.
    `do ${dollarQuote(`begin
  execute pg_catalog.format('grant execute on function partywall.set_context(text), partywall.context_of(%s) to ${role.replaceAll('%', '%%')}',
    (select pg_catalog.format_type(a.atttypid, null) from pg_catalog.pg_attribute a where a.attrelid = 'partywall.registry'::pg_catalog.regclass and a.attname = 'tenant_id'));
end`)}`,
    `grant create on schema partywall_control to ${role}`,
  ];
}

/** Undoes what giving the function away took. */
export function closeBoundSql(model: TenancyModel): string {
  return `revoke create on schema partywall_control from ${ident(restorerRole(model))}`;
}

/**
 * The path is the application's, so that its triggers find what they name without a schema; it and the context end with the call. $1 is the tenant, of
 * the type of its key.
 */
const boundBody = `declare
  wanted partywall.registry.tenant_id%type := tenant;
  changed bigint;
begin
  perform partywall.set_context(partywall.context_of(wanted));
  perform pg_catalog.set_config('search_path', path, true);
  execute statement using wanted;
  get diagnostics changed = row_count;
  perform partywall.set_context('');
  return changed;
end`;

/**
 * What the role may do: rows of the root and of scoped tables, and beside them what the application's own role may, because the application's
 * triggers run with its rights. As whoever may grant on the application's tables.
 */
export function restorerGrantsSql(model: TenancyModel): string {
  const role = restorerRole(model);
  const scoped = [model.tenant.table, ...[...model.tables].flatMap(([table, rule]) => (rule.scope === 'scoped' ? [table] : []))];
  const name = ident(role);
  return `do ${dollarQuote(`declare
  one record;
begin
  for one in select pg_catalog.to_regclass(t) as relation from pg_catalog.unnest(array[${scoped.map((table) => literal(quoted(table))).join(', ')}]) t
    where pg_catalog.to_regclass(t) is not null
  loop
    execute pg_catalog.format('grant select, insert, update, delete on %s to ${name}', one.relation);
  end loop;
  for one in
    select c.oid::pg_catalog.regclass as relation, c.relkind = 'S' as sequence, a.privilege_type as privilege
    from pg_catalog.pg_class c cross join lateral pg_catalog.aclexplode(c.relacl) a
    where c.relnamespace::pg_catalog.regnamespace::text = any (array[${model.schemas.map((schema) => `pg_catalog.quote_ident(${literal(schema)})`).join(', ')}])
      and a.grantee = pg_catalog.to_regrole(${literal(ident(model.roles.app))}) and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')
  loop
    execute pg_catalog.format('grant %s on %s %s to ${name}', one.privilege, case when one.sequence then 'sequence' else 'table' end, one.relation);
  end loop;
  for one in select s from pg_catalog.unnest(array[${model.schemas.map(literal).join(', ')}]) s where pg_catalog.to_regnamespace(pg_catalog.quote_ident(s)) is not null
  loop
    execute pg_catalog.format('grant usage on schema %I to ${name}', one.s);
  end loop;
end`)}`;
}

/** Runs one statement as the role that is bound to the tenant, $1 being the tenant; returns how many rows it changed. */
export type RunBound = (statement: string) => Promise<number>;

export function boundTo(client: pg.ClientBase, model: TenancyModel, tenant: string): RunBound {
  const path = `${identList(model.schemas)}, pg_temp`;
  return async (statement) => {
    const { rows } = await client.query<{ changed: string }>(`select ${boundName}($1, $2, $3) as changed`, [tenant, statement, path]);
    return Number(rows[0]?.changed ?? 0);
  };
}

/** Lets the bound role read temporary tables. */
export async function openStages(client: pg.ClientBase, model: TenancyModel, stages: readonly string[]): Promise<void> {
  if (stages.length > 0) await client.query(`grant select on ${stages.join(', ')} to ${ident(restorerRole(model))}`);
}

/**
 * Refuses to begin where the role is missing or may not write a table: both are as the last `partywall migrate` left them.
 *
 * @throws PartywallError control_missing
 */
export async function assertBound(client: pg.ClientBase, model: TenancyModel, tables: readonly Pick<TransferTable, 'relation'>[]): Promise<void> {
  const role = restorerRole(model);
  const { rows } = await client.query<{ there: boolean; closed: TableName[] }>(
    `select to_regprocedure('${boundSignature}') is not null and to_regrole($1) is not null as there,
array(select t from unnest($2::text[]) t where to_regrole($1) is not null and not (
  has_table_privilege(to_regrole($1)::oid, t::regclass, 'select') and has_table_privilege(to_regrole($1)::oid, t::regclass, 'insert')
  and has_table_privilege(to_regrole($1)::oid, t::regclass, 'update') and has_table_privilege(to_regrole($1)::oid, t::regclass, 'delete'))) as closed`,
    [ident(role), tables.map(({ relation }) => quoted(relation.table))],
  );
  const { there = false, closed = [] } = rows[0] ?? {};
  if (!there) throw new PartywallError('control_missing', `looking for role ${role}, which restores run as: it is not there`);
  if (closed.length > 0) throw new PartywallError('control_missing', `asking what role ${role} may write: not ${closed[0]}`, { details: closed });
}
