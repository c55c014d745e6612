import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { dollarQuote, ident, literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';

/**
 * What operators ask in SQL: `tenants`, `tenant_usage_metrics` and `audit_logs`, views in schema `partywall`. They read with the rights of their owner,
 * over all tenants, on purpose: nothing but the operator role of the model may select from them, and they show no row of the application.
 *
 * `id` and `tenant_id` are of the type of the tenant's key, so that they compare with it and with a literal alike.
 */
const views = ['tenants', 'tenant_usage_metrics', 'audit_logs'] as const;

/** Statements of the owner of the wall, repeatable. @param keyType of the tenant's key, as `format_type` prints it */
export function operatorViewsSql(model: TenancyModel, keyType: string): string[] {
  const { operator } = model.roles;
  const listed = views.map((view) => `partywall.${view}`).join(', ');
  return [
    // A view asks with the rights of whoever selects for the functions it calls, so this one looks for them.
    `create or replace function partywall_control.usage_of_all() returns table (tenant_id text, period_start timestamptz, api_calls bigint, active_users bigint,
  rows jsonb, storage_bytes bigint, error_rate double precision, avg_response_ms double precision, p95_response_ms double precision, connections bigint,
  measured_at timestamptz) language sql stable security definer rows 10000 set search_path = pg_catalog, pg_temp as ${dollarQuote(
    'select * from partywall_control.tenant_usage()',
  )}`,
    'revoke all on function partywall_control.usage_of_all() from public',
    // Serves audit_logs by tenant: the expression is the view's.
    `create index if not exists audit_records_key_idx on partywall_control.audit_records ((${auditKey(keyType)}), at)`,
    view('tenants', tenantsSql),
    view('tenant_usage_metrics', usageSql(model)),
    view('audit_logs', auditSql(keyType)),
    `revoke all on ${listed} from public`,
    ...(operator === undefined
      ? []
      : [
          `grant usage on schema partywall to ${ident(operator)}`,
          `grant select on ${listed} to ${ident(operator)}`,
          `grant execute on function partywall_control.usage_of_all() to ${ident(operator)}`,
        ]),
  ];
}

/**
 * Makes the operator role of the model, a login that can read the views and nothing else, and lets it find them by their plain names. Their schema comes
 * first: a table of the application with such a name (many have `tenants`) is closed to this role, and would be an error in the view's place.
 *
 * @param client as the role that installs, before it becomes the owner
 * @throws PartywallError permission_missing
 */
export async function makeOperator(client: pg.ClientBase, { roles: { operator } }: TenancyModel): Promise<void> {
  if (operator === undefined) return;
  const name = literal(operator);
  const statement = `do ${dollarQuote(`begin
  if not exists (select from pg_catalog.pg_roles where rolname = ${name}) then
    create role ${ident(operator)} login;
  end if;
  if not exists (select from pg_catalog.pg_db_role_setting s join pg_catalog.pg_roles r on r.oid = s.setrole join pg_catalog.pg_database d on d.oid = s.setdatabase
                 where r.rolname = ${name} and d.datname = pg_catalog.current_database() and 'search_path="$user", partywall, public' = any (s.setconfig)) then
    execute pg_catalog.format('alter role %I in database %I set search_path = "$user", partywall, public', ${name}, pg_catalog.current_database());
  end if;
end`)}`;
  try {
    await client.query(statement);
  } catch (cause) {
    if (sqlState(cause) !== '42501') throw cause;
    throw new PartywallError('permission_missing', `making the operator role ${operator}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
      hint: 'connect as a role with CREATEROLE, or make the role and its search_path by hand: docs/guide/audit.md',
    });
  }
}

/** Replaces the view; where its columns changed, which PostgreSQL refuses to replace, makes it anew. What others made to depend on it stops that. */
function view(name: (typeof views)[number], query: string): string {
  const create = `view partywall.${name} as ${query}`;
  return `do ${dollarQuote(`begin
  create or replace ${create};
exception when invalid_table_definition then
  drop view partywall.${name};
  create ${create};
end`)}`;
}

const tenantsSql = `select g.tenant_id as id, d.name, d.status, d.plan, p.tier, d.contact_email, d.reason, d.status_changed_at, d.retained_until, d.hold_reason,
    d.held_at, d.created_at
  from partywall.registry g join partywall_control.directory d on d.tenant_id = g.tenant_id::text join partywall_control.plans p on p.name = d.plan`;

const usageColumns = [
  'tenant_id',
  'period_start',
  'api_calls',
  'active_users',
  'storage',
  'error_rate',
  'avg_response_ms',
  'p95_response_ms',
  'connections',
  'rows',
  'measured_at',
];

/** One column for each quota that counts rows, under its name: `customers`, `users`. */
function usageSql(model: TenancyModel): string {
  const counted = [...model.quotas].flatMap(([name, quota]) =>
    quota.kind === 'rows' && !usageColumns.includes(name) ? [`coalesce((u.rows ->> ${literal(quota.table)})::bigint, 0) as ${ident(name)}`] : [],
  );
  return `select g.tenant_id, u.period_start, u.api_calls, u.active_users, ${counted.map((column) => `${column}, `).join('')}u.storage_bytes as storage,
    u.error_rate, u.avg_response_ms, u.p95_response_ms, u.connections, u.rows, u.measured_at
  from partywall_control.usage_of_all() u join partywall.registry g on g.tenant_id::text = u.tenant_id`;
}

function auditSql(keyType: string): string {
  return `select ${auditKey(keyType)} as tenant_id, seq, at as created_at, coalesce(actor_name, actor_id) as actor, actor_kind, actor_id, address, action, target,
    outcome, reason, details, request_id, tenant_id as chain, encode(hash, 'hex') as hash
  from partywall_control.audit_records`;
}

/** Whole numbers by type: what their text looks like, and how far they reach. */
const ranges: Readonly<Record<string, string>> = {
  smallint: '-32768 and 32767',
  integer: '-2147483648 and 2147483647',
  bigint: '-9223372036854775808 and 9223372036854775807',
};

/**
 * The key of the tenant of an audit record; NULL for the platform's. Records outlive their tenant, so it is made from their text, and one that is no
 * such key (nothing keeps a chain from being named otherwise) is NULL too instead of an error in an index.
 */
function auditKey(keyType: string): string {
  const range = ranges[keyType];
  if (range !== undefined) {
    // Nested, because the order in which an AND is evaluated is not promised.
    return `case when tenant_id ~ '^-?\\d{1,19}$' then case when tenant_id::numeric between ${range} then tenant_id::${keyType} end end`;
  }
  if (keyType === 'uuid') return `case when tenant_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then tenant_id::uuid end`;
  return `nullif(tenant_id, '')::text`;
}
