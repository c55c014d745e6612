import { type Operation, transaction } from '../db/operation.ts';
import { appendAudit } from './append.ts';
import { type MarkWriter, markWriter } from './marks.ts';

export interface PruneReport {
  readonly chains: { readonly visited: number; readonly of: number };
  /** Chains that lost records, and how many records went; of a dry run, how many would. */
  readonly pruned: number;
  readonly removed: number;
  /** Chains whose tenant is under a legal hold: nothing of theirs went. */
  readonly held: number;
}

/** Chains that are listed at once. */
const chainsAtOnce = 500;
/** Records that go in one transaction: their chain takes no new ones meanwhile. */
const recordsAtOnce = 2_000;

/**
 * Removes what is older than the plan of its tenant asks to keep: 90 days, a year, three or seven years by tier. Records of no tenant, and of tenants
 * that are gone, are kept as long as the longest plan asks. A chain loses its oldest records only, up to the first that is kept, and begins after
 * that with a signed checkpoint that tells the number and hash of the last one that went; the removal is a record of that chain. A legal hold keeps all.
 *
 * Bounded transactions: interrupted, it has pruned a part, and the next run goes on.
 */
export async function pruneAudit(operation: Operation, { dryRun = false }: { readonly dryRun?: boolean } = {}): Promise<PruneReport> {
  const { pool, keyring } = operation.database;
  const prune = dryRun ? countOld(operation) : pruneChain(operation, await markWriter(keyring));
  let [visited, pruned, removed, held] = [0, 0, 0, 0];
  let after: string | undefined;
  for (;;) {
    const { rows } = await pool.query<{ tenant: string; held: boolean }>(
      `select h.tenant_id as tenant, exists (select from partywall_control.directory d where d.tenant_id = h.tenant_id and d.hold_reason is not null) as held
from partywall_control.audit_heads h where $1::text is null or h.tenant_id > $1 order by h.tenant_id limit $2`,
      [after, chainsAtOnce],
    );
    for (const chain of rows) {
      operation.signal?.throwIfAborted();
      visited += 1;
      if (chain.held) held += 1;
      const gone = chain.held ? 0 : await prune(chain.tenant);
      removed += gone;
      if (gone > 0) pruned += 1;
    }
    const last = rows.at(-1);
    if (rows.length < chainsAtOnce || !last) break;
    after = last.tenant;
  }
  const { rows } = await pool.query<{ of: number }>('select count(*)::float8 as of from partywall_control.audit_heads');
  return { chains: { visited, of: rows[0]?.of ?? 0 }, pruned, removed, held };
}

interface Prunable {
  readonly seq: number;
  readonly hash: string;
  readonly count: number;
  readonly before: number;
}

/** Counts by age alone: where a clock was set back, a younger record may keep some of them. */
function countOld({ database: { pool } }: Operation): (tenant: string) => Promise<number> {
  return async (tenant) => {
    const { rows } = await pool.query<{ old: number }>(
      'select count(*)::float8 as old from partywall_control.audit_records r where r.tenant_id = $1 and r.at < partywall_control.audit_kept_since($1)',
      [tenant],
    );
    return rows[0]?.old ?? 0;
  };
}

/** Prunes one chain and returns how many of its records went. */
function pruneChain(operation: Operation, writer: MarkWriter): (tenant: string) => Promise<number> {
  const batch = (tenant: string): Promise<number> =>
    transaction(operation.database.pool, async (client) => {
      const { rows } = await client.query<Prunable>(
        `select p.seq::float8 as seq, encode(p.hash, 'hex') as hash, p.count::float8 as count, p.removed_before::float8 as before
from partywall_control.prunable_audit($1, $2) p`,
        [tenant, recordsAtOnce],
      );
      const prunable = rows[0];
      if (!prunable) return 0;
      const { seq, hash, count, before } = prunable;
      const checkpoint = writer.checkpoint({ tenant, seq, hash, removed: before + count, at: operation.database.clock().toISOString() });
      await client.query(`select partywall_control.prune_audit($1, $2, decode($3, 'hex'), $4, $5, $6, decode($7, 'base64'))`, [
        tenant,
        seq,
        hash,
        checkpoint.removed,
        checkpoint.at,
        checkpoint.keyId,
        checkpoint.signature,
      ]);
      await appendAudit(client, operation, { tenant: tenant === '' ? null : tenant, action: 'audit.prune', details: { through: seq, hash, removed: count } });
      return count;
    });
  return async (tenant) => {
    for (let removed = 0; ; ) {
      operation.signal?.throwIfAborted();
      const gone = await batch(tenant);
      removed += gone;
      if (gone < recordsAtOnce) return removed;
    }
  };
}
