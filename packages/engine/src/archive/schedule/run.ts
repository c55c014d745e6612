import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { Archive } from '../archive.ts';
import { runBackup } from '../backup/run-backup.ts';
import { verifyBackup } from '../backup/verify-backup.ts';
import type { DataClass } from '../format/manifest.ts';
import { unverifiedBackups } from '../retention/history.ts';
import { extendLocks } from '../retention/locks.ts';
import { readCircumstances } from './circumstances.ts';
import { type BackupDecision, decideBackup } from './decide.ts';
import { recordVerified } from './recovery-points.ts';
import { type BackupSettings, defaultBackupSettings } from './settings.ts';

/**
 * A backup from the first byte to the recovery points that it gives: run, verified, recorded, locked. Each step can be run again; a kill between two
 * leaves a backup that does not count yet, which `verifyPending` or the next run makes up for.
 */
export interface BackupRequest {
  readonly reason: string;
  /** Default: everybody, and what belongs to nobody. */
  readonly tenants?: readonly string[] | undefined;
  readonly classes?: readonly DataClass[] | undefined;
  /** Whether everything that it reaches is read back before it counts; else objects are looked for, and pages are read. */
  readonly readData?: boolean | undefined;
}

export interface BackupOutcome {
  readonly backup: string;
  readonly tenants: number;
  /** Objects whose lock was extended. */
  readonly locked: number;
}

/** Runs a step, unless it ended before a crash; then its result is what it was. Results are JSON. */
export type Step = <Result>(name: string, run: () => Promise<Result>) => Promise<Result>;

export interface BackupOptions {
  readonly settings?: BackupSettings | undefined;
  readonly step?: Step | undefined;
}

const errorCharactersMax = 1_000;
const damageMax = 20;
const atOnce: Step = (_name, run) => run();

/**
 * Makes a backup that counts.
 *
 * @throws PartywallError what `runBackup` throws; archive_damaged: what was stored is not what was read
 */
export async function backUp(operation: Operation, archive: Archive, request: BackupRequest, options: BackupOptions = {}): Promise<BackupOutcome> {
  const { step = atOnce, settings } = options;
  const run = await step('begin', () => begin(operation, request));
  try {
    const backup = await step('back up', () => store(operation, archive, run, request));
    await step('verify', () => verifyWhole(operation, archive, { backup, readData: request.readData }));
    const { tenants } = await step('record', () => recordVerified(operation, archive, backup));
    const locked = await step('lock', () => extendLocks(operation, archive, backup, settings));
    return { backup, tenants, locked };
  } catch (error) {
    await fail(operation, run, error);
    throw error;
  }
}

export interface ScheduledOutcome {
  readonly decision: BackupDecision;
  readonly outcome: BackupOutcome | undefined;
}

/** Looks what is due and backs that up: what the schedule does every five minutes, and what cron can do in its place. Of two at once one does it. */
export async function runScheduledBackup(operation: Operation, archive: Archive, options: BackupOptions = {}): Promise<ScheduledOutcome> {
  const client = await operation.database.pool.connect();
  try {
    const { rows } = await client.query<{ locked: boolean }>("select pg_try_advisory_lock(hashtextextended('partywall:backup.schedule', 0)) as locked");
    const alone = rows[0]?.locked ?? false;
    if (alone) await verifyPending(operation, archive);
    const decision = await lookAtSchedule(operation, options.settings);
    if (!alone) return { decision: { ...decision, run: undefined, reasons: ['another schedule is at it'] }, outcome: undefined };
    return { decision, outcome: decision.run && (await backUp(operation, archive, decision.run, options)) };
  } finally {
    // Before anybody can ask again: the end of the session, which gives the lock back where the connection is what broke, is not waited for.
    await client.query('select pg_catalog.pg_advisory_unlock_all()').catch(() => undefined);
    client.release(true);
  }
}

const tickSql = `insert into partywall_control.backup_schedule as s (since, ticked_at) values ($1, $1) on conflict (id) do update set ticked_at = excluded.ticked_at`;

/** What is due now. @param options.leaveTrace that the schedule runs; false for somebody who only looks */
export async function lookAtSchedule(
  operation: Operation,
  settings: BackupSettings = defaultBackupSettings,
  { leaveTrace = true }: { readonly leaveTrace?: boolean } = {},
): Promise<BackupDecision> {
  if (leaveTrace) await operation.database.pool.query(tickSql, [operation.database.clock()]);
  const decision = decideBackup(await readCircumstances(operation, settings));
  const { rowCount } = await operation.database.pool.query(runningSql);
  // By hand, or of another server: it may give what is due, so nothing is begun beside it.
  return rowCount ? { ...decision, run: undefined, reasons: ['a backup runs'] } : decision;
}

/** Whoever makes a backup of this database now. */
const runningSql = `select from pg_catalog.pg_locks l cross join (select pg_catalog.hashtextextended('partywall:backup', 0) as key) k
where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.classid::bigint = (k.key >> 32) & 4294967295 and l.objid::bigint = k.key & 4294967295`;

