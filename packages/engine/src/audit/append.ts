import type pg from 'pg';
import type { Operation } from '../db/operation.ts';
import { boundedDetails, boundedText } from './bounds.ts';

/** What happened, beside who did it. */
export interface AuditEntry {
  /** Key of the tenant it is about; null where it is about none. */
  readonly tenant: string | null;
  /** `<noun>.<verb>`: `tenant.suspend`, `quota.increase`, `sign_in.refused`. */
  readonly action: string;
  /** The thing inside the tenant that it was done to, such as `user:7c9e…`. */
  readonly target?: string | undefined;
  readonly reason?: string | undefined;
  /** Before and after, counts, limits; never a secret. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * Adds a record to the tenant's chain in the caller's transaction, so that what was done and its record are both there or neither.
 * Locks the head of that chain until commit: call it last, and once for each tenant of a transaction, in the order of their keys. The
 * transaction is READ COMMITTED, as `transaction` makes it: one that keeps its snapshot fails with 40001 when it meets another writer.
 *
 * What is too long is cut, details that are too large leave their size and names: a record is never why an operation fails.
 * Returns the number of the record in its chain.
 */
export async function appendAudit(
  client: pg.ClientBase | pg.Pool,
  operation: Pick<Operation, 'actor' | 'requestId'> & Partial<Operation>,
  entry: AuditEntry,
  outcome: 'done' | 'denied' = 'done',
): Promise<string> {
  const { actor } = operation;
  const record = {
    tenant_id: entry.tenant ?? '',
    actor_kind: actor.kind,
    actor_id: boundedText(actor.id, 'name'),
    actor_name: boundedText(actor.name, 'name'),
    address: boundedText(actor.address, 'name'),
    action: boundedText(entry.action, 'name'),
    target: boundedText(entry.target, 'target'),
    outcome,
    reason: boundedText(entry.reason, 'reason'),
    request_id: boundedText(operation.requestId, 'name'),
    details: boundedDetails(entry.details),
  };
  const { rows } = await client.query<{ seq: string }>('select partywall_control.append_audit($1) as seq', [JSON.stringify(record)]);
  return rows[0]?.seq ?? '';
}

/** Records an attempt that was refused, in a transaction of its own: that of the attempt is rolled back. */
export function appendDenial(operation: Operation, entry: AuditEntry): Promise<string> {
  return appendAudit(operation.database.pool, operation, entry, 'denied');
}
