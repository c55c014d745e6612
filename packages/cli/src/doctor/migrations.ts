import fs from 'node:fs/promises';
import path from 'node:path';
import { type Catalog, ident, sqlState, tableName } from '@partywall/engine';
import { fail, type Line, pass, skip } from './line.ts';

/**
 * A migration tool can report success and change nothing: run in the wrong folder, against the wrong database, or with a file
 * that its journal does not name. So three lists are compared: files, journal entries, what the database has recorded.
 */
export interface MigrationFolder {
  readonly tool: 'Drizzle' | 'Prisma';
  readonly folder: string;
  /** Migrations by name, from their files. */
  readonly files: readonly string[];
  /** What the tool will run, in order, each with the mark that it leaves in the database. */
  readonly journal: readonly { readonly name: string; readonly mark: string }[];
}

type Query = (sql: string) => Promise<readonly { readonly mark: string }[]>;

const foldersVisitedMax = 2_000;
const depthMax = 4;

/** Migration folders of the tools whose journals are known, in `start` and below it. */
export async function findMigrations(start: string): Promise<MigrationFolder[]> {
  const found: MigrationFolder[] = [];
  let visited = 0;
  const visit = async (folder: string, depth: number): Promise<void> => {
    visited += 1;
    if (visited > foldersVisitedMax) return;
    const entries = await unlessOutOfReach(fs.readdir(folder, { withFileTypes: true }), []);
    const names = new Set(entries.map((entry) => entry.name));
    if (names.has('migration_lock.toml')) found.push(await readPrisma(folder));
    else if (names.has('meta') && (await isFile(path.join(folder, 'meta', '_journal.json')))) found.push(await readDrizzle(folder));
    if (depth === depthMax) return;
    for (const entry of entries) {
      if (entry.isDirectory() && !entry.name.startsWith('.') && entry.name !== 'node_modules') await visit(path.join(folder, entry.name), depth + 1);
    }
  };
  await visit(start, 0);
  return found;
}

/** Compares a folder with the database; `catalog` undefined when the database could not be read. */
export async function migrationLine(folder: MigrationFolder, catalog: Catalog | undefined, query: Query | undefined): Promise<Line> {
  const id = 'migrations';
  const where = `${folder.tool} in ${folder.folder}`;
  const journalled = new Set(folder.journal.map((entry) => entry.name));
  const unlisted = folder.files.filter((file) => !journalled.has(file));
  if (unlisted.length > 0) {
    return fail(id, `${where}: ${list(unlisted)} not in the journal, so it will never run`, 'generate the migration again with the tool, or add its entry');
  }
  const files = new Set(folder.files);
  const fileless = folder.journal.filter((entry) => !files.has(entry.name)).map((entry) => entry.name);
  if (fileless.length > 0) return fail(id, `${where}: ${list(fileless)} in the journal, and the file is missing`, 'is this the checkout that you deploy?');
  if (!catalog || !query) return skip(id, `${where}: ${folder.files.length} files; not compared, the database was not read`);

  const journalTable = folder.tool === 'Drizzle' ? tableName('drizzle', '__drizzle_migrations') : tableName('public', '_prisma_migrations');
  if (!catalog.relations.has(journalTable)) {
    return fail(id, `${where}: the database has no ${journalTable}, so none of ${folder.files.length} ran here`, 'is this the database that you migrate?');
  }
  const rows = await query(
    folder.tool === 'Drizzle'
      ? `select created_at::text as mark from ${ident('drizzle')}.${ident('__drizzle_migrations')}`
      : `select migration_name as mark from ${ident('public')}.${ident('_prisma_migrations')} where finished_at is not null and rolled_back_at is null`,
  );
  const ran = new Set(rows.map((row) => row.mark));
  const pending = folder.journal.filter((entry) => !ran.has(entry.mark)).map((entry) => entry.name);
  if (pending.length > 0) return fail(id, `${where}: ${list(pending)} not recorded in ${catalog.database}`, 'run the migrations against this database');
  const known = new Set(folder.journal.map((entry) => entry.mark));
  const strangers = rows.filter((row) => !known.has(row.mark)).length;
  if (strangers > 0)
    return fail(id, `${where}: ${catalog.database} records ${strangers} migrations that are not here`, 'is this the checkout that you deploy?');
  return pass(id, `${where}: ${folder.files.length} files, all in the journal and in ${catalog.database}`);
}

async function readDrizzle(folder: string): Promise<MigrationFolder> {
  const journal = parsed(await fs.readFile(path.join(folder, 'meta', '_journal.json'), 'utf8'));
  const entries = typeof journal === 'object' && journal !== null && 'entries' in journal && Array.isArray(journal.entries) ? journal.entries : [];
  const files = (await fs.readdir(folder)).filter((file) => file.endsWith('.sql')).map((file) => file.slice(0, -'.sql'.length));
  return {
    tool: 'Drizzle',
    folder,
    files: files.sort(),
    // An entry's `when` is what the tool stores as created_at.
    journal: entries.map((entry: { tag?: unknown; when?: unknown }) => ({ name: String(entry.tag), mark: String(entry.when) })),
  };
}

/** Prisma has no journal file: the folders are the list. */
async function readPrisma(folder: string): Promise<MigrationFolder> {
  const entries = await fs.readdir(folder, { withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  const present = await Promise.all(names.map((name) => isFile(path.join(folder, name, 'migration.sql'))));
  return { tool: 'Prisma', folder, files: names.filter((_, at) => present[at]), journal: names.map((name) => ({ name, mark: name })) };
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return `${shown}${names.length > 3 ? ` and ${names.length - 3} more` : ''} ${names.length === 1 ? 'is' : 'are'}`;
}

async function isFile(file: string): Promise<boolean> {
  return unlessOutOfReach(
    fs.stat(file).then((found) => found.isFile()),
    false,
  );
}

/** What is gone meanwhile, is no folder or is closed to this user is none of the project's migrations. */
async function unlessOutOfReach<Found>(looking: Promise<Found>, otherwise: Found): Promise<Found> {
  try {
    return await looking;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'].includes(sqlState(error) ?? '')) return otherwise;
    throw error;
  }
}

/** A journal that is broken names nothing, so that its files are said not to be in it. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
