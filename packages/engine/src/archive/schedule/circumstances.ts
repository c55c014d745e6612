import type { Operation } from '../../db/operation.ts';
import type { PlanTier } from '../../metering/plans.ts';
import { type DataClass, dataClasses } from '../format/manifest.ts';
import { type Circumstances, platformTier } from './decide.ts';
import { type Protected, type RecoveryPoint, watchedClasses } from './due.ts';
import type { BackupSettings } from './settings.ts';

/** A tenant with its recovery points, as the directory and the recovery points have it. */
export interface ProtectedTenant extends Protected {
  readonly name: string;
  readonly status: string;
  /** The recovery point that a drill restored last, and found whole. */
  readonly proved: ProvedPoint | null;
}

export interface ProvedPoint extends RecoveryPoint {
  readonly provedAt: Date;
}

interface TenantRow {
  readonly tenant_id: string;
  readonly name: string;
  readonly status: string;
  readonly tier: PlanTier;
  readonly status_changed_at: Date;
  readonly since: Date;
  readonly points: PointRow[] | null;
  readonly proved: { readonly backup: string; readonly at: string; readonly provedAt: string } | null;
}

interface PointRow {
  readonly class: DataClass;
  readonly backup: string;
  readonly at: string;
}

/** Who is being erased is no longer backed up. */
const tenantsSql = `select d.tenant_id, d.name, d.status, p.tier, d.status_changed_at, greatest(d.created_at, coalesce(s.since, $1)) as since,
  (select jsonb_agg(jsonb_build_object('class', r.class, 'backup', r.backup, 'at', r.at)) from partywall_control.recovery_points r where r.tenant_id = d.tenant_id) as points,
  (select jsonb_build_object('backup', v.backup, 'at', v.at, 'provedAt', v.proved_at) from partywall_control.proved_points v where v.tenant_id = d.tenant_id) as proved
from partywall_control.directory d join partywall_control.plans p on p.name = d.plan left join partywall_control.backup_schedule s on true
where d.status <> 'erasing' and d.tenant_id collate "C" > $2 and ($4::text is null or d.tenant_id = $4) order by d.tenant_id collate "C" limit $3`;
const platformSql = 'select r.class, r.backup, r.at from partywall_control.recovery_points r where r.tenant_id is null';
const failuresSql = `select count(*)::integer as count, max(r.finished_at) as "lastAt" from partywall_control.backup_runs r
where r.state = 'failed' and r.started_at > coalesce((select max(v.started_at) from partywall_control.backup_runs v where v.state = 'verified'), '-infinity')`;
/** Of backups of everything, of late. */
const durationSql = `select coalesce(max(extract(epoch from t.verified_at - t.started_at)), 0)::double precision as seconds from (
  select r.started_at, r.verified_at from partywall_control.backup_runs r where r.state = 'verified' and r.scope = 'all' order by r.started_at desc limit 5) t`;
/** A run that took longer was away, not at work. */
const runSecondsMax = 6 * 3_600;

const pageTenants = 1_000;

/** All tenants in the order of the bytes of their keys, a page at a time; or one. */
export async function* protectedTenants({ database, signal }: Operation, tenant?: string): AsyncGenerator<ProtectedTenant> {
  for (let after = ''; ; ) {
    signal?.throwIfAborted();
    const { rows } = await database.pool.query<TenantRow>(tenantsSql, [database.clock(), after, pageTenants, tenant ?? null]);
    yield* rows.map(protectedOf);
    const last = rows.at(-1);
    if (!last || rows.length < pageTenants) return;
    after = last.tenant_id;
  }
}

/** Data classes that any recovery point is of. */
export async function heldClasses({ database }: Operation): Promise<ReadonlySet<DataClass>> {
  const { rows } = await database.pool.query<{ class: DataClass }>('select distinct r.class from partywall_control.recovery_points r');
  return new Set(rows.map((row) => row.class));
}

/** What belongs to no tenant, under the promise of `tier`. */
export async function protectedPlatform({ database }: Operation, tier: PlanTier): Promise<Protected> {
  const { rows } = await database.pool.query<{ class: DataClass; backup: string; at: Date }>(platformSql);
  const since = await database.pool.query<{ since: Date }>('select s.since from partywall_control.backup_schedule s');
  const points = rows.map((row): [DataClass, RecoveryPoint] => [row.class, { backup: row.backup, at: row.at }]);
  return { tenant: null, tier, quietSince: null, since: since.rows[0]?.since ?? database.clock(), points: Object.fromEntries(points) };
}

/** How long backups took of late, in seconds. */
export async function runSeconds({ database }: Operation): Promise<number> {
  const { rows } = await database.pool.query<{ seconds: number }>(durationSql);
  return Math.min(runSecondsMax, rows[0]?.seconds ?? 0);
}

/** What `decideBackup` decides from. */
export async function readCircumstances(operation: Operation, settings: BackupSettings): Promise<Circumstances> {
  const tenants: ProtectedTenant[] = [];
  for await (const each of protectedTenants(operation)) tenants.push(each);
  const active = tenants.filter(({ quietSince }) => quietSince === null).map(({ tier }) => tier);
  const platform = await protectedPlatform(operation, platformTier(settings, active));
  const failures = await operation.database.pool.query<{ count: number; lastAt: Date | null }>(failuresSql);
  return {
    now: operation.database.clock(),
    runSeconds: await runSeconds(operation),
    settings,
    subjects: [platform, ...tenants],
    classes: watchedClasses(await heldClasses(operation)),
    failures: failures.rows[0] ?? { count: 0, lastAt: null },
  };
}

function protectedOf({ tenant_id, name, status, tier, status_changed_at, since, points, proved }: TenantRow): ProtectedTenant {
  const known = (points ?? []).filter((point) => dataClasses.includes(point.class));
  return {
    tenant: tenant_id,
    name,
    status,
    tier,
    quietSince: status === 'active' ? null : status_changed_at,
    since,
    points: Object.fromEntries(known.map((point) => [point.class, { backup: point.backup, at: new Date(point.at) }])),
    proved: proved && { backup: proved.backup, at: new Date(proved.at), provedAt: new Date(proved.provedAt) },
  };
}
