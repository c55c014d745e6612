import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { signingKey } from '../../keyring/signing.ts';
import { type Archive, isBackupId, manifestObject, retiredObject } from '../archive.ts';
import { signRecord } from '../format/record.ts';
import { ensureIdentity } from '../identity.ts';
import { backupIds } from '../read/list-backups.ts';
import { openBackup } from '../read/open-backup.ts';
import { type BackupSettings, defaultBackupSettings } from '../schedule/settings.ts';
import { type PlannedBackup, type ReadPlan, readPlan } from './read-plan.ts';
import { graceHoursDefault, type SweepReport, sweep } from './sweep.ts';

export interface RetentionOptions {
  /** Only says what would happen. */
  readonly dryRun?: boolean | undefined;
  readonly settings?: BackupSettings | undefined;
  /** How long an object that nothing reaches is kept: longer than the longest backup. Default: 24. */
  readonly graceHours?: number | undefined;
}

/** What was removed, or would be, and why. Every backup of the archive is in it. */
export interface RetentionReport {
  readonly dryRun: boolean;
  /** The newest verified backup: from there the periods are counted. Null: there is none, and nothing goes. */
  readonly countedFrom: string | null;
  readonly backups: readonly RetentionLine[];
  /** Backups that went, and tenants that went out of backups that stay. */
  readonly removed: number;
  readonly retired: number;
  /** Null: a dry run, or something could not be read. */
  readonly swept: SweepReport | null;
  /** What stayed although it is not needed, and what could not be read: then nothing goes. */
  readonly problems: readonly string[];
}

export interface RetentionLine {
  readonly id: string;
  readonly at: string;
  readonly verified: boolean;
  readonly standsFor: readonly string[];
  readonly keep: boolean;
  readonly until: string;
  readonly kept: number;
  readonly retired: number;
  readonly reasons: readonly string[];
}

/** Subjects of one record; more make more records. */
const subjectsPerRecord = 50_000;

/**
 * Carries the plan out. In this order, so that at no point a manifest reaches what is not there without saying so: records of retired subjects, the
 * manifests of backups that go, and only then, after a grace, what nothing reaches any more. It can be killed anywhere and run again.
 *
 * Where a backup cannot be read nothing is removed: what it needs is not known.
 *
 * @throws PartywallError store_unavailable, store_refused, keyring_refused
 */
export async function applyRetention(operation: Operation, archive: Archive, options: RetentionOptions = {}): Promise<RetentionReport> {
  const { dryRun = false, settings = defaultBackupSettings, graceHours = graceHoursDefault } = options;
  const plan = await readPlan(operation, archive, settings);
  const going = plan.verdicts.filter(({ keep }) => !keep);
  const retiring = plan.verdicts.filter(({ keep, retired }) => keep && retired.length > 0);
  const report = {
    dryRun,
    countedFrom: plan.countedFrom?.toISOString() ?? null,
    backups: plan.verdicts.map(lineOf),
    removed: going.length,
    retired: retiring.reduce((sum, { retired }) => sum + retired.length, 0),
  };
  if (dryRun || plan.problems.length > 0) {
    return { ...report, ...(!dryRun && { removed: 0, retired: 0 }), swept: null, problems: plan.problems };
  }
  if (going.length + retiring.length > 0) await record(operation, report, going);
  for (const backup of retiring) await retire(operation, archive, backup);
  const locked = await removeManifests(operation, archive, going);
  const problems = locked.map((message) => `kept although it is not needed: ${message}`);
  const { removed } = report;
  const swept = await sweepUnreached(operation, archive, { plan, graceHours });
  return { ...report, removed: removed - locked.length, swept, problems };
}

/** Before anything goes: what was removed is on record, also where it is cut off. */
async function record(
  operation: Operation,
  { removed, retired }: Pick<RetentionReport, 'removed' | 'retired'>,
  going: readonly PlannedBackup[],
): Promise<void> {
  const details = { removed, retired, backups: going.slice(0, 100).map(({ id }) => id) };
  await transaction(operation.database.pool, (client) => appendAudit(client, operation, { tenant: null, action: 'backup.retention', details }));
}

async function retire({ database, signal }: Operation, archive: Archive, { id, retired, records }: PlannedBackup): Promise<void> {
  const key = await signingKey(archive.keyring);
  const identity = await ensureIdentity(archive.store);
  for (let at = 0; at * subjectsPerRecord < retired.length; at += 1) {
    signal?.throwIfAborted();
    const subjects = retired.slice(at * subjectsPerRecord, (at + 1) * subjectsPerRecord);
    const written = { format: 'partywall.retired/1' as const, archive: identity, backup: id, retiredAt: database.clock().toISOString(), subjects };
    try {
      await archive.store.put(retiredObject(id, records + at), signRecord(written, key), { ifAbsent: true });
    } catch (error) {
      // Another run writes the same record; what it leaves is for the next one.
      if (!(error instanceof PartywallError) || error.code !== 'store_conflict') throw error;
      return;
    }
  }
}

/** Returns why some stayed. */
async function removeManifests({ signal }: Operation, { store }: Archive, going: readonly PlannedBackup[]): Promise<string[]> {
  const locked: string[] = [];
  // Oldest first, so that what is left after a kill is a shorter history without gaps.
  for (const { id } of going.toReversed()) {
    signal?.throwIfAborted();
    try {
      await store.delete(manifestObject(id));
    } catch (error) {
      if (!(error instanceof PartywallError) || error.code !== 'store_locked') throw error;
      locked.push(error.message);
    }
  }
  return locked;
}

/** Counts as reached what the backups that are there now reach: those that were made since, and those that could not be removed. */
async function sweepUnreached(
  operation: Operation,
  archive: Archive,
  { plan, graceHours }: { readonly plan: ReadPlan; readonly graceHours: number },
): Promise<SweepReport> {
  const { reach, verdicts } = plan;
  const known = new Set(verdicts.filter(({ keep }) => keep).map(({ id }) => id));
  const present = new Set<string>();
  for (const id of (await backupIds(archive)).filter(isBackupId)) {
    present.add(id);
    if (!known.has(id)) reach.add((await openBackup(archive, id)).subjects.values());
  }
  const reached = (key: string): boolean => {
    const [folder, id = '', name] = key.split('/');
    return reach.has(key) || (folder === 'backups' && name !== 'pages' && present.has(id));
  };
  return sweep({ store: archive.store, reached, now: operation.database.clock(), graceHours, signal: operation.signal });
}

function lineOf({ id, at, verified, standsFor, keep, until, kept, retired, reasons }: PlannedBackup): RetentionLine {
  return { id, at: at.toISOString(), verified, standsFor, keep, until: until.toISOString(), kept, retired: retired.length, reasons };
}
