import type { PlanTier } from '../../metering/plans.ts';
import type { DataClass } from '../format/manifest.ts';
import { addSeconds, believed, type Clockwork, type Protected, standingOf } from './due.ts';
import type { BackupSettings } from './settings.ts';
import { nextSlot, slotBegin } from './slots.ts';

/**
 * Decides whether a backup is to be made now, of whom, and why: a pure function.
 *
 * Everything is backed up daily at 02:00. Beside that, each tenant is backed up when its next recovery point is due, counted from its last verified
 * one, and everything as often as the highest active tier asks, every six hours at the least.
 */
export interface Circumstances extends Clockwork {
  readonly settings: BackupSettings;
  /** Every tenant, and what belongs to none. */
  readonly subjects: readonly Protected[];
  /** Data classes that are watched; a backup holds all that there are. */
  readonly classes: readonly DataClass[];
  /** Backups that failed since the last verified one, and when the last of them ended. */
  readonly failures: { readonly count: number; readonly lastAt: Date | null };
}

export interface BackupDecision {
  /** Undefined: nothing is due. */
  readonly run: PlannedRun | undefined;
  /** When to look again, at the latest. */
  readonly next: Date;
  /** One line each, for people. */
  readonly reasons: readonly string[];
}

export interface PlannedRun {
  /** Undefined: everybody, and what belongs to nobody. */
  readonly tenants: readonly string[] | undefined;
  /** One line, for the manifest. */
  readonly reason: string;
  /** Whether everything that it reaches is read back before it counts: once a week, because unchanged segments are stored once and never looked at again. */
  readonly readData: boolean;
}

/** More tenants than this, or than half of them, are backed up with everything: one pass over each table is cheaper than many look-ups. */
const tenantsMax = 1_000;
const tenantsShareMax = 0.5;
/** Who is due within this share of its promise joins a run that is made anyway. */
const joinShare = 0.25;
/** After failures the schedule waits twice as long each time. */
const retrySecondsFirst = 300;
const retrySecondsMax = 3_600;
const reasonsMax = 20;

/** How often the highest tier among these asks for backups: what `adaptive` follows. */
export function frequencyOf(tiers: Iterable<PlanTier>): 'hourly' | '6hourly' | 'daily' {
  const present = new Set(tiers);
  if (present.has('enterprise')) return 'hourly';
  if (present.has('pro')) return '6hourly';
  // For free tenants alone the table says weekly and the crontab daily: the stricter holds.
  return 'daily';
}

/**
 * Whose promise is kept for what belongs to no tenant, and so by backups of everything: after the whole database is lost, these are what there is.
 * `adaptive` is as often as the highest active tier asks, and every six hours at the least, as another document has it.
 */
export function platformTier({ frequency, tierAware }: BackupSettings, active: Iterable<PlanTier>): PlanTier {
  const wanted = frequency !== 'adaptive' ? frequency : tierAware && frequencyOf(active) === 'hourly' ? 'hourly' : '6hourly';
  return wanted === 'hourly' ? 'enterprise' : wanted === '6hourly' ? 'pro' : 'starter';
}

export function decideBackup(circumstances: Circumstances): BackupDecision {
  const { now, subjects, failures } = circumstances;
  const nightly = slotBegin('daily', now);
  // Of what belongs to no tenant: only backups of everything hold that.
  const platform = subjects.find(({ tenant }) => tenant === null);
  const lastWhole = believed(platform?.points.database, now);
  const missed = lastWhole === undefined || lastWhole.at < nightly;
  const readData = lastWhole === undefined || lastWhole.at < slotBegin('weekly', now);
  const due = dueTenants(circumstances);
  const next = earliest([nextSlot('daily', now), ...due.next]);
  if (!missed && due.now.length === 0) return { run: undefined, next, reasons: [`nothing is due before ${next.toISOString()}`] };

  const waitsUntil = retryAt(failures);
  if (waitsUntil !== undefined && waitsUntil > now) {
    return {
      run: undefined,
      next: waitsUntil,
      reasons: [`${failures.count} backups in a row have failed: the next one is tried at ${waitsUntil.toISOString()}`],
    };
  }
  if (missed) return { run: { tenants: undefined, reason: 'schedule: daily', readData }, next, reasons: [`daily backup of ${nightly.toISOString()}`] };
  const reasons = due.now.slice(0, reasonsMax).map(({ tenant, why }) => `${tenant ?? 'what belongs to no tenant'}: ${why}`);
  if (due.now.length > reasonsMax) reasons.push(`and ${due.now.length - reasonsMax} more`);
  const tenants = [...due.now, ...due.joining].flatMap(({ tenant }) => tenant ?? []);
  const everybody = tenants.length > tenantsMax || tenants.length > subjects.length * tenantsShareMax || due.now.some(({ tenant }) => tenant === null);
  const what = everybody ? 'everything' : tenants.length === 1 ? '1 tenant' : `${tenants.length} tenants`;
  return {
    run: { tenants: everybody ? undefined : tenants, reason: `schedule: ${what} due by tier`, readData: everybody && readData },
    next,
    reasons,
  };
}

interface DueTenant {
  readonly tenant: string | null;
  readonly why: string;
}

function dueTenants(circumstances: Circumstances): { now: DueTenant[]; joining: DueTenant[]; next: Date[] } {
  const { subjects, classes, now, settings } = circumstances;
  const found: { now: DueTenant[]; joining: DueTenant[]; next: Date[] } = { now: [], joining: [], next: [] };
  for (const subject of subjects.filter(({ tenant }) => settings.tierAware || tenant === null)) {
    const { tenant, tier } = subject;
    const standings = classes.map((name) => standingOf(subject, name, circumstances));
    const overdue = standings.filter(({ nextDue }) => nextDue !== null && nextDue <= now);
    const soon = standings.filter(({ nextDue, rpoSeconds }) => nextDue !== null && nextDue <= addSeconds(now, rpoSeconds * joinShare));
    const why = overdue.map(
      (standing) => `${standing.class} of tier ${tier}, ${standing.at === null ? 'never backed up' : `last ${standing.at.toISOString()}`}`,
    );
    if (overdue.length > 0) found.now.push({ tenant, why: why.join('; ') });
    else if (soon.length > 0) found.joining.push({ tenant, why: 'due soon' });
    found.next.push(...standings.flatMap(({ nextDue }) => (nextDue !== null && nextDue > now ? [nextDue] : [])));
  }
  return found;
}

/** `Math.min` of an array's elements, of which there may be more than a call takes arguments. */
function earliest(times: readonly Date[]): Date {
  return new Date(times.reduce((least, at) => Math.min(least, at.getTime()), Number.POSITIVE_INFINITY));
}

function retryAt({ count, lastAt }: Circumstances['failures']): Date | undefined {
  if (count === 0 || lastAt === null) return undefined;
  return addSeconds(lastAt, Math.min(retrySecondsMax, retrySecondsFirst * 2 ** Math.min(count - 1, 10)));
}
