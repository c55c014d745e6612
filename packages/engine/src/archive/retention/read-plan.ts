import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { Archive } from '../archive.ts';
import { openBackup } from '../read/open-backup.ts';
import type { BackupSettings } from '../schedule/settings.ts';
import { readHistory } from './history.ts';
import { readHolders } from './holders.ts';
import { type BackupVerdict, retentionPlanner } from './plan.ts';
import { emptyReach, type Reach } from './reach.ts';

export interface ReadPlan {
  /** Newest first. */
  readonly verdicts: readonly PlannedBackup[];
  readonly countedFrom: Date | null;
  /** What is reached by the backups once the plan is carried out. */
  readonly reach: Reach;
  /** What could not be read, a line each: what it reaches is not known, so nothing is deleted. */
  readonly problems: readonly string[];
}

export interface PlannedBackup extends BackupVerdict {
  /** How many records of retired subjects it has: the number of the next one. */
  readonly records: number;
}

/**
 * Reads what the archive holds and decides what becomes of it. One manifest is in memory at a time; what stays is a line for each backup, the refs that are
 * to be retired, and the reach.
 *
 * @throws PartywallError store_unavailable, store_refused
 */
export async function readPlan(operation: Operation, archive: Archive, settings: BackupSettings): Promise<ReadPlan> {
  const holders = await readHolders(operation, archive.keys);
  const history = await readHistory(archive);
  const planner = retentionPlanner({ backups: history.backups, holders, now: operation.database.clock(), settings });
  const known = new Map(history.backups.map((backup) => [backup.id, backup]));
  const names = new Map([...holders.keys()].map((ref) => [ref, ref]));
  const reach = emptyReach();
  const problems = [...history.problems];
  const verdicts: PlannedBackup[] = [];
  for (const facts of planner.order) {
    operation.signal?.throwIfAborted();
    try {
      const { subjects, sha256 } = await openBackup(archive, facts.id);
      const verified = known.get(facts.id)?.manifest ?? null;
      if (verified !== null && verified !== sha256) problems.push(`the manifest of backup ${facts.id} is not the one that was verified`);
      // The same text once, however many manifests hold it.
      const verdict = planner.judge(
        facts,
        [...subjects.keys()].map((ref) => names.get(ref) ?? ref),
      );
      verdicts.push({ ...verdict, records: known.get(facts.id)?.retired ?? 0 });
      if (!verdict.keep) continue;
      const retired = new Set(verdict.retired);
      reach.add([...subjects.values()].filter(({ subject }) => !retired.has(subject)));
    } catch (error) {
      if (!(error instanceof PartywallError)) throw error;
      // Removed by another run since it was listed.
      if (error.code === 'backup_unknown') continue;
      if (!unreadable.has(error.code)) throw error;
      problems.push(error.message);
    }
  }
  return { verdicts, countedFrom: planner.countedFrom, reach, problems };
}

const unreadable: ReadonlySet<string> = new Set(['archive_damaged', 'archive_foreign', 'store_object_missing']);
