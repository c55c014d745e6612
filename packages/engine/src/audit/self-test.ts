import type { Operation } from '../db/operation.ts';
import { appendAudit } from './append.ts';
import { checkChain } from './chain-check.ts';
import { type ChainLink, linkColumns, recordOf } from './records.ts';

export interface AuditTest {
  /** The record is there, says what was written, and follows the one before it. */
  readonly ok: boolean;
  readonly seq: number;
  readonly hash: string;
  /** What is wrong, where it is not. */
  readonly fault: string | null;
}

/** Writes a record `audit.test` to a chain, reads it back and holds it against the one before it: whether audit records are being kept, now. */
export async function testAudit(operation: Operation, tenant: string | null): Promise<AuditTest> {
  const { pool } = operation.database;
  const seq = Number(await appendAudit(pool, operation, { tenant, action: 'audit.test' }));
  const { rows } = await pool.query<ChainLink & { seq: number }>(
    `select r.seq::float8 as seq, ${linkColumns} from partywall_control.audit_records r where r.tenant_id = $1 and r.seq between $2 - 1 and $2 order by r.seq`,
    [tenant ?? '', seq],
  );
  const written = rows.find((row) => row.seq === seq);
  if (!written) return { ok: false, seq, hash: '', fault: `record ${seq} was written and is not there` };
  const before = rows.find((row) => row.seq === seq - 1);
  const fault = checkChain(tenant ?? '', before ?? (seq === 1 ? 'start' : 'unknown'), []).next(written)?.message ?? null;
  const record = recordOf(written);
  const asWritten = record?.action === 'audit.test' && record.actor.id === operation.actor.id && record.requestId === (operation.requestId ?? null);
  return { ok: fault === null && asWritten, seq, hash: written.hash, fault: fault ?? (asWritten ? null : `record ${seq} is not the one that was written`) };
}
