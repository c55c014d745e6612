import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setTimeout } from 'node:timers/promises';
import type { Catalog } from '../../catalog/catalog.ts';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import { partsOf } from '../../model/table-name.ts';
import { refuseDrift } from '../export/refuse-drift.ts';
import { sqliteCatalog } from './sqlite-catalog.ts';
import type { TextEncoding } from './sqlite-value.ts';

const lockTimeoutDefaultMs = 30_000;
const lockPauseMs = 50;
const sqliteBusy = 5;
/** All pages in one step: steps would begin anew with every write in between, and might never end. */
const pagesPerStep = 2 ** 31 - 1;
const faultsShownMax = 20;

export interface SqliteOptions {
  readonly model: TenancyModel;
  /** Holds the copy while the file is open. */
  readonly workFolder: string;
  readonly clock: () => Date;
  /** How long a writer that holds the file's lock is waited for. */
  readonly lockTimeoutMs?: number;
}

/** A SQLite file as of one moment. Close it. */
export interface SqliteFile {
  readonly file: string;
  /** When the copy was begun; what was written before is in it. */
  readonly at: Date;
  readonly model: TenancyModel;
  readonly catalog: Catalog;
  readonly encoding: TextEncoding;
  /** Version of the library that read it. */
  readonly version: string;
  /** The copy. */
  readonly database: DatabaseSync;
  /** Removes the copy. */
  close(): Promise<void>;
}

/**
 * Copies the file as it is at this moment and opens the copy. The copy is made by SQLite's backup interface: whatever is in a write-ahead log is in
 * it, and writers go on (in WAL mode; in the others they wait). The file is opened for reading only. Every table must be in the model.
 *
 * @throws PartywallError input_invalid (no such file, or no SQLite), backup_refused (damaged, or locked), model_unclassified, model_drift
 */
export async function openSqlite(file: string, { model, workFolder, clock, lockTimeoutMs = lockTimeoutDefaultMs }: SqliteOptions): Promise<SqliteFile> {
  const named = path.resolve(file);
  await refuseNoFile(named);
  await fs.mkdir(workFolder, { recursive: true, mode: 0o700 });
  // The copy is in the clear: nobody else enters its folder.
  const folder = await fs.mkdtemp(path.join(workFolder, 'sqlite-'));
  let database: DatabaseSync | undefined;
  const close = async (): Promise<void> => {
    if (database?.isOpen) database.close();
    await fs.rm(folder, { recursive: true, force: true });
  };
  try {
    const at = clock();
    const copy = path.join(folder, 'copy.db');
    await copyFile(named, copy, lockTimeoutMs);
    database = await openFile(copy);
    refuseDamage(database, named);
    const { schema } = partsOf(model.tenant.table);
    const catalog = sqliteCatalog(database, { schema, owner: model.roles.owner, name: path.basename(named) });
    refuseDrift(model, catalog, { where: named });
    return {
      file: named,
      at,
      model,
      catalog,
      encoding: textOf(database, 'pragma encoding') as TextEncoding,
      version: textOf(database, 'select sqlite_version()'),
      database,
      close,
    };
  } catch (error) {
    await close();
    throw sqlState(error) === 'ERR_SQLITE_ERROR' ? refusedBySqlite(named, error) : error;
  }
}

/** Tells the histories of different files apart. */
export function lineageOf(file: SqliteFile): string {
  return createHash('sha256').update(`sqlite\0${file.file}`).digest('hex');
}

async function refuseNoFile(file: string): Promise<void> {
  const stat = await fs.stat(file).catch(() => undefined);
  if (!stat?.isFile()) throw new PartywallError('input_invalid', `opening ${file}: there is no such file`, { hint: 'pass the path of a SQLite file' });
  const head = Buffer.alloc(magic.length);
  const handle = await fs.open(file, 'r');
  try {
    await handle.read(head, 0, head.length, 0);
  } finally {
    await handle.close();
  }
  if (stat.size > 0 && head.equals(magic)) return;
  throw new PartywallError('input_invalid', `opening ${file}: it is no SQLite file`, { hint: 'pass the path of a SQLite file' });
}

const magic = Buffer.from('SQLite format 3\0', 'latin1');

/** Loaded where it is used: releases of Node before 24 print a warning as they load it. */
const sqlite = () => import('node:sqlite');

async function copyFile(file: string, copy: string, lockTimeoutMs: number): Promise<void> {
  const { backup, DatabaseSync: Database } = await sqlite();
  const original = new Database(file, { readOnly: true });
  try {
    await beginReading(original, lockTimeoutMs);
    await backup(original, copy, { rate: pagesPerStep });
  } finally {
    original.close();
  }
}

/** The moment of the copy. Waits here and not in SQLite, which would stop the whole process; the backup interface does not say that it waits. */
async function beginReading(database: DatabaseSync, lockTimeoutMs: number): Promise<void> {
  database.exec('begin');
  for (let waitedMs = 0; ; waitedMs += lockPauseMs) {
    try {
      database.prepare('select count(*) from sqlite_schema').get();
      return;
    } catch (error) {
      const busy = error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy;
      if (!busy || waitedMs >= lockTimeoutMs) throw error;
    }
    await setTimeout(lockPauseMs);
  }
}

async function openFile(copy: string): Promise<DatabaseSync> {
  const { DatabaseSync: Database } = await sqlite();
  const database = new Database(copy, { enableForeignKeyConstraints: false });
  // Whoever wrote the file wrote its schema: expressions in it call no function that reaches outside.
  database.exec('pragma trusted_schema = off; pragma cell_size_check = on; pragma journal_mode = delete; pragma query_only = on');
  return database;
}

function refuseDamage(database: DatabaseSync, file: string): void {
  const faults = database
    .prepare(`pragma integrity_check(${faultsShownMax})`)
    .all()
    .map((row) => String(Object.values(row)[0]));
  if (faults.length === 1 && faults[0] === 'ok') return;
  throw new PartywallError('backup_refused', `reading ${file}: it is damaged: ${faults[0] ?? 'its check gave no answer'}`, {
    details: faults,
    hint: 'mend it with `sqlite3 <file> .recover`, or take an earlier copy; nothing was backed up',
  });
}

function textOf(database: DatabaseSync, query: string): string {
  return String(Object.values(database.prepare(query).get() ?? {})[0]);
}

/** Messages of SQLite name tables and columns, never values. */
function refusedBySqlite(file: string, error: unknown): PartywallError {
  const reason = error instanceof Error ? error.message : String(error);
  return new PartywallError('backup_refused', `copying ${file}: ${reason}`, {
    cause: error,
    hint: 'wait until its writer has let go of it, let the application open it once to end what a crash left, or give this user read access to it and its folder',
  });
}
