import type { DataClass } from '../format/manifest.ts';
import type { BackupSettings } from '../schedule/settings.ts';
import { type BackupFacts, byTime, classesOf, type Holder, type KeepClass, keepPeriods, keptUntil } from './periods.ts';

/**
 * Decides which backups are kept, and in each of them which subjects: a pure function of what the archive holds.
 *
 * Time is counted from the newest verified backup, or from the clock where that is earlier. So nothing expires while no backup succeeds, and a clock
 * that is wrong removes nothing.
 */
export interface RetentionInput {
  readonly backups: readonly RetainedBackup[];
  /** Tier of a subject, by ref; of refs that are not here (a tenant that is gone, another keyring's) the longest period holds. */
  readonly holders: ReadonlyMap<string, SubjectHolder>;
  readonly now: Date;
  readonly settings: BackupSettings;
  /** Verified backups that stay whatever their age: of everything, and of each subject that is known. */
  readonly floor?: number;
}

export interface RetainedBackup extends BackupFacts {
  readonly classes: readonly DataClass[];
}

export interface SubjectHolder {
  readonly holder: Holder;
  /** Nothing of it is removed. */
  readonly legalHold: boolean;
}

/** What becomes of a backup, and why. */
export interface BackupVerdict {
  readonly id: string;
  readonly at: Date;
  readonly verified: boolean;
  readonly standsFor: readonly KeepClass[];
  readonly keep: boolean;
  /** When its last subject is no longer needed; later where the floor or a hold keeps it. */
  readonly until: Date;
  readonly reasons: readonly string[];
  /** Subjects that are still needed. */
  readonly kept: number;
  /** Subjects that are not: refs, in the order given. */
  readonly retired: readonly string[];
}

export const floorDefault = 3;
/** An archive of more backups than this is one whose retention never ran. */
export const backupsMax = 100_000;

export interface RetentionPlanner {
  /** Newest first: that is how they are to be judged. */
  readonly order: readonly RetainedBackup[];
  /** From when the periods are counted; null: nothing is verified, so nothing goes. */
  readonly countedFrom: Date | null;
  /** What becomes of the next backup of `order`, which holds these subjects. */
  judge(backup: RetainedBackup, subjects: readonly string[]): BackupVerdict;
  /** How long a subject of a verified backup is needed: what its objects are locked until. */
  until(backup: RetainedBackup, subject: string): Date;
}

/** A planner, because the subjects of all backups together are more than is held in memory: they come one backup at a time. */
export function retentionPlanner({ backups, holders, now, settings, floor = floorDefault }: RetentionInput): RetentionPlanner {
  const order = backups.toSorted((a, b) => byTime(b, a));
  const standing = classesOf(backups);
  const days = keepPeriods(settings);
  const newest = order.find(({ verifiedAt }) => verifiedAt !== null);
  const countedFrom = newest ? new Date(Math.min(now.getTime(), newest.at.getTime())) : null;
  const wholes = new Set(
    order
      .filter(({ whole, verifiedAt }) => whole && verifiedAt !== null)
      .slice(0, floor)
      .map(({ id }) => id),
  );
  const counted = new FloorCount(floor);
  const untilByHolder = (backup: RetainedBackup): ((holder: Holder) => Date) => {
    const known = new Map<Holder, Date>();
    return (holder) => {
      const found = known.get(holder) ?? keptUntil(backup.at, standing.get(backup.id) ?? ['recent'], (of) => days(of, holder));
      known.set(holder, found);
      return found;
    };
  };
  return {
    order,
    countedFrom,
    until: (backup, subject) => untilByHolder(backup)(holders.get(subject)?.holder ?? null),
    judge: (backup, subjects) => {
      const verified = backup.verifiedAt !== null;
      // What is not verified counts for nothing, and goes after its time like everything else: somebody may want to see why it failed.
      const untilOf = untilByHolder(backup);
      const standsFor = standing.get(backup.id) ?? [];
      const wholeFloor = wholes.has(backup.id);
      const why = { period: 0, floor: 0, hold: 0 };
      let until = untilOf(null);
      let kept = 0;
      const retired: string[] = [];
      for (const ref of subjects) {
        const known = holders.get(ref);
        // Counted for all, so that newer backups are counted before older ones are asked for.
        const onFloor = verified && known !== undefined && counted.keeps(ref, backup.classes);
        const ends = untilOf(known?.holder ?? null);
        if (ends > until) until = ends;
        const reason = known?.legalHold ? 'hold' : onFloor || wholeFloor ? 'floor' : countedFrom === null || ends > countedFrom ? 'period' : undefined;
        if (reason === undefined) retired.push(ref);
        else {
          why[reason] += 1;
          kept += 1;
        }
      }
      const keep = kept > 0 || wholeFloor || countedFrom === null;
      return {
        id: backup.id,
        at: backup.at,
        verified,
        standsFor,
        keep,
        until,
        kept,
        retired,
        reasons: reasonsOf({ verified, standsFor, until, why, keep, floor }),
      };
    },
  };
}

/** All of it at once, for archives whose subjects fit into memory, and for tests. */
export function planRetention(input: RetentionInput, subjectsOf: (backup: RetainedBackup) => readonly string[]): BackupVerdict[] {
  const planner = retentionPlanner(input);
  return planner.order.map((backup) => planner.judge(backup, subjectsOf(backup)));
}

/** How many verified backups of each subject and data class were met, newest first. */
class FloorCount {
  readonly #floor: number;
  readonly #met = new Map<string, Map<DataClass, number>>();

  constructor(floor: number) {
    this.#floor = floor;
  }

  /** Whether this one is among the newest of the subject, in any of its data classes. */
  keeps(subject: string, classes: readonly DataClass[]): boolean {
    const met = this.#met.get(subject) ?? new Map<DataClass, number>();
    this.#met.set(subject, met);
    let keeps = false;
    for (const name of classes) {
      const before = met.get(name) ?? 0;
      met.set(name, before + 1);
      if (before < this.#floor) keeps = true;
    }
    return keeps;
  }
}

interface Why {
  readonly verified: boolean;
  readonly standsFor: readonly KeepClass[];
  readonly until: Date;
  readonly why: { readonly period: number; readonly floor: number; readonly hold: number };
  readonly keep: boolean;
  readonly floor: number;
}

function reasonsOf({ verified, standsFor, until, why, keep, floor }: Why): string[] {
  const what = verified ? standsFor.join(', ') : 'not verified, so it counts for nothing';
  const subjects = (count: number): string => (count === 1 ? '1 subject' : `${count} subjects`);
  return [
    keep ? `${what}: until ${until.toISOString()} at the longest` : `${what}: not needed since ${until.toISOString()}`,
    ...(why.period > 0 ? [`${subjects(why.period)} within the period`] : []),
    ...(why.floor > 0 ? [`${subjects(why.floor)} because it is among the ${floor} newest verified`] : []),
    ...(why.hold > 0 ? [`${subjects(why.hold)} under a legal hold`] : []),
  ];
}
