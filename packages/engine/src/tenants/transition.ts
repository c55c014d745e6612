import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { setApplicationPath } from '../db/application-path.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { type Fence, fence } from './fence.ts';
import { lockRoot, readRootStatus, writeState } from './root-row.ts';
import { decide, registryStates, type TenantAction, type TenantStatus, transitions } from './states.ts';
import { readTenant, type Tenant, type TenantRow, tenantColumns, tenantOf, unknownTenant } from './tenant.ts';

const dayMs = 86_400_000;
/** A tenant can be brought back for this long at the least, whatever its plan says: people have that long to miss their data. */
export const retentionDaysMin = 30;

export interface TransitionInput {
  readonly tenant: string;
  readonly reason?: string | undefined;
}

export interface Transitioned {
  readonly tenant: Tenant;
  /** False where the tenant was in that state already. */
  readonly changed: boolean;
  /** Sessions that were inside the tenant and did not leave in time. */
  readonly ended: number;
}

/** Keeps a tenant out: sessions, API keys, jobs and raw SQL, also those that are inside. */
export function suspendTenant(operation: Operation, input: TransitionInput): Promise<Transitioned> {
  return transition(operation, 'suspend', input);
}

/** Lets a suspended tenant in again, or one that was cancelled and is still retained. */
export function reactivateTenant(operation: Operation, input: TransitionInput): Promise<Transitioned> {
  return transition(operation, 'reactivate', input);
}

/** Ends a tenant's subscription: it is kept out, and can be brought back while its plan's retention lasts. */
export function cancelTenant(operation: Operation, input: TransitionInput): Promise<Transitioned> {
  return transition(operation, 'cancel', input);
}

/** Deletes softly: nothing is gone yet, and it can be restored while its plan's retention lasts. */
export function deleteTenant(operation: Operation, input: TransitionInput): Promise<Transitioned> {
  return transition(operation, 'delete', input);
}

/** Brings a softly deleted tenant back. */
export function restoreTenant(operation: Operation, input: TransitionInput): Promise<Transitioned> {
  return transition(operation, 'restore', input);
}

/** @throws PartywallError tenant_unknown, transition_refused, fence_incomplete (the state has changed nevertheless) */
async function transition(operation: Operation, action: Exclude<TenantAction, 'erase'>, input: TransitionInput): Promise<Transitioned> {
  const { pool } = operation.database;
  const { tenant, changed } = await transaction(pool, (client) => changeStatus(client, operation, action, input));
  const out = tenant.status !== 'active';
  // Also where it was so already: an earlier call may have been cut off between its commit and its fence.
  const ended: Fence = out ? await fence(pool, tenant.id) : { ended: 0 };
  return { tenant, changed, ended: ended.ended };
}

/**
 * The part of a transition that is one transaction: directory, the root's own status, audit record.
 *
 * @throws PartywallError tenant_unknown, transition_refused
 */
export async function changeStatus(
  client: pg.ClientBase,
  operation: Operation,
  action: TenantAction,
  input: TransitionInput & { readonly force?: boolean | undefined },
): Promise<{ tenant: Tenant; changed: boolean }> {
  const { model, clock } = operation.database;
  const now = clock();
  await readTenant(client, input.tenant);
  await client.query(setApplicationPath(model));
  await lockRoot(client, model, input.tenant);
  const { row, before } = await lockTenant(client, input.tenant);
  await refusePlaced(client, action, input.tenant);
  const decision = decide({ ...before, held: before.hold !== null }, action, now, input.force);
  if (decision.kind === 'refused') throw refused(before, action, decision);
  if (decision.kind === 'same') return { tenant: before, changed: false };
  const { to } = decision;
  const { retains } = transitions[action];
  // What a cancellation promised is not shortened by the deletion that follows it.
  const promised = Math.max(now.getTime() + Math.max(row.retention_days, retentionDaysMin) * dayMs, before.retainedUntil?.getTime() ?? 0);
  const retainedUntil = retains ? new Date(promised) : to === 'active' ? null : before.retainedUntil;
  const remembered = before.status === 'active' ? await readRootStatus(client, model, before.id) : row.root_status;
  const { rows } = await client.query<TenantRow>(
    `update partywall_control.directory d set status = $2, reason = $3, status_changed_at = $4, retained_until = $5, root_status = $6
where d.tenant_id = $1 returning ${tenantColumns}`,
    [before.id, to, input.reason ?? null, now, retainedUntil, to === 'active' ? null : remembered],
  );
  await writeState(client, model, before.id, registryStates[to], remembered);
  await appendAudit(client, operation, {
    tenant: before.id,
    action: `tenant.${action}`,
    reason: input.reason,
    details: { from: before.status, to, ...(retainedUntil && { retainedUntil }), ...(input.force && { force: true }) },
  });
  const after = rows[0];
  if (!after) throw unknownTenant(before.id);
  return { tenant: tenantOf(after), changed: true };
}

/** The database that holds a tenant owns its status. */
async function refusePlaced(client: pg.ClientBase, action: TenantAction, tenant: string): Promise<void> {
  const { rows } = await client.query<{ placement: string }>(
    'select g.placement from partywall.registry g where g.tenant_id::text = $1 and g.placement is not null',
    [tenant],
  );
  const placement = rows[0]?.placement;
  if (placement === undefined) return;
  throw new PartywallError('transition_refused', `cannot ${action} tenant ${JSON.stringify(tenant)}: it is placed in ${placement}`, {
    hint: 'ask in the database that it is placed in, or move it back first',
  });
}

/** Locks the directory's row until the transaction ends. */
export async function lockTenant(
  client: pg.ClientBase,
  id: string,
): Promise<{ before: Tenant; row: { readonly retention_days: number; readonly root_status: string | null } }> {
  const { rows } = await client.query<TenantRow & { retention_days: number; root_status: string | null }>(
    `select ${tenantColumns}, d.root_status, p.retention_days from partywall_control.directory d
join partywall_control.plans p on p.name = d.plan where d.tenant_id = $1 for no key update of d`,
    [id],
  );
  const row = rows[0];
  if (!row) throw unknownTenant(id);
  return { row, before: tenantOf(row) };
}

function refused(
  tenant: Tenant,
  action: TenantAction,
  { why, possible }: { readonly why: string; readonly possible: readonly TenantAction[] },
): PartywallError {
  const list = possible.length === 0 ? 'nothing is possible now' : `possible now: ${possible.join(', ')}`;
  const status: TenantStatus = tenant.status;
  return new PartywallError('transition_refused', `cannot ${action} tenant ${JSON.stringify(tenant.id)}: ${why}; ${list}`, {
    extra: { tenant: tenant.id, tenantStatus: status, asked: action, possible, held: tenant.hold !== null, retainedUntil: tenant.retainedUntil },
  });
}
