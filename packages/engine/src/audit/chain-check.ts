import { type ChainLink, hashOf, noHash } from './records.ts';

/**
 * Whether the records of a chain follow from each other, decided one record at a time and from values alone, so that the same check reads a
 * database and an exported file of any length.
 */
export const auditFaultKinds = ['missing', 'changed', 'replaced', 'inserted', 'rewritten', 'signature'] as const;

export interface AuditFault {
  /** Null for the chain of the platform. */
  readonly tenantId: string | null;
  /** The first record that is not what it must be. */
  readonly seq: number;
  readonly kind: (typeof auditFaultKinds)[number];
  /** Says what is wrong in a sentence without the tenant. */
  readonly message: string;
}

/** What somebody vouches for: the record `seq` of the chain had this hash at that time. */
export interface ChainMark {
  readonly seq: number;
  readonly hash: string;
  readonly at: string;
}

export interface ChainCheck {
  /** Takes the next record in the order of their numbers; returns what is wrong with it. The first fault ends a chain. */
  next(link: ChainLink & { readonly seq: number }): AuditFault | undefined;
  /** What is wrong with the end. `head`: where the chain says it ends; `unknown` where nothing says. */
  end(head: { readonly seq: number; readonly hash: string } | 'unknown' | 'gone'): AuditFault | undefined;
}

/**
 * @param after what lies before the first record: a checkpoint, `start` of the chain, or `unknown` where a part of a chain is checked
 * @param marks anchors of this chain
 */
export function checkChain(tenant: string, after: Pick<ChainMark, 'seq' | 'hash'> | 'start' | 'unknown', marks: readonly ChainMark[]): ChainCheck {
  const begin = after === 'start' || after === 'unknown' ? { seq: 0, hash: noHash } : after;
  let last: { seq: number; hash: string } | undefined = after === 'unknown' ? undefined : begin;
  const fault = (seq: number, kind: AuditFault['kind'], message: string): AuditFault => ({ tenantId: tenant === '' ? null : tenant, seq, kind, message });
  const rewritten = (seq: number, hash: string): AuditFault | undefined => {
    const mark = marks.find((candidate) => candidate.seq === seq && candidate.hash !== hash);
    return mark && fault(seq, 'rewritten', `record ${seq} is not the one that was anchored at ${mark.at}: the chain was written anew up to it or before it`);
  };

  return {
    next(link) {
      const { seq } = link;
      if (last && seq <= last.seq) {
        const where =
          after === 'start' || after === 'unknown' || seq > begin.seq ? `stands behind record ${last.seq}` : `lies before the checkpoint at ${begin.seq}`;
        return fault(seq, 'inserted', `record ${seq} ${where}`);
      }
      if (last && seq > last.seq + 1) return fault(last.seq + 1, 'missing', `${records(last.seq + 1, seq - 1)} missing`);
      if (hashOf(link) !== link.hash) return fault(seq, 'changed', `record ${seq} was changed: its hash is not that of what it says`);
      if (last && link.previous !== last.hash) {
        const before = last.seq === 0 ? 'is not the first that was written' : `does not follow record ${last.seq}: one of the two was replaced`;
        return fault(seq, 'replaced', `record ${seq} ${before}`);
      }
      last = { seq, hash: link.hash };
      return rewritten(seq, link.hash);
    },
    end(head) {
      const end = last ?? begin;
      // Nothing tells of such a chain.
      if (head === 'gone' && after === 'start' && end.seq === 0 && marks.length === 0) return undefined;
      if (head === 'gone') return fault(end.seq + 1, 'missing', `the head of the chain is gone, and what came after record ${end.seq} with it`);
      if (head !== 'unknown') {
        if (head.seq > end.seq) return fault(end.seq + 1, 'missing', `${records(end.seq + 1, head.seq)} missing at the end`);
        if (head.seq < end.seq) return fault(head.seq + 1, 'inserted', `record ${head.seq + 1} lies beyond the head of the chain`);
        if (head.hash !== end.hash) return fault(end.seq, 'changed', `record ${end.seq} is not the one that the head of the chain names`);
      }
      const beyond = marks.filter(({ seq }) => seq > end.seq).sort((left, right) => right.seq - left.seq)[0];
      if (beyond && head !== 'unknown') {
        return fault(end.seq + 1, 'missing', `${records(end.seq + 1, beyond.seq)} missing at the end: the anchor of ${beyond.at} reaches further`);
      }
      return typeof after === 'object' ? rewritten(begin.seq, begin.hash) : undefined;
    },
  };
}

function records(from: number, to: number): string {
  return from === to ? `record ${from} is` : `records ${from} to ${to} are`;
}
