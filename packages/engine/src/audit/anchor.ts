import type pg from 'pg';
import { type Operation, transaction } from '../db/operation.ts';
import { appendAudit } from './append.ts';
import { type AuditAnchor, anchorColumns, type MarkWriter, markWriter } from './marks.ts';

export interface AnchorReport {
  readonly chains: { readonly visited: number; readonly of: number };
  /** Chains that had grown since their last anchor and have a new one. */
  readonly signed: number;
}

/** Chains that are anchored, or listed, at once. */
const chainsAtOnce = 500;

/**
 * Signs where every chain stands now. An anchor shows later that what came before it was not changed, and, while it is kept where the database's
 * owner cannot reach it, not cut off either. Recorded in the platform's chain, which is anchored last and with that record.
 */
export async function anchorAudit(operation: Operation): Promise<AnchorReport> {
  const { pool, keyring } = operation.database;
  const writer = await markWriter(keyring);
  const at = operation.database.clock().toISOString();
  let [visited, signed] = [0, 0];
  let after = '';
  for (;;) {
    operation.signal?.throwIfAborted();
    const { rows } = await pool.query<Head>(`select ${headColumns} where h.tenant_id > $1 order by h.tenant_id limit $2`, [after, chainsAtOnce]);
    visited += rows.length;
    signed += await keep(pool, rows, writer, at);
    const last = rows.at(-1);
    if (rows.length < chainsAtOnce || !last) break;
    after = last.tenant;
  }
  await transaction(pool, (client) => appendAudit(client, operation, { tenant: null, action: 'audit.anchor', details: { chains: visited, signed } }));
  const { rows } = await pool.query<Head>(`select ${headColumns} where h.tenant_id = ''`);
  signed += await keep(pool, rows, writer, at);
  const counted = await pool.query<{ of: number }>('select count(*)::float8 as of from partywall_control.audit_heads');
  return { chains: { visited: visited + 1, of: counted.rows[0]?.of ?? 0 }, signed };
}

interface Head {
  readonly tenant: string;
  readonly seq: number;
  readonly hash: string;
  readonly anchored: number | null;
}

const headColumns = `h.tenant_id as tenant, h.seq::float8 as seq, encode(h.hash, 'hex') as hash, a.seq::float8 as anchored
from partywall_control.audit_heads h left join partywall_control.audit_anchors a on a.tenant_id = h.tenant_id`;

async function keep(pool: pg.Pool, heads: readonly Head[], writer: MarkWriter, at: string): Promise<number> {
  const grown = heads.filter(({ seq, anchored }) => seq > (anchored ?? 0));
  const anchors = grown.map(({ tenant, seq, hash }) => writer.anchor({ tenant, seq, hash, at }));
  if (anchors.length === 0) return 0;
  const { rows } = await pool.query<{ kept: boolean }>(
    `select partywall_control.keep_anchor(a.tenant, a.seq, decode(a.hash, 'hex'), $4, a.key_id, decode(a.signature, 'base64')) as kept
from unnest($1::text[], $2::bigint[], $3::text[], $5::text[], $6::text[]) as a (tenant, seq, hash, key_id, signature)`,
    [
      anchors.map(({ tenant }) => tenant),
      anchors.map(({ seq }) => seq),
      anchors.map(({ hash }) => hash),
      at,
      anchors.map(({ keyId }) => keyId),
      anchors.map(({ signature }) => signature),
    ],
  );
  return rows.filter(({ kept }) => kept).length;
}

/** The latest anchor of each chain, for keeping elsewhere. */
export async function* listAnchors(operation: Operation): AsyncGenerator<AuditAnchor> {
  let after: string | undefined;
  for (;;) {
    operation.signal?.throwIfAborted();
    const { rows } = await operation.database.pool.query<AuditAnchor>(
      `select ${anchorColumns} from partywall_control.audit_anchors where $1::text is null or tenant_id > $1 order by tenant_id limit $2`,
      [after, chainsAtOnce],
    );
    yield* rows;
    const last = rows.at(-1);
    if (rows.length < chainsAtOnce || !last) return;
    after = last.tenant;
  }
}
