import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { setApplicationPath } from '../../db/application-path.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { awaitOperation, inProcess, type Works } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { eraseTenant } from '../../tenants/erase/erase.ts';
import { lockRoot, writeState } from '../../tenants/root-row.ts';
import { registryStates, type TenantStatus } from '../../tenants/states.ts';
import { eraseWorks } from '../erase/backup-eraser.ts';
import type { OpenArchive } from '../open-archive.ts';
import { type RebuiltPoints, rebuildRecoveryPoints } from '../schedule/recovery-points.ts';
import { type Ledger, readLedger } from './ledger.ts';
import { planReconciliation, type ReconcileAction, type Tier, type WaitingTenant } from './reconcile-plan.ts';
import { parseRecovered, recoveredPrefix } from './recovered.ts';

/** An erasure of one tenant takes as long as it has rows. */
const erasureTimeoutMs = 24 * 3_600_000;

export interface ReconcileInput {
  /** Only say what would be done. */
  readonly dryRun?: boolean | undefined;
  /** Only tenants of these tiers; the others stay fenced. */
  readonly tiers?: readonly Tier[] | undefined;
}

export interface ReconcileReport {
  readonly applied: boolean;
  /** Number of the ledger's last object; 0: there is no ledger. */
  readonly ledger: number;
  readonly actions: readonly ReconcileAction[];
  /** Actions that were refused; these tenants stay fenced, and the others went on. */
  readonly failed: readonly { readonly tenant: string; readonly why: string }[];
  /** Tenants that are still fenced, each for a reason that is among the actions or because its tier was not asked for. */
  readonly waiting: number;
  /** Recovery points that were made anew, because the database knows those of the backup's time; null: nothing was applied. */
  readonly points: RebuiltPoints | null;
}

export interface ReconcileOptions {
  /** How an erasure is carried out. Default: in the database and in this archive. */
  readonly works?: Works | undefined;
  readonly onProgress?: ((done: number, of: number, action: ReconcileAction) => void) | undefined;
}

/**
 * Brings a database that came from a backup up to the ledger and lets its tenants in, tier by tier. Each tenant is one transaction (an erasure: several, and it
 * goes on where it was), so that this can be run again after a crash: tenants that are done do not wait any more.
 *
 * @throws PartywallError archive_damaged, key_missing, store_unavailable
 */
export async function reconcile(
  operation: Operation,
  archive: OpenArchive,
  input: ReconcileInput = {},
  options: ReconcileOptions = {},
): Promise<ReconcileReport> {
  const { pool } = operation.database;
  const ledger: Ledger = await readLedger(archive);
  const waiting = (await waitingTenants(pool)).filter(({ tier }) => input.tiers?.includes(tier) ?? true);
  const actions = planReconciliation(ledger, waiting, await presentTenants(pool));
  const failed: { tenant: string; why: string }[] = [];
  // Its keys are gone, unless what erased it was cut off; the archive stays open for the others.
  const works = options.works ?? eraseWorks(async () => ({ ...archive, close: async () => {} }));
  if (!input.dryRun) {
    for (const [at, action] of actions.entries()) {
      operation.signal?.throwIfAborted();
      await apply(operation, action, works).catch((error: unknown) => {
        if (!(error instanceof PartywallError) || error.code !== 'erasure_refused') throw error;
        failed.push({ tenant: action.tenant, why: error.message });
      });
      options.onProgress?.(at + 1, actions.length, action);
    }
  }
  const points = input.dryRun ? null : await rebuildRecoveryPoints(operation, archive);
  return { applied: !input.dryRun, ledger: ledger.number, actions, failed, waiting: (await waitingTenants(pool)).length, points };
}

interface WaitingRow {
  readonly tenant: string;
  readonly tier: Tier | null;
  readonly status: TenantStatus | null;
  readonly placement: string | null;
  readonly reason: string;
}

async function waitingTenants(pool: pg.Pool): Promise<WaitingTenant[]> {
  const { rows } = await pool.query<WaitingRow>(
    `select g.tenant_id::text as tenant, p.tier, d.status, g.placement, g.reason from partywall.registry g
left join partywall_control.directory d on d.tenant_id = g.tenant_id::text left join partywall_control.plans p on p.name = d.plan
where starts_with(g.reason, $1) and g.state = 'fenced'`,
    [recoveredPrefix],
  );
  return rows.flatMap(({ tenant, tier, status, placement, reason }) => {
    const recovered = parseRecovered(reason);
    return recovered ? [{ tenant, tier: tier ?? 'free', status: status ?? 'active', placement, recovered }] : [];
  });
}

async function presentTenants(pool: pg.Pool): Promise<ReadonlySet<string>> {
  const { rows } = await pool.query<{ tenant: string }>('select g.tenant_id::text as tenant from partywall.registry g');
  return new Set(rows.map(({ tenant }) => tenant));
}

async function apply(operation: Operation, action: ReconcileAction, works: Works): Promise<void> {
  if (action.kind === 'keep' || action.kind === 'lost') return;
  if (action.kind === 'erase') return eraseAgain(operation, action, works);
  const { model } = operation.database;
  await transaction(operation.database.pool, async (client) => {
    await client.query(setApplicationPath(model));
    await lockRoot(client, model, action.tenant);
    const { rows } = await client.query<{ reason: string | null; rootStatus: string | null }>(
      `select g.reason, d.root_status as "rootStatus" from partywall.registry g left join partywall_control.directory d on d.tenant_id = g.tenant_id::text
where g.tenant_id = $1 for update of g`,
      [action.tenant],
    );
    const recovered = parseRecovered(rows[0]?.reason ?? null);
    // Another process has done it.
    if (!recovered) return;
    await client.query('select partywall.set_state($1, $2, $3)', [action.tenant, recovered.was, recovered.reason]);
    if (action.kind === 'place') await client.query('update partywall.registry g set placement = $2 where g.tenant_id = $1', [action.tenant, action.placement]);
    if (action.status) {
      await client.query(
        'update partywall_control.directory d set status = $2, reason = $3, status_changed_at = $4, retained_until = $5 where d.tenant_id = $1',
        [action.tenant, action.status, 'from the ledger, after a restore', operation.database.clock(), action.retainedUntil ?? null],
      );
      await writeState(client, model, action.tenant, registryStates[action.status], rows[0]?.rootStatus ?? null);
    }
    await appendAudit(client, operation, {
      tenant: action.tenant,
      action: 'tenant.reconcile',
      reason: action.why,
      details: { backup: recovered.backup, was: recovered.was, did: action.kind, ...(action.status && { to: action.status }) },
    });
  });
}

/** The hold that the backup may have is older than the erasure, which no hold stood against. */
async function eraseAgain(operation: Operation, { tenant, why }: ReconcileAction, works: Works): Promise<void> {
  const { database } = operation;
  await database.pool.query('update partywall_control.directory d set hold_reason = null, held_at = null where d.tenant_id = $1 and d.held_at is not null', [
    tenant,
  ]);
  const durable = inProcess(database, works);
  const { id } = await eraseTenant(operation, durable, { tenant, force: true, reason: why });
  const ended = await awaitOperation(operation, id, { timeoutMs: erasureTimeoutMs });
  if (ended.state !== 'done') throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)} again: ${ended.error ?? ended.state}`);
}
