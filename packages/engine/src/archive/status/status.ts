import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { PlanTier } from '../../metering/plans.ts';
import { heldClasses, type ProtectedTenant, protectedPlatform, protectedTenants, runSeconds } from '../schedule/circumstances.ts';
import { platformTier } from '../schedule/decide.ts';
import { type Clockwork, type Protected, type RecoveryState, recoveryStates, type Standing, standingOf, watchedClasses, worstState } from '../schedule/due.ts';
import { type BackupSettings, defaultBackupSettings } from '../schedule/settings.ts';

/** How each tenant stands against what its tier promises. */
export interface RecoveryStatus {
  readonly at: string;
  /** When the schedule last looked; null: never. */
  readonly scheduleRanAt: string | null;
  /** Whether the schedule should have looked since. */
  readonly scheduleStopped: boolean;
  readonly platform: SubjectStatus;
  /** Tenants that were looked at, of all there are. */
  readonly visited: number;
  readonly tenants: number;
  /** Tenants by their worst data class. */
  readonly counts: Readonly<Record<RecoveryState, number>>;
  /** The tenants that were asked for, in the order of their keys. */
  readonly items: readonly TenantStatus[];
  /** Whether there are more than were asked for. */
  readonly more: boolean;
}

export interface SubjectStatus {
  readonly tier: PlanTier;
  /** Of its worst data class. */
  readonly state: RecoveryState;
  readonly classes: readonly ClassStatus[];
}

export interface TenantStatus extends SubjectStatus {
  readonly tenant: string;
  readonly name: string;
  readonly status: string;
  /** The recovery point that a drill restored last, and found whole: what is known to be restorable. */
  readonly proved: { readonly backup: string; readonly at: string; readonly provedAt: string } | null;
}

/** Times are ISO 8601 in UTC. */
export interface ClassStatus {
  readonly class: Standing['class'];
  readonly state: RecoveryState;
  readonly rpoSeconds: number;
  /** The last verified backup of it, and when its rows were so. */
  readonly backup: string | null;
  readonly at: string | null;
  readonly nextDue: string | null;
}

export interface StatusInput {
  /** Only tenants in these states; all are counted. Default: all. */
  readonly states?: readonly RecoveryState[] | undefined;
  readonly limit: number;
  /** Key of the last tenant of the page before. */
  readonly after?: string | undefined;
  readonly settings?: BackupSettings | undefined;
}

/** The schedule looks every five minutes; three times missed is no hiccup. */
const scheduleSilenceMaxMs = 15 * 60_000;

/** Whether anything is not as promised: what a monitor asks. */
export function isLate({ platform, counts, scheduleStopped }: RecoveryStatus): boolean {
  return scheduleStopped || counts.late + counts.never > 0 || platform.state === 'late' || platform.state === 'never';
}

export async function recoveryStatus(operation: Operation, input: StatusInput): Promise<RecoveryStatus> {
  const { states = recoveryStates, limit, after = '', settings = defaultBackupSettings } = input;
  const { database } = operation;
  const clock: Clockwork = { now: database.clock(), runSeconds: await runSeconds(operation) };
  const classes = watchedClasses(await heldClasses(operation));
  const counts = { ok: 0, due: 0, late: 0, never: 0 };
  const items: TenantStatus[] = [];
  const active = new Set<PlanTier>();
  let visited = 0;
  let more = false;
  for await (const tenant of protectedTenants(operation)) {
    visited += 1;
    if (tenant.quietSince === null) active.add(tenant.tier);
    const status = statusOfTenant(tenant, classes, clock);
    counts[status.state] += 1;
    if (!states.includes(status.state) || Buffer.compare(Buffer.from(status.tenant), Buffer.from(after)) <= 0) continue;
    if (items.length < limit) items.push(status);
    else more = true;
  }
  const total = await database.pool.query<{ tenants: number }>(
    "select count(*)::integer as tenants from partywall_control.directory where status <> 'erasing'",
  );
  const schedule = await database.pool.query<{ ticked_at: Date | null }>('select s.ticked_at from partywall_control.backup_schedule s');
  const ranAt = schedule.rows[0]?.ticked_at ?? null;
  return {
    at: clock.now.toISOString(),
    scheduleRanAt: ranAt?.toISOString() ?? null,
    scheduleStopped: ranAt !== null && clock.now.getTime() - ranAt.getTime() > scheduleSilenceMaxMs,
    platform: statusOf(await protectedPlatform(operation, platformTier(settings, active)), classes, clock),
    visited,
    tenants: total.rows[0]?.tenants ?? 0,
    counts,
    items,
    more,
  };
}

/** One tenant's recovery points. @throws PartywallError tenant_unknown */
export async function tenantRecoveryStatus(operation: Operation, tenant: string): Promise<TenantStatus> {
  const clock: Clockwork = { now: operation.database.clock(), runSeconds: await runSeconds(operation) };
  const classes = watchedClasses(await heldClasses(operation));
  for await (const found of protectedTenants(operation, tenant)) return statusOfTenant(found, classes, clock);
  throw new PartywallError('tenant_unknown', `looking for the recovery points of tenant ${JSON.stringify(tenant.slice(0, 100))}`);
}

function statusOfTenant(tenant: ProtectedTenant, classes: readonly Standing['class'][], clock: Clockwork): TenantStatus {
  const { name, status, proved } = tenant;
  return {
    tenant: tenant.tenant ?? '',
    name,
    status,
    proved: proved && { backup: proved.backup, at: proved.at.toISOString(), provedAt: proved.provedAt.toISOString() },
    ...statusOf(tenant, classes, clock),
  };
}

function statusOf(subject: Protected, classes: readonly Standing['class'][], clock: Clockwork): SubjectStatus {
  const standings = classes.map((name) => standingOf(subject, name, clock));
  return { tier: subject.tier, state: worstState(standings.map(({ state }) => state)), classes: standings.map(classOf) };
}

function classOf({ at, nextDue, ...standing }: Standing): ClassStatus {
  return { ...standing, at: at?.toISOString() ?? null, nextDue: nextDue?.toISOString() ?? null };
}
