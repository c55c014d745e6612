import os from 'node:os';
import path from 'node:path';
import { appendAudit } from '../../audit/append.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { tenantSubject } from '../../keyring/data-keys.ts';
import type { Archive } from '../archive.ts';
import { closeFilePlaces, openFilePlaces } from '../files/live-files.ts';
import { type FilesRun, filesRun } from '../files/store-files.ts';
import { type DataClass, dataClasses } from '../format/manifest.ts';
import { isUnreconciled, syncLedger } from '../ledger/sync-ledger.ts';
import { schemaTable } from '../read/backup-source.ts';
import { backupIds } from '../read/list-backups.ts';
import { backupFailure } from './backup-failure.ts';
import { findPredecessors, type Predecessors, unlessDamaged } from './base.ts';
import { type Changes, type ChangesInput, compare, everything } from './changes.ts';
import { lockTablesSql } from './lock-tables.ts';
import { type Marks, openMarks } from './marks.ts';
import { nextId } from './next-id.ts';
import { planReading, type TablePlan } from './plan-reading.ts';
import type { ReaderStart } from './reading/protocol.ts';
import { readHere } from './reading/read-here.ts';
import { type Readers, startReaders } from './reading/readers.ts';
import { threadCount } from './reading/thread-count.ts';
import { type BackupReport, reportOf } from './report.ts';
import { type BackupSubject, sealSchema } from './seal-schema.ts';
import { openSnapshot, type Snapshot, type SnapshotSchema } from './snapshot.ts';
import type { Allowance, Source } from './sources.ts';
import { storeBackup } from './store-backup.ts';
import { markPrefix, marksUnits } from './units.ts';
import { openWorkFolder } from './work-folder.ts';

export interface BackupInput {
  /** Kept in the manifest and in the audit log: `by hand`, `schedule hourly`. */
  readonly reason: string;
  /** Default all tenants, and what belongs to none. */
  readonly tenants?: readonly string[] | undefined;
  /** Default all that this source has. */
  readonly classes?: readonly DataClass[] | undefined;
  /** What may be left out where it is found; else it is refused. */
  readonly allow?: readonly Allowance[] | undefined;
  /** Only the plan; nothing is made, not even keys. */
  readonly dryRun?: boolean | undefined;
}

export interface BackupOptions {
  readonly onProgress?: ((progress: BackupProgress) => void) | undefined;
  /** Called once its moment is fixed: what changes from then on is not in it. */
  readonly onFixed?: (() => void) | undefined;
  /** Of this database, read a moment ago: a table that is made meanwhile is named as left out. Default: it is read now. */
  readonly catalog?: Catalog | undefined;
  /** Threads, each with a connection of its own. */
  readonly workers?: number | undefined;
  /** For rows that wait to be sealed, in all threads together. */
  readonly memoryBytes?: number | undefined;
}

export interface BackupProgress {
  readonly step: 'comparing' | 'reading' | 'storing';
  /** Bytes of tables, or tenants where it stores. */
  readonly done: number;
  readonly total: number;
}

const workersMax = 8;
const defaultMemoryBytes = 64 * 1024 ** 2;
/** For what is read without a thread. */
const hereMemoryBytes = 4 * 1024 ** 2;
const reasonCharactersMax = 500;

/**
 * Backs up one database: one moment, every tenant apart. What an earlier backup holds unchanged is taken over from it. The backup counts once
 * its manifest is stored, which is the last thing that happens; a run that fails before leaves nothing that counts, and can be run again.
 *
 * @throws PartywallError backup_refused, lock_not_acquired, tenant_unknown, input_invalid, escrow_unverified, keyring_refused, store_full,
 * store_unavailable, store_refused, store_conflict, database_unreachable
 */
