import type { AuditFault, ChainMark } from './chain-check.ts';
import { readSigner, type Signature, type Verifier } from './signature.ts';

/** A signed statement: the record `seq` of a tenant's chain ('' for the platform's) had this hash at that time. */
export interface AuditAnchor extends ChainMark, Signature {
  readonly tenant: string;
}

/** A signed statement: `removed` records in all went from the beginning of the chain, the last of them with this number and hash. */
export interface AuditCheckpoint extends ChainMark, Signature {
  readonly tenant: string;
  readonly removed: number;
}

/** A time as a signature covers it, in SQL: ISO 8601 in UTC with milliseconds, as `Date` writes it. */
const isoOf = (column: string): string => `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

const markColumns = `tenant_id as tenant, seq::float8 as seq, encode(hash, 'hex') as hash, ${isoOf('at')} as at, key_id as "keyId",
  translate(encode(signature, 'base64'), E'\\n', '') as signature`;

/** Columns of an `AuditAnchor`, from `partywall_control.audit_anchors`. */
export const anchorColumns = markColumns;
/** Columns of an `AuditCheckpoint`, from `partywall_control.audit_checkpoints`. */
export const checkpointColumns = `${markColumns}, removed::float8 as removed`;

export interface MarkReader {
  /** What is wrong with the signature of a mark, if anything. */
  faultOf(mark: AuditAnchor | AuditCheckpoint): AuditFault | undefined;
}

export function markReader(verify: Verifier): MarkReader {
  return {
    faultOf: (mark) => {
      const verdict = verify(textOf(mark), mark);
      if (verdict === 'holds') return undefined;
      const what = 'removed' in mark ? 'checkpoint' : 'anchor';
      const why = verdict === 'broken' ? 'has a signature that is not of what it says' : `is signed by key ${mark.keyId}, which the keyring does not hold`;
      return { tenantId: mark.tenant === '' ? null : mark.tenant, seq: mark.seq, kind: 'signature', message: `the ${what} at record ${mark.seq} ${why}` };
    },
  };
}

export interface MarkWriter {
  anchor(mark: Omit<AuditAnchor, keyof Signature>): AuditAnchor;
  checkpoint(mark: Omit<AuditCheckpoint, keyof Signature>): AuditCheckpoint;
}

export async function markWriter(keyring: string): Promise<MarkWriter> {
  const sign = await readSigner(keyring);
  return {
    anchor: (mark) => ({ ...mark, ...sign(textOf(mark)) }),
    checkpoint: (mark) => ({ ...mark, ...sign(textOf(mark)) }),
  };
}

type Unsigned<Mark extends Signature> = Omit<Mark, keyof Signature>;

/** What the signature covers. */
function textOf(mark: Unsigned<AuditAnchor> | Unsigned<AuditCheckpoint>): string {
  const { tenant, seq, hash, at } = mark;
  return 'removed' in mark
    ? JSON.stringify(['partywall.audit.checkpoint.1', tenant, seq, hash, at, mark.removed])
    : JSON.stringify(['partywall.audit.anchor.1', tenant, seq, hash, at]);
}