/** Backups of one look: the rest waits for the next. */
const pendingMax = 4;
/** Looked at before, and not whole; or under way. */
const settledSql = "select r.backup from partywall_control.backup_runs r where r.backup = any($1) and r.state = 'failed'";
const refutedSql = `insert into partywall_control.backup_runs (backup, reason, scope, classes, state, started_at, finished_at, error)
values ($1, 'not known', 'all', '{}', 'failed', $3, $3, $2)
on conflict (backup) do update set state = 'failed', error = excluded.error, verified_at = null`;

/**
 * Verifies backups that are in the archive and do not count: made by hand, or cut off before they were verified. Returns those that count now.
 *
 * @throws PartywallError store_unavailable, store_refused
 */
export async function verifyPending(operation: Operation, archive: Archive): Promise<string[]> {
  const { pool, clock } = operation.database;
  const newest = (await unverifiedBackups(archive)).slice(0, 10 * pendingMax);
  const { rows } = await pool.query<{ backup: string }>(settledSql, [newest]);
  const pending = newest.filter((id) => !rows.some(({ backup }) => backup === id)).slice(0, pendingMax);
  const counted: string[] = [];
  for (const backup of pending) {
    try {
      await verifyWhole(operation, archive, { backup });
      await recordVerified(operation, archive, backup);
      counted.push(backup);
    } catch (error) {
      if (!(error instanceof PartywallError) || !hopeless.has(error.code)) throw error;
      await pool.query(refutedSql, [backup, error.message.slice(0, errorCharactersMax), clock()]);
    }
  }
  return counted;
}

const hopeless: ReadonlySet<string> = new Set(['archive_damaged', 'archive_foreign', 'backup_unknown', 'store_object_missing', 'key_missing']);

/** One backup of a database runs at a time: what is said to run while nobody holds that lock was cut off. Whoever begins has it within minutes. */
const cutOffSql = `update partywall_control.backup_runs set state = 'failed', error = 'it was cut off', finished_at = $1
where state = 'running' and started_at < $1::timestamptz - interval '5 minutes' and not exists (${runningSql})`;

async function begin({ database }: Operation, { reason, tenants, classes }: BackupRequest): Promise<string> {
  const now = database.clock();
  await database.pool.query(cutOffSql, [now]);
  const { rows } = await database.pool.query<{ id: string }>(
    "insert into partywall_control.backup_runs (reason, scope, classes, state, started_at) values ($1, $2, $3, 'running', $4) returning id",
    [reason, tenants === undefined ? 'all' : 'tenants', classes ?? [], now],
  );
  return rows[0]?.id ?? '';
}

/** Returns the id of the backup. */
async function store(operation: Operation, archive: Archive, run: string, { reason, tenants, classes }: BackupRequest): Promise<string> {
  const { database } = operation;
  const report = await runBackup(operation, archive, { reason, tenants, classes });
  const counts = { tenants: report.tenants, unchanged: report.unchanged, rows: report.rows, stored: report.stored };
  await transaction(database.pool, async (client) => {
    // Another look at the schedule may have found it in the archive first.
    await client.query('delete from partywall_control.backup_runs where backup = $2 and id <> $1', [run, report.id]);
    await client.query(
      "update partywall_control.backup_runs set backup = $2, state = 'stored', error = null, finished_at = $3, classes = $4, counts = $5 where id = $1",
      [run, report.id, database.clock(), report.classes, JSON.stringify(counts)],
    );
  });
  return report.id;
}

async function verifyWhole(
  { signal }: Operation,
  archive: Archive,
  { backup, readData }: { readonly backup: string; readonly readData?: boolean | undefined },
): Promise<void> {
  const { whole, damage } = await verifyBackup(archive, backup, { readData, signal });
  if (!whole) throw new PartywallError('archive_damaged', `verifying backup ${backup}: it is not whole`, { details: damage.slice(0, damageMax) });
}

async function fail(operation: Operation, run: string, error: unknown): Promise<void> {
  // What nobody foresaw may quote rows.
  const message = error instanceof PartywallError ? error.message : `failed: ${error instanceof Error ? error.name : 'unknown'}`;
  await transaction(operation.database.pool, async (client) => {
    // Beside another one it did not begin: that one tells how it went.
    const beside = error instanceof PartywallError && error.code === 'backup_refused' && (await client.query(runningSql)).rowCount;
    if (beside) {
      await client.query("delete from partywall_control.backup_runs where id = $1 and state = 'running'", [run]);
      return;
    }
    const { rowCount } = await client.query(
      "update partywall_control.backup_runs set state = 'failed', error = $2, finished_at = coalesce(finished_at, $3) where id = $1 and state in ('running', 'stored')",
      [run, message.slice(0, errorCharactersMax), operation.database.clock()],
    );
    if (rowCount) await appendAudit(client, operation, { tenant: null, action: 'backup.failed', target: `backup_run:${run}`, reason: message });
  });
}