export async function runBackup(operation: Operation, archive: Archive, input: BackupInput, options: BackupOptions = {}): Promise<BackupReport> {
  const classes = parseInput(input, operation.database.model.archive.files.size > 0);
  const { clock } = operation.database;
  try {
    const id = nextId(await backupIds(archive), clock());
    // Before anything is locked: places that are not there stop the backup.
    const files = classes.includes('files') && !input.dryRun ? await openFiles(operation, archive) : undefined;
    const report = await withFiles(files, async () => {
      const snapshot = await openSnapshot(operation, { backup: id, allow: input.allow ?? [], onFixed: options.onFixed, catalog: options.catalog });
      return await backUp({ operation, archive, input, options, classes, id, snapshot, files }).finally(snapshot.close);
    });
    if (!report.dryRun) await record(operation, input, report);
    return report;
  } catch (error) {
    throw backupFailure(error);
  }
}

/** One run, as it is passed around. */
export interface BackupRun {
  readonly operation: Operation;
  readonly archive: Archive;
  readonly input: BackupInput;
  readonly options: BackupOptions;
  readonly classes: readonly DataClass[];
  readonly id: string;
  readonly snapshot: Snapshot;
  /** Undefined: no files are looked at. */
  readonly files: FilesRun | undefined;
}

async function openFiles(operation: Operation, archive: Archive): Promise<FilesRun> {
  const { database, signal } = operation;
  const places = await openFilePlaces(database.model.archive.files, { env: archive.env, signal });
  try {
    return await filesRun(operation, archive, places);
  } catch (error) {
    closeFilePlaces(places);
    throw error;
  }
}

async function withFiles<Result>(files: FilesRun | undefined, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } finally {
    closeFilePlaces(files?.places ?? []);
  }
}

async function backUp(run: BackupRun): Promise<BackupReport> {
  const { archive, input, id, snapshot } = run;
  if (!input.dryRun) await bringLedgerUp(run);
  const earlier = await findPredecessors(archive, snapshot.lineage);
  const subjects = await subjectsOf(run);
  const sources = snapshot.sources.filter((source) => run.classes.includes(source.class) && (input.tenants === undefined || source.owner.kind !== 'platform'));
  const work = await openWorkFolder(archive.workFolder, id);
  let readers: Readers | undefined;
  try {
    readers = await openReaders(run, subjects, work.folder);
    const schema = await snapshot.schema;
    const { predecessors, ...read } = await readAll(run, readers, { sources, subjects, predecessors: earlier, schema });
    if (input.dryRun) return reportOf(run, { ...read, predecessors, sources, subjects, stored: undefined });
    await readers.finish();
    const schemaFiles = { chunks: path.join(work.folder, 'schema.chunks'), records: path.join(work.folder, 'schema.records') };
    sealSchema({ backup: id, key: subjects[0]?.key, files: schemaFiles, source: sources.length, schema: schema.document });
    const sequences = await snapshot.end();
    const stored = await storeBackup(run, {
      ...read,
      predecessors,
      sources,
      subjects,
      sequences,
      files: [...readers.files(), schemaFiles],
      folder: work.folder,
      schema,
    });
    return reportOf(run, { ...read, predecessors, sources, subjects, stored });
  } finally {
    await readers?.stop();
    await work.remove();
  }
}

/**
 * What the backup will not know when it is restored has to be in the ledger: at the least what was so when it was made. A database that came from a
 * backup itself has nothing to say there before it is reconciled, and is backed up all the same.
 */
async function bringLedgerUp({ operation, archive }: BackupRun): Promise<void> {
  if (await isUnreconciled(operation.database.pool)) return;
  await syncLedger(operation, archive);
}

export interface ReadTables {
  readonly marks: readonly Marks[];
  readonly changes: Changes;
  readonly plans: readonly TablePlan[];
}

interface ReadInput {
  readonly sources: readonly Source[];
  readonly subjects: readonly BackupSubject[];
  readonly predecessors: Predecessors;
  readonly schema: SnapshotSchema;
}

