import type pg from 'pg';
import { PartywallError } from '../errors.ts';
import type { TenantStatus } from './states.ts';

/** A tenant as the directory has it. */
export interface Tenant {
  /** Text of its key. */
  readonly id: string;
  readonly name: string;
  readonly contactEmail: string | null;
  readonly plan: string;
  readonly status: TenantStatus;
  /** Why it is in that status, where somebody said. */
  readonly reason: string | null;
  readonly statusChangedAt: Date;
  /** Cancelled or deleted: until then it can be brought back. */
  readonly retainedUntil: Date | null;
  readonly hold: { readonly reason: string; readonly since: Date } | null;
  readonly createdAt: Date;
}

export interface TenantRow {
  readonly tenant_id: string;
  readonly name: string;
  readonly contact_email: string | null;
  readonly plan: string;
  readonly status: TenantStatus;
  readonly reason: string | null;
  readonly status_changed_at: Date;
  readonly retained_until: Date | null;
  readonly hold_reason: string | null;
  readonly held_at: Date | null;
  readonly created_at: Date;
}

/** Columns of `partywall_control.directory d` that make a `TenantRow`. */
export const tenantColumns =
  'd.tenant_id, d.name, d.contact_email, d.plan, d.status, d.reason, d.status_changed_at, d.retained_until, d.hold_reason, d.held_at, d.created_at';

export function tenantOf(row: TenantRow): Tenant {
  return {
    id: row.tenant_id,
    name: row.name,
    contactEmail: row.contact_email,
    plan: row.plan,
    status: row.status,
    reason: row.reason,
    statusChangedAt: row.status_changed_at,
    retainedUntil: row.retained_until,
    hold: row.hold_reason === null || row.held_at === null ? null : { reason: row.hold_reason, since: row.held_at },
    createdAt: row.created_at,
  };
}

/**
 * The tenant of that key.
 *
 * @throws PartywallError tenant_unknown
 */
export async function readTenant(client: pg.ClientBase | pg.Pool, id: string): Promise<Tenant> {
  const { rows } = await client.query<TenantRow>(`select ${tenantColumns} from partywall_control.directory d where d.tenant_id = $1`, [id]);
  const row = rows[0];
  if (!row) throw unknownTenant(id);
  return tenantOf(row);
}

export function unknownTenant(id: string): PartywallError {
  return new PartywallError('tenant_unknown', `looking for tenant ${JSON.stringify(id.slice(0, 100))}: there is none`);
}
