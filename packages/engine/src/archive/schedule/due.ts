import type { PlanTier } from '../../metering/plans.ts';
import { tierPromises } from '../../metering/tiers.ts';
import { type DataClass, dataClasses } from '../format/manifest.ts';

/** What is to be backed up of one subject, and how it stands: pure, and the same for schedule and status. */

/** A tenant of the directory; null: what belongs to no tenant. */
export interface Protected {
  readonly tenant: string | null;
  readonly tier: PlanTier;
  /** Suspended, cancelled and deleted tenants write nothing: what was backed up since then stays good. */
  readonly quietSince: Date | null;
  /** When it came, or when the archive did, whichever is later: what there is to lose is at most that old. */
  readonly since: Date;
  /** The last verified recovery point of each data class. */
  readonly points: Readonly<Partial<Record<DataClass, RecoveryPoint>>>;
}

export interface RecoveryPoint {
  readonly backup: string;
  readonly at: Date;
}

/** `due`: the next backup takes it. `late`: its last recovery point is older than promised. `never`: there is none, for longer than promised. */
export const recoveryStates = ['ok', 'due', 'late', 'never'] as const;
export type RecoveryState = (typeof recoveryStates)[number];

export interface Standing {
  readonly class: DataClass;
  readonly state: RecoveryState;
  readonly rpoSeconds: number;
  readonly backup: string | null;
  readonly at: Date | null;
  /** When the next backup is to be made; null: nobody writes there, and what is there is backed up. */
  readonly nextDue: Date | null;
}

export interface Clockwork {
  readonly now: Date;
  /** How long backups take: they begin that much earlier. */
  readonly runSeconds: number;
}

/** A recovery point that lies further in the future than this was made under a clock that is wrong: it says nothing about now. */
export const skewSecondsMax = 300;
/** Runs begin this much before the promise ends, at the least: two ticks of the schedule. */
const marginSecondsMin = 600;

/** Which data classes count: of those that no backup ever held, the database alone. */
export function watchedClasses(held: ReadonlySet<DataClass>): DataClass[] {
  return dataClasses.filter((name) => name === 'database' || held.has(name));
}

export function standingOf(subject: Protected, name: DataClass, clock: Clockwork): Standing {
  const { rpoSeconds: promises } = tierPromises[subject.tier];
  const rpoSeconds = promises[name];
  const point = believed(subject.points[name], clock.now);
  const base = { class: name, rpoSeconds, backup: point?.backup ?? null, at: point?.at ?? null };
  if (!point) {
    const ended = addSeconds(subject.since, rpoSeconds) < clock.now;
    return { ...base, state: ended ? 'never' : 'due', nextDue: clock.now };
  }
  if (subject.quietSince !== null && point.at > subject.quietSince) return { ...base, state: 'ok', nextDue: null };
  const nextDue = addSeconds(point.at, rpoSeconds - margin(rpoSeconds, clock.runSeconds));
  const late = addSeconds(point.at, rpoSeconds) < clock.now;
  return { ...base, state: late ? 'late' : nextDue <= clock.now ? 'due' : 'ok', nextDue };
}

/** The worst of them. */
export function worstState(states: readonly RecoveryState[]): RecoveryState {
  return recoveryStates[Math.max(0, ...states.map((state) => recoveryStates.indexOf(state)))] ?? 'ok';
}

/** How much earlier than promised: a tenth of the promise and twice what a run takes, but never more than half. */
export function margin(rpoSeconds: number, runSeconds: number): number {
  return Math.min(rpoSeconds / 2, Math.max(marginSecondsMin, rpoSeconds / 10 + 2 * runSeconds));
}

/** Undefined for a point that is none. */
export function believed(point: RecoveryPoint | undefined, now: Date): RecoveryPoint | undefined {
  return point && point.at <= addSeconds(now, skewSecondsMax) ? point : undefined;
}

export function addSeconds(at: Date, seconds: number): Date {
  return new Date(at.getTime() + seconds * 1000);
}