/** Finds out what changed, and reads that. Where nothing can be believed, everything is read while the marks are made. */
async function readAll(
  { archive, input, options, snapshot, files }: BackupRun,
  readers: Readers,
  of: ReadInput,
): Promise<ReadTables & Pick<ReadInput, 'predecessors'>> {
  const { sources, subjects, predecessors } = of;
  const marks = sources.map((source) => {
    const isTrusted = !source.leaves.some(({ namesObjects }) => namesObjects);
    return openMarks(subjects.length, isTrusted ? markPrefix(source, snapshot.textFacts) : null);
  });
  const markUnits = sources.flatMap((source, number) => marksUnits(source, number, input.tenants));
  const compared: ChangesInput = {
    sources,
    marks,
    subjects,
    schemaMark: of.schema.mark,
    schemaTable,
    files: files !== undefined,
    platform: input.tenants === undefined,
  };
  const { base } = predecessors;
  options.onProgress?.({ step: 'comparing', done: 0, total: markUnits.length });
  let done = 0;
  await readers.run(markUnits, (unit, tally) => {
    marks[unit.source]?.add(tally);
    done += 1;
    options.onProgress?.({ step: 'comparing', done, total: markUnits.length });
  });
  const damage = [...predecessors.damage];
  const believed = base && (await unlessDamaged(damage, () => compare(archive.store, base, compared)));
  const changes = believed ?? everything(compared);
  const plans = planReading({ sources, marks, changes, texts: subjects.map(({ text }) => text) });
  if (!input.dryRun) await readRows(readers, { sources, plans, marks, changes, options });
  return { marks, changes, plans, predecessors: { ...predecessors, base: believed && base, damage } };
}

async function readRows(
  readers: Readers,
  { sources, plans, marks, changes, options }: ReadTables & { readonly sources: readonly Source[]; readonly options: BackupOptions },
): Promise<void> {
  // The long ones first, so that the threads end together.
  const units = plans.flatMap((plan) => plan.units).sort((left, right) => right.weight - left.weight);
  const total = units.reduce((sum, { weight }) => sum + weight, 0);
  let done = 0;
  // Of the tables that are being read, not of all: in number they are tenants times tables.
  const reading = new Map<number, { readonly rows: Float64Array; left: number }>();
  const readingOf = (source: number): { readonly rows: Float64Array; left: number } => {
    const known = reading.get(source);
    if (known) return known;
    const begun = { rows: new Float64Array(changes.unchanged.length), left: plans[source]?.units.length ?? 0 };
    reading.set(source, begun);
    return begun;
  };
  await readers.run(units, (unit, tally) => {
    const read = readingOf(unit.source);
    for (const [at, subject] of tally.subjects.entries()) read.rows[subject] = (read.rows[subject] ?? 0) + (tally.rows[at] ?? 0);
    read.left -= 1;
    if (read.left === 0) {
      reading.delete(unit.source);
      for (const [subject, counted] of (marks[unit.source]?.rows ?? []).entries()) {
        const expected = changes.wanted[unit.source]?.[subject] === 1 ? counted : 0;
        const rows = read.rows[subject] ?? 0;
        if (rows !== expected) throw new Error(`${sources[unit.source]?.name} gave ${rows} rows of a subject where the same snapshot counts ${expected}`);
      }
    }
    if (unit.kind === 'rows') done += unit.weight;
    options.onProgress?.({ step: 'reading', done: Math.round(done), total: Math.round(total) });
  });
}

/** One tenant is seldom more than what can be read here and at once. */
function openReaders(run: BackupRun, subjects: readonly BackupSubject[], folder: string): Readers | Promise<Readers> {
  const { operation, input, id, snapshot } = run;
  const startThreads = (): Promise<Readers> => startReaders(readerStarts(run, subjects, folder), operation.signal);
  if (input.tenants?.length !== 1) return startThreads();
  const files = { chunks: path.join(folder, 'here.chunks'), records: path.join(folder, 'here.records') };
  return readHere({
    client: snapshot.client,
    reading: { backup: id, subjects: subjects.map(({ key, text }) => ({ key, text })), files, memoryBytes: hereMemoryBytes },
    signal: operation.signal,
    startThreads,
  });
}

