import type { Operation } from '../db/operation.ts';
import { microsecondsOf, timeOf } from '../db/time-cursor.ts';
import type { TenantStatus } from './states.ts';
import { readTenant, type Tenant, type TenantRow, tenantColumns, tenantOf } from './tenant.ts';

export const tenantOrders = ['created', 'name'] as const;
export type TenantOrder = (typeof tenantOrders)[number];

export interface ListTenants {
  /** Part of the name or contact address, or the beginning of the key; case does not count. */
  readonly search?: string | undefined;
  readonly status?: TenantStatus | undefined;
  readonly plan?: string | undefined;
  /** created: newest first. name: alphabetical. */
  readonly order?: TenantOrder | undefined;
  readonly limit: number;
  /** Sort key of the last tenant of the page before. */
  readonly after?: TenantCursor | undefined;
}

/** `at`: the time of creation in microseconds since 1970, or the name in lower case. */
export interface TenantCursor {
  readonly at: number | string;
  readonly id: string;
}

export interface ListedTenant extends Tenant {
  readonly cursor: TenantCursor;
}

/**
 * Tenants of the directory, `limit + 1` of them: the one too many tells that there is another page. At 10,000 tenants a page comes from an
 * index; a search reads the directory once (about 15 ms), which costs less than keeping trigram indexes for it.
 */
export async function listTenants(operation: Operation, input: ListTenants): Promise<ListedTenant[]> {
  const byName = input.order === 'name';
  const sort = byName ? 'lower(d.name)' : 'd.created_at';
  const values: unknown[] = [];
  const parameter = (value: unknown): string => `$${values.push(value)}`;
  const conditions: string[] = [];
  if (input.search !== undefined) {
    const text = parameter(input.search.toLowerCase());
    conditions.push(
      `(pg_catalog.strpos(lower(d.name), ${text}) > 0 or pg_catalog.strpos(lower(d.contact_email), ${text}) > 0 or pg_catalog.starts_with(lower(d.tenant_id), ${text}))`,
    );
  }
  if (input.status !== undefined) conditions.push(`d.status = ${parameter(input.status)}`);
  if (input.plan !== undefined) conditions.push(`d.plan = ${parameter(input.plan)}`);
  if (input.after) {
    const at = byName ? parameter(input.after.at) : timeOf(parameter(input.after.at));
    conditions.push(`(${sort}, d.tenant_id) ${byName ? '>' : '<'} (${at}, ${parameter(input.after.id)})`);
  }
  const where = conditions.length === 0 ? '' : `where ${conditions.join(' and ')}`;
  const direction = byName ? 'asc' : 'desc';
  const { rows } = await operation.database.pool.query<TenantRow & { at: string }>(
    `select ${tenantColumns}, ${byName ? sort : microsecondsOf(sort)} as at from partywall_control.directory d ${where}
order by ${sort} ${direction}, d.tenant_id ${direction} limit ${parameter(input.limit + 1)}`,
    values,
  );
  return rows.map((row) => ({ ...tenantOf(row), cursor: { at: byName ? row.at : Number(row.at), id: row.tenant_id } }));
}

export interface ShownTenant extends Tenant {
  /** What the wall says of it, which is what keeps it in or out. */
  readonly wall: { readonly state: string; readonly placement: string | null } | null;
}

/** @throws PartywallError tenant_unknown */
export async function showTenant(operation: Operation, id: string): Promise<ShownTenant> {
  const { pool } = operation.database;
  const tenant = await readTenant(pool, id);
  const { rows } = await pool.query<{ state: string; placement: string | null }>(
    'select g.state, g.placement from partywall.registry g where g.tenant_id = $1',
    [id],
  );
  return { ...tenant, wall: rows[0] ?? null };
}
