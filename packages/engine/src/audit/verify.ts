import type pg from 'pg';
import { type Operation, transaction } from '../db/operation.ts';
import { type AuditFault, type ChainCheck, checkChain } from './chain-check.ts';
import { listChains } from './chains.ts';
import { type AuditAnchor, type AuditCheckpoint, anchorColumns, checkpointColumns, type MarkReader, markReader } from './marks.ts';
import { type ChainLink, linkColumns } from './records.ts';
import { readVerifier } from './signature.ts';

export interface AuditVerifyOptions {
  /** One tenant's chain, null for the platform's; undefined for all. */
  readonly tenant?: string | null | undefined;
  /** Anchors that were kept outside the database, beside those in it. */
  readonly anchors?: readonly AuditAnchor[] | undefined;
}

export interface AuditReport {
  readonly sound: boolean;
  readonly chains: { readonly visited: number; readonly of: number };
  readonly records: number;
  /** Anchors that were held against the chains. */
  readonly anchors: number;
  /** One for each chain that is broken, up to `faultsMax`. */
  readonly faults: readonly AuditFault[];
  /** Broken chains beyond those. */
  readonly more: number;
}

/** Chains that are read in one snapshot. */
const chainsAtOnce = 200;
/** Records that are in memory at once. */
const recordsAtOnce = 500;
/** Broken chains that a report names. */
export const faultsMax = 100;

/**
 * Reads every record of every chain in order and names, for each chain that is broken, the first record that is not what it must be: changed,
 * removed, put in another place, or added past `append_audit`. A chain that was cut at its end together with its head, or written anew from the
 * start, shows against an anchor: those in the database, and those that the caller kept elsewhere.
 *
 * Memory is bounded by `recordsAtOnce` records and one name for each chain; writers are not held up.
 */
export async function verifyAudit(operation: Operation, options: AuditVerifyOptions = {}): Promise<AuditReport> {
  const { pool, keyring } = operation.database;
  const marks = markReader(await readVerifier(keyring));
  const kept = Map.groupBy(options.anchors ?? [], ({ tenant }) => tenant);
  const chains = options.tenant === undefined ? [...new Set([...(await listChains(pool)), ...kept.keys()])] : [options.tenant ?? ''];
  const faults: AuditFault[] = [];
  let [visited, records, anchors, more] = [0, 0, 0, 0];
  for (let at = 0; at < chains.length; at += chainsAtOnce) {
    operation.signal?.throwIfAborted();
    const group = chains.slice(at, at + chainsAtOnce);
    const read = await transaction(pool, async (client) => {
      // Heads, anchors and records of one moment, however much is being written.
      await client.query('set transaction isolation level repeatable read, read only');
      return verifyGroup(client, group, { marks, kept, signal: operation.signal });
    });
    visited += group.length;
    records += read.records;
    anchors += read.anchors;
    for (const fault of read.faults) {
      if (faults.length < faultsMax) faults.push(fault);
      else more += 1;
    }
  }
  return { sound: faults.length === 0, chains: { visited, of: chains.length }, records, anchors, faults, more };
}

interface Marks {
  readonly marks: MarkReader;
  readonly kept: ReadonlyMap<string, readonly AuditAnchor[]>;
  readonly signal: AbortSignal | undefined;
}

interface GroupReport {
  readonly records: number;
  readonly anchors: number;
  readonly faults: readonly AuditFault[];
}

async function verifyGroup(client: pg.PoolClient, chains: readonly string[], { marks, kept, signal }: Marks): Promise<GroupReport> {
  const heads = await byTenant<{ tenant: string; seq: number; hash: string }>(
    client,
    `select tenant_id as tenant, seq::float8 as seq, encode(hash, 'hex') as hash from partywall_control.audit_heads where tenant_id = any ($1)`,
    chains,
  );
  const stored = await byTenant<AuditAnchor>(client, `select ${anchorColumns} from partywall_control.audit_anchors where tenant_id = any ($1)`, chains);
  const checkpoints = await byTenant<AuditCheckpoint>(
    client,
    `select ${checkpointColumns} from partywall_control.audit_checkpoints where tenant_id = any ($1)`,
    chains,
  );
  const faults = new Map<string, AuditFault>();
  const checks = new Map<string, ChainCheck>();
  let anchors = 0;
  for (const chain of chains) {
    const vouched = [stored.get(chain), ...(kept.get(chain) ?? [])].filter((anchor) => anchor !== undefined);
    const checkpoint = checkpoints.get(chain);
    const unsigned = [...(checkpoint ? [checkpoint] : []), ...vouched].map((mark) => marks.faultOf(mark)).find((fault) => fault !== undefined);
    anchors += vouched.length;
    if (unsigned) faults.set(chain, unsigned);
    else checks.set(chain, checkChain(chain, checkpoint ?? 'start', vouched));
  }
  let records = 0;
  for await (const link of linksOf(client, chains)) {
    signal?.throwIfAborted();
    records += 1;
    const fault = faults.has(link.tenant) ? undefined : checks.get(link.tenant)?.next(link);
    if (fault) faults.set(link.tenant, fault);
  }
  for (const [chain, check] of checks) {
    const fault = faults.has(chain) ? undefined : check.end(heads.get(chain) ?? 'gone');
    if (fault) faults.set(chain, fault);
  }
  return { records, anchors, faults: [...faults.values()] };
}

async function byTenant<Row extends { readonly tenant: string }>(client: pg.PoolClient, text: string, chains: readonly string[]): Promise<Map<string, Row>> {
  const { rows } = await client.query<Row>(text, [chains]);
  return new Map(rows.map((row) => [row.tenant, row]));
}

/** The records of some chains, one chain after the other, each in the order of its numbers. */
async function* linksOf(client: pg.PoolClient, chains: readonly string[]): AsyncGenerator<ChainLink & { readonly tenant: string; readonly seq: number }> {
  // Below every number, also of records that were written past the table's constraints.
  let after = { tenant: '', seq: Number.MIN_SAFE_INTEGER };
  for (;;) {
    const { rows } = await client.query<ChainLink & { tenant: string; seq: number }>(
      `select r.tenant_id as tenant, r.seq::float8 as seq, ${linkColumns} from partywall_control.audit_records r
where r.tenant_id = any ($1) and (r.tenant_id, r.seq) > ($2, $3) order by r.tenant_id, r.seq limit $4`,
      [chains, after.tenant, after.seq, recordsAtOnce],
    );
    yield* rows;
    const last = rows.at(-1);
    if (rows.length < recordsAtOnce || !last) return;
    after = last;
  }
}
