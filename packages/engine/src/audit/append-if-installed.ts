import type pg from 'pg';
import type { Operation } from '../db/operation.ts';
import { type AuditEntry, appendAudit } from './append.ts';

/** As `appendAudit`, for what an operator may do to a wall that has no control plane, and so no audit log. */
export async function appendAuditIfInstalled(client: pg.ClientBase, operation: Operation, entry: AuditEntry): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>("select to_regprocedure('partywall_control.append_audit(jsonb)') is not null as there");
  if (rows[0]?.there) await appendAudit(client, operation, entry);
}
