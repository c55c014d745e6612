import type pg from 'pg';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { TenantStatus } from '../../tenants/states.ts';
import type { Archive } from '../archive.ts';
import { claimArchive } from '../identity.ts';
import { appendLedger, type Ledger, readLedger } from './ledger.ts';
import type { LedgerRecord } from './ledger-object.ts';
import { recoveredPrefix } from './recovered.ts';

export interface LedgerSync {
  /** Tenants whose state was not what the ledger said. */
  readonly records: readonly LedgerRecord[];
  /** Tenants that were compared. */
  readonly tenants: number;
}

/**
 * Brings the ledger up to what the database says, whoever changed it: the control plane, the application's own status column, or nobody for as long as the
 * store was down. Called by the schedule, and by each backup.
 *
 * @throws PartywallError restore_refused (the database came from a backup and was not reconciled: its past must not become the ledger's present),
 *   backup_refused (the archive is another database's), store_unavailable, archive_damaged
 */
export async function syncLedger(operation: Operation, archive: Archive): Promise<LedgerSync> {
  const { pool, clock } = operation.database;
  await refuseUnreconciled(pool);
  await claimArchive(pool, archive.store);
  const ledger = await readLedger(archive);
  const current = await currentStates(pool);
  const records = changedRecords(ledger, current, clock());
  if (records.length > 0) await appendLedger(archive, records, clock());
  return { records, tenants: current.tenants.length };
}

/** Whether tenants came from a backup and wait. */
export async function isUnreconciled(pool: pg.Pool): Promise<boolean> {
  return (await countWaiting(pool)) > 0;
}

async function countWaiting(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ waiting: number }>('select count(*)::integer as waiting from partywall.registry g where starts_with(g.reason, $1)', [
    recoveredPrefix,
  ]);
  return rows[0]?.waiting ?? 0;
}

/** @throws PartywallError restore_refused */
export async function refuseUnreconciled(pool: pg.Pool): Promise<void> {
  const waiting = await countWaiting(pool);
  if (waiting === 0) return;
  throw new PartywallError('restore_refused', `comparing the ledger with the database: ${waiting} tenants came from a backup and wait to be reconciled`, {
    hint: 'run `partywall ledger reconcile`',
  });
}

export interface CurrentStates {
  readonly tenants: readonly {
    readonly tenant: string;
    readonly status: TenantStatus;
    readonly retainedUntil: Date | null;
    readonly placement: string | null;
  }[];
  /** When tenants that are there no more were certified as erased, latest first. */
  readonly erased: ReadonlyMap<string, Date>;
}

async function currentStates(pool: pg.Pool): Promise<CurrentStates> {
  const tenants = await pool.query<CurrentStates['tenants'][number]>(
    `select d.tenant_id as tenant, d.status, d.retained_until as "retainedUntil", g.placement
from partywall_control.directory d left join partywall.registry g on g.tenant_id::text = d.tenant_id order by d.tenant_id`,
  );
  const erased = await pool.query<{ tenant: string; at: Date }>(
    'select c.tenant_id as tenant, max(c.issued_at) as at from partywall_control.certificates c group by 1',
  );
  return { tenants: tenants.rows, erased: new Map(erased.rows.map(({ tenant, at }) => [tenant, at])) };
}

/** What the ledger does not say yet. */
export function changedRecords(ledger: Pick<Ledger, 'tenants'>, { tenants, erased }: CurrentStates, now: Date): LedgerRecord[] {
  const here = new Set(tenants.map(({ tenant }) => tenant));
  const at = now.toISOString();
  const current = tenants.map(({ tenant, status, retainedUntil, placement }): LedgerRecord => {
    return { tenant, at, status, retainedUntil: retainedUntil?.toISOString() ?? null, placement };
  });
  const vanished = new Set([...ledger.tenants.keys(), ...erased.keys()]);
  const ended = [...vanished]
    .filter((tenant) => !here.has(tenant))
    .sort()
    .map((tenant): LedgerRecord => {
      const certified = erased.get(tenant);
      const known = ledger.tenants.get(tenant);
      const isErased = certified !== undefined && (known === undefined || known.status === 'erasing' || certified >= new Date(known.at));
      const status = isErased || known?.status === 'erased' ? 'erased' : 'gone';
      return { tenant, at, status, retainedUntil: null, placement: null };
    });
  return [...current, ...ended].filter((record) => differs(ledger.tenants.get(record.tenant), record));
}

function differs(known: LedgerRecord | undefined, { status, retainedUntil, placement }: LedgerRecord): boolean {
  return known?.status !== status || known.retainedUntil !== retainedUntil || known.placement !== placement;
}
