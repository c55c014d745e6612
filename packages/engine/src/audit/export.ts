import { createHash } from 'node:crypto';
import type { Operation } from '../db/operation.ts';
import { appendAudit } from './append.ts';
import { listChains } from './chains.ts';
import { type AuditCheckpoint, checkpointColumns } from './marks.ts';
import { type ChainLink, linkColumns } from './records.ts';
import { toRecord } from './search.ts';
import { readSigner, type Signature } from './signature.ts';

/** What to export; a chain is exported without gaps, so that it can be verified by itself. */
export interface AuditExportOptions {
  /** Key of a tenant, null for the platform's chain; undefined for all, one after the other. */
  readonly tenant?: string | null | undefined;
  /** First and too late moment, ISO 8601. Where a clock was set back, records between two that are in the range come along. */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/** Records that are in memory at once. */
const recordsAtOnce = 500;

/**
 * The audit log as lines of JSON, as `docs/guide/audit.md` describes them: per chain a checkpoint, if records were pruned before it, and its
 * records from first to last, each with both hashes and the text they cover; in the end a line that is signed over all bytes before it.
 * `verifyAuditExport` reads it anywhere. Yields several lines at a time; the export is a record of the chain it exports.
 */
export async function* exportAudit(operation: Operation, { tenant, from, to }: AuditExportOptions): AsyncGenerator<string> {
  const { pool, keyring } = operation.database;
  // Before the first line: an export that cannot be signed does not begin.
  const sign = await readSigner(keyring);
  await appendAudit(pool, operation, { tenant: tenant ?? null, action: 'audit.export', details: { chains: tenant === undefined ? 'all' : 'one', from, to } });
  const sealed = createHash('sha256');
  const count = { chains: 0, records: 0 };
  for (const chain of tenant === undefined ? await listChains(pool) : [tenant ?? '']) {
    count.chains += 1;
    for await (const chunk of chainLines(operation, chain, { from, to })) {
      count.records += chunk.records;
      sealed.update(chunk.lines, 'utf8');
      yield chunk.lines;
    }
  }
  const end = { kind: 'end' as const, ...count, at: operation.database.clock().toISOString(), sha256: sealed.digest('hex') };
  yield line({ ...end, ...sign(sealText(end)) });
}

/** The last line of an export. */
export interface ExportEnd extends Signature {
  readonly kind: 'end';
  readonly chains: number;
  readonly records: number;
  readonly at: string;
  /** Of all bytes before this line. */
  readonly sha256: string;
}

/** What the signature of the last line covers. */
export function sealText({ chains, records, at, sha256 }: Omit<ExportEnd, keyof Signature>): string {
  return JSON.stringify(['partywall.audit.export.1', chains, records, at, sha256]);
}

/** A record's line. It says nothing that `link` does not, so that a reader can make it again and compare. */
export function recordLine(link: ChainLink): string {
  return line({ kind: 'record', ...toRecord(link), text: link.text });
}

async function* chainLines(
  { database: { pool }, signal }: Operation,
  chain: string,
  { from, to }: Pick<AuditExportOptions, 'from' | 'to'>,
): AsyncGenerator<{ readonly lines: string; readonly records: number }> {
  const range = await pool.query<{ first: number | null; last: number }>(
    `select min(r.seq)::float8 as first, max(r.seq)::float8 as last from partywall_control.audit_records r
where r.tenant_id = $1 and ($2::timestamptz is null or r.at >= $2) and ($3::timestamptz is null or r.at < $3)`,
    [chain, from, to],
  );
  const { first = null, last = 0 } = range.rows[0] ?? {};
  if (first === null) return;
  const { rows } = await pool.query<AuditCheckpoint>(
    `select ${checkpointColumns} from partywall_control.audit_checkpoints where tenant_id = $1 and seq = $2 - 1`,
    [chain, first],
  );
  if (rows[0]) yield { lines: line({ kind: 'checkpoint', ...rows[0] }), records: 0 };
  for (let after = first - 1; after < last; ) {
    signal?.throwIfAborted();
    const page = await pool.query<ChainLink & { seq: number }>(
      `select r.seq::float8 as seq, ${linkColumns} from partywall_control.audit_records r where r.tenant_id = $1 and r.seq > $2 and r.seq <= $3 order by r.seq limit $4`,
      [chain, after, last, recordsAtOnce],
    );
    const newest = page.rows.at(-1);
    if (!newest) return;
    yield { lines: page.rows.map(recordLine).join(''), records: page.rows.length };
    after = newest.seq;
  }
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