function readerStarts({ input, options, id, snapshot }: BackupRun, subjects: readonly BackupSubject[], folder: string): ReaderStart[] {
  const bytes = snapshot.sources.flatMap(({ leaves }) => leaves).reduce((sum, leaf) => sum + leaf.bytes, 0);
  const count = threadCount({ processors: os.availableParallelism(), tenants: input.tenants?.length, subjects: subjects.length, bytes });
  const workers = Math.min(workersMax, Math.max(1, options.workers ?? count));
  const memoryBytes = Math.floor((options.memoryBytes ?? defaultMemoryBytes) / workers);
  return Array.from({ length: workers }, (_, at) => ({
    connection: snapshot.connection,
    snapshot: snapshot.name,
    lockSql: lockTablesSql(snapshot.sources),
    backup: id,
    subjects: subjects.map(({ key, text }) => ({ key, text })),
    files: { chunks: path.join(folder, `${at}.chunks`), records: path.join(folder, `${at}.records`) },
    memoryBytes,
  }));
}

/** The platform and the tenants, in the order of their refs: nothing in the store lies in the order of tenants' keys. */
async function subjectsOf({ archive, input, snapshot }: BackupRun): Promise<BackupSubject[]> {
  const unknown = (input.tenants ?? []).find((tenant) => !snapshot.tenants.includes(tenant));
  if (unknown !== undefined) throw new PartywallError('tenant_unknown', `looking for tenant ${unknown.slice(0, 100)}: there is none`);
  const tenants = [...new Set(input.tenants ?? snapshot.tenants)];
  const names = ['platform' as const, ...tenants.map(tenantSubject)];
  const refs = new Map(archive.keys.subjects().map(({ subject, ref }) => [subject, ref]));
  const keys = input.dryRun ? undefined : await archive.keys.ensure(names);
  const [platform, ...others] = names.map((subject, at) => {
    const ref = refs.get(subject);
    const key = keys?.get(subject) ?? (ref === undefined ? undefined : archive.keys.byRef(ref));
    return { key, ref: key?.ref ?? ref, text: tenants[at - 1] ?? '' };
  });
  return [...(platform ? [platform] : []), ...others.sort((left, right) => ((left.ref ?? '') < (right.ref ?? '') ? -1 : 1))];
}

function parseInput({ reason, tenants, classes }: BackupInput, hasFiles: boolean): readonly DataClass[] {
  if (reason.trim() === '' || reason.length > reasonCharactersMax) {
    throw new PartywallError('input_invalid', `reading the reason of a backup: it needs 1 to ${reasonCharactersMax} characters`);
  }
  if (tenants?.length === 0) throw new PartywallError('input_invalid', 'reading the tenants of a backup: none are named');
  const classesHere = dataClasses.filter((each) => each !== 'files' || hasFiles);
  const wanted = classes ?? classesHere;
  const other = wanted.find((each) => !classesHere.includes(each));
  if (other !== undefined || wanted.length === 0) {
    throw new PartywallError('input_invalid', `reading the classes of a backup: ${other === undefined ? 'none are named' : `the model names no ${other}`}`);
  }
  return dataClasses.filter((each) => wanted.includes(each));
}

/** In the log of each tenant that it is about alone, else in the platform's. */
async function record(operation: Operation, input: BackupInput, report: BackupReport): Promise<void> {
  const details = { backup: report.id, rows: report.rows, tenants: report.tenants, stored: report.stored };
  for (const tenant of input.tenants?.toSorted() ?? [null]) {
    await appendAudit(operation.database.pool, operation, { tenant, action: 'backup.run', target: `backup:${report.id}`, reason: input.reason, details });
  }
}
