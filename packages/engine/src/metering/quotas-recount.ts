import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';

/** A counter that did not say what is there. */
export interface QuotaDrift {
  readonly tenant: string;
  readonly quota: string;
  /** What is there. */
  readonly counted: number;
  /** What the counter said; null where it was lost. */
  readonly was: number | null;
}

export interface RecountReport {
  readonly tenants: number;
  /** How many counters were wrong or lost, and are right now. */
  readonly repaired: number;
  /** The first of them, at most `driftListedMax`. */
  readonly drift: readonly QuotaDrift[];
}

export const driftListedMax = 1_000;
/** Tenants of one transaction: their counters stay locked until it ends. */
const batchTenantsMax = 50;
const sweptMax = 500;

interface RecountRow {
  readonly tenant: string;
  readonly quota: string;
  readonly counted: string;
  readonly was: string | null;
}

const batchSql = `select d.tenant_id as tenant, r.quota, r.counted, r.was
from (select tenant_id from partywall_control.directory where tenant_id > $1 and ($2::text is null or tenant_id = $2) order by tenant_id limit ${batchTenantsMax}) d
  cross join lateral partywall_control.recount(d.tenant_id) r order by d.tenant_id, r.quota`;

/**
 * Counts what is there and repairs the counters that say otherwise, or were lost, while the application goes on writing: of one tenant, or of
 * all in batches that commit on their own. Counters drift where rows came or went past their triggers: partitions attached with rows,
 * `session_replication_role`, a column added to a table that counts by its text, a dump restored without its large objects.
 *
 * @throws PartywallError tenant_unknown
 */
export async function recountQuotas(operation: Operation, input: { readonly tenant?: string | undefined }): Promise<RecountReport> {
  const { pool } = operation.database;
  const drift: QuotaDrift[] = [];
  let tenants = 0;
  let repaired = 0;
  for (let after: string | undefined = ''; after !== undefined; ) {
    operation.signal?.throwIfAborted();
    const from: string = after;
    const batch = await transaction(pool, async (client) => {
      const found = await recountBatch(client, from, input.tenant);
      for (const [tenant, wrong] of found.drift) {
        await appendAudit(client, operation, { tenant, action: 'quota.recount', details: { repaired: wrong } });
      }
      return found;
    });
    tenants += batch.tenants;
    for (const wrong of [...batch.drift.values()].flat()) {
      repaired += 1;
      if (drift.length < driftListedMax) drift.push(wrong);
    }
    after = batch.last;
  }
  if (input.tenant !== undefined && tenants === 0)
    throw new PartywallError('tenant_unknown', `recounting the quotas of tenant ${JSON.stringify(input.tenant)}`);
  while (((await pool.query(sweepSql)).rowCount ?? 0) > 0) operation.signal?.throwIfAborted();
  return { tenants, repaired, drift };
}

/** Counters of quotas that the model no longer has. */
const sweepSql = `delete from partywall_control.usage_counters c where (c.tenant_id, c.quota) in (
  select g.tenant_id, g.quota from partywall_control.usage_counters g where not exists (select from partywall_control.quotas q where q.name = g.quota) limit ${sweptMax})`;

/**
 * Counts what no counter has counted yet: after the quotas of the model changed. A run that is cut short is finished by the next.
 * Transactions of its own, because the counters of thousands of tenants are not locked together.
 *
 * @param owner role that owns the control plane's schema
 */
export async function countNewQuotas(client: pg.ClientBase, owner: string): Promise<void> {
  const { rows } = await client.query<{ name: string }>('select name from partywall_control.quotas where not counted');
  if (rows.length === 0) return;
  for (let after: string | undefined = ''; after !== undefined; ) {
    await client.query('begin isolation level read committed');
    try {
      await client.query(`set local role ${ident(owner)}`);
      ({ last: after } = await recountBatch(client, after, undefined));
      if (after === undefined) await client.query('update partywall_control.quotas set counted = true where name = any ($1)', [rows.map(({ name }) => name)]);
      await client.query('commit');
    } catch (error) {
      await client.query('rollback');
      throw error;
    }
  }
}

interface Batch {
  readonly tenants: number;
  /** Where the next batch starts; undefined after the last. */
  readonly last: string | undefined;
  readonly drift: ReadonlyMap<string, readonly QuotaDrift[]>;
}

async function recountBatch(client: pg.ClientBase, after: string, tenant: string | undefined): Promise<Batch> {
  const { rows } = await client.query<RecountRow>(batchSql, [after, tenant ?? null]);
  const wrong = rows
    .filter((row) => row.was !== row.counted)
    .map((row) => ({ tenant: row.tenant, quota: row.quota, counted: Number(row.counted), was: row.was === null ? null : Number(row.was) }));
  const tenants = new Set(rows.map((row) => row.tenant)).size;
  return { tenants, last: tenants === batchTenantsMax ? rows.at(-1)?.tenant : undefined, drift: Map.groupBy(wrong, (one) => one.tenant) };
}
