import type { PlanTier } from '../../metering/plans.ts';
import { tierPromises } from '../../metering/tiers.ts';
import type { BackupSettings } from '../schedule/settings.ts';
import { slotBegin } from '../schedule/slots.ts';

/**
 * What a verified backup stands for. Every one is `recent`; the first one of everything in a day, a week, a month (each begins at 02:00 UTC)
 * stands for that too, also where the run was late. One backup can stand for all four.
 */
export const keepClasses = ['recent', 'daily', 'weekly', 'monthly'] as const;
export type KeepClass = (typeof keepClasses)[number];

/** Days between two backups of a class, at most: none is kept shorter than that. */
const intervalDays: Readonly<Record<KeepClass, number>> = { recent: 1 / 24, daily: 1, weekly: 7, monthly: 31 };
/** Days that a class is kept, whoever it is of: 30 days, 30 days, 12 weeks, 12 months. */
const ownDays: Readonly<Record<KeepClass, number>> = { recent: 30, daily: 30, weekly: 84, monthly: 366 };

const dayMs = 24 * 3_600_000;

/** Whose segments: a tenant of a tier; null: what belongs to no tenant, or to one that nobody knows any more. */
export type Holder = PlanTier | null;

/** How long backups of a class are kept for somebody: a function of the settings. */
export function keepPeriods(settings: BackupSettings): (of: KeepClass, holder: Holder) => number {
  const tiers = Object.entries(tierPromises).map(([tier, { backupRetentionDays }]) => {
    const set = Object.entries(settings.retentionDays).find(([name]) => name === tier)?.[1] ?? 0;
    return [tier, Math.max(backupRetentionDays, set)] as const;
  });
  // What belongs to no tenant is needed to read what does.
  const longest = Math.max(ownDays.monthly, ...tiers.map(([, days]) => days));
  const reach = new Map<Holder | string, number>([...tiers, [null, longest]]);
  return (of, holder) => {
    const own = of === 'recent' || of === 'daily' ? settings.recentDays : ownDays[of];
    return daysKept(of, own, settings.tierAware ? (reach.get(holder) ?? longest) : longest);
  };
}

/**
 * Days that a class is kept where backups are promised to reach `reach` days back: its own, cut to that, never below its interval. A class that
 * would end less than one interval before the promise lasts to it, and so do the monthly ones: otherwise nothing would be there to keep it.
 */
function daysKept(of: KeepClass, own: number, reach: number): number {
  const lasts = own >= reach || of === 'monthly' || reach - own < intervalDays[of] ? reach : own;
  return Math.max(intervalDays[of], lasts);
}

/** When a backup of `at` that stands for these classes is no longer needed. */
export function keptUntil(at: Date, classes: readonly KeepClass[], days: (of: KeepClass) => number): Date {
  return new Date(at.getTime() + Math.max(0, ...classes.map(days)) * dayMs);
}

/** What a plan knows of a backup without opening it. */
export interface BackupFacts {
  readonly id: string;
  /** When its snapshot was taken. */
  readonly at: Date;
  /** Whether it holds everybody. */
  readonly whole: boolean;
  /** Null: not verified, or no longer. */
  readonly verifiedAt: Date | null;
}

/** What each verified backup stands for. The first of a slot is the earliest snapshot; of equal ones, the lower id. */
export function classesOf(backups: readonly BackupFacts[]): ReadonlyMap<string, readonly KeepClass[]> {
  const classes = new Map<string, KeepClass[]>();
  const taken = new Set<string>();
  for (const backup of backups.filter(({ verifiedAt }) => verifiedAt !== null).toSorted(byTime)) {
    const stands: KeepClass[] = ['recent'];
    for (const name of ['daily', 'weekly', 'monthly'] as const) {
      const slot = `${name} ${slotBegin(name, backup.at).getTime()}`;
      if (!backup.whole || taken.has(slot)) continue;
      taken.add(slot);
      stands.push(name);
    }
    classes.set(backup.id, stands);
  }
  return classes;
}

export function byTime(a: BackupFacts, b: BackupFacts): number {
  return a.at.getTime() - b.at.getTime() || (a.id < b.id ? -1 : Number(a.id > b.id));
}
