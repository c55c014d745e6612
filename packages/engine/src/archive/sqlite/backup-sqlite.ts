import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Catalog } from '../../catalog/catalog.ts';
import { PartywallError } from '../../errors.ts';
import { type DataKey, tenantSubject } from '../../keyring/data-keys.ts';
import { signingKey } from '../../keyring/signing.ts';
import { modelFingerprint } from '../../model/fingerprint.ts';
import { type Archive, manifestObject, pagesObject } from '../archive.ts';
import { pageOf } from '../backup/changes.ts';
import { type Gathered, openGathered, type SpilledSegment } from '../backup/gather.ts';
import { nextId } from '../backup/next-id.ts';
import { openPagesFile, type PagesFile } from '../backup/pages-file.ts';
import { openSpill, type Spill } from '../backup/reading/spill.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import { type StoredPack, type ReadTable as StoredRead, storeTables } from '../backup/store-subject.ts';
import { openWorkFolder } from '../backup/work-folder.ts';
import { type Manifest, type ManifestSubject, type ManifestTable, manifestFormat, manifestMajor, manifestMinor } from '../format/manifest.ts';
import { type PageTable, pageFormat } from '../format/page.ts';
import { signManifest } from '../format/signed-manifest.ts';
import { ensureIdentity } from '../identity.ts';
import { backupIds } from '../read/list-backups.ts';
import { type Backup, openBackup } from '../read/open-backup.ts';
import type { SourceTable, TenantSource } from '../tenant-source.ts';
import { lineageOf, type SqliteFile } from './open-sqlite.ts';
import { sealRows } from './seal-rows.ts';
import { sqliteSource, tenantKeys, unownedRows, unownedText } from './sqlite-source.ts';

export interface SqliteBackupInput {
  /** Kept in the manifest. */
  readonly reason: string;
  readonly clock: () => Date;
  /** The database that the rows may be restored into: decides their types, and adds the tenant columns of its wall. */
  readonly into?: Catalog | undefined;
  /** Reads and compares everything, and stores nothing, not even keys. */
  readonly dryRun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly step: 'reading' | 'storing'; readonly done: number; readonly total: number }) => void) | undefined;
}

/** What a backup of a file did, or would do. */
export interface SqliteBackup {
  readonly id: string;
  readonly dryRun: boolean;
  /** ISO 8601. */
  readonly at: string;
  /** The last backup of this file, of which unchanged rows are taken over; null: there is none. */
  readonly base: string | null;
  /** Each of the file's, once. */
  readonly tenants: number;
  /** Tenants of which nothing at all has changed. */
  readonly unchanged: number;
  readonly rows: number;
  readonly tables: readonly { readonly table: string; readonly rows: number /** Tenants. */; readonly changed: number }[];
  /** Rows of no tenant, which are not in it, a line each. */
  readonly left: readonly string[];
  /** Null in a dry run. */
  readonly stored: { readonly objects: number; readonly bytes: number } | null;
}

/** Manifests that are looked at for the last one of the same file. */
const candidatesMax = 50;
/** Tenants that are stored side by side. */
const putsAtOnce = 8;
const reasonCharactersMax = 500;

/**
 * Backs up every tenant of a SQLite file, each under its own key, into the archive that backups of PostgreSQL are in. Everything is read, because a
 * file does not tell what changed in it; what has the content that it had in the last backup of the file is not stored again. Nothing exists until
 * the manifest does, which is written last.
 *
 * @throws PartywallError input_invalid, backup_refused (a value without a form: table, row and column), escrow_unverified, keyring_refused, store_full,
 * store_unavailable, store_refused
 */
export async function backupSqlite(archive: Archive, file: SqliteFile, input: SqliteBackupInput): Promise<SqliteBackup> {
  if (input.reason.trim() === '' || input.reason.length > reasonCharactersMax)
    throw new PartywallError('input_invalid', `reading the reason of a backup: it needs 1 to ${reasonCharactersMax} characters`);
  const ids = await backupIds(archive);
  const id = nextId(ids, input.clock());
  const predecessors = await findPredecessors(archive, ids, lineageOf(file));
  const work = await openWorkFolder(archive.workFolder, id);
  try {
    const run: Run = { archive, file, input, id, folder: work.folder, predecessors, tenants: await tenantsOf(archive, file, input) };
    const files = { chunks: path.join(work.folder, 'rows.chunks'), records: path.join(work.folder, 'rows.records') };
    const spill = openSpill(files);
    const tables = await sealTenants(run, spill).finally(spill.close);
    const gathered = openGathered([files], run.tenants.length);
    try {
      return await compareAndStore(run, tables, gathered);
    } finally {
      gathered.close();
    }
  } finally {
    await work.remove();
  }
}

interface Predecessors {
  /** The last backup of the archive, which this one follows in the chain. */
  readonly previous: Backup | undefined;
  /** The last of this file. */
  readonly base: Backup | undefined;
}

interface Tenant {
  readonly tenant: string;
  /** Undefined in a dry run, where it has none yet. */
  readonly key: DataKey | undefined;
}

interface Run {
  readonly archive: Archive;
  readonly file: SqliteFile;
  readonly input: SqliteBackupInput;
  readonly id: string;
  readonly folder: string;
  readonly predecessors: Predecessors;
  readonly tenants: readonly Tenant[];
}

/** What was read of a table, all tenants together, and of each tenant that has rows in it. */
interface ReadTable {
  readonly described: ManifestTable;
  readonly rows: ReadonlyMap<number, number>;
}

async function findPredecessors(archive: Archive, ids: readonly string[], lineage: string): Promise<Predecessors> {
  let previous: Backup | undefined;
  for (const id of ids.slice(-candidatesMax).reverse()) {
    const backup = await openBackup(archive, id);
    previous ??= backup;
    if (backup.manifest.source.engine === 'sqlite' && backup.manifest.source.lineage === lineage) return { previous, base: backup };
  }
  return { previous, base: undefined };
}

/** In the order of their refs: nothing in the store lies in the order of tenants' keys. */
async function tenantsOf({ keys }: Archive, file: SqliteFile, { dryRun }: SqliteBackupInput): Promise<Tenant[]> {
  const tenants = [...tenantKeys(file).keys()];
  const refs = new Map(keys.subjects().map(({ subject, ref }) => [subject, ref]));
  const made = dryRun ? undefined : await keys.ensure(tenants.map(tenantSubject));
  const keyOf = (tenant: string): DataKey | undefined => {
    const subject = tenantSubject(tenant);
    return made ? made.get(subject) : keys.byRef(refs.get(subject) ?? '');
  };
  return tenants.map((tenant) => ({ tenant, key: keyOf(tenant) })).sort((left, right) => ((left.key?.ref ?? '') < (right.key?.ref ?? '') ? -1 : 1));
}

/** Reads every tenant once: its rows are sealed under its key, before anything is compared or stored. */
async function sealTenants({ file, input, id, tenants }: Run, spill: Spill): Promise<ReadTable[]> {
  const tables = new Map<string, { described: ManifestTable; readonly rows: Map<number, number> }>();
  for (const [subject, { tenant, key }] of tenants.entries()) {
    input.signal?.throwIfAborted();
    input.onProgress?.({ step: 'reading', done: subject, total: tenants.length });
    const source = sqliteSource(file, tenant, { into: input.into });
    for (const [number, table] of source.tables.entries()) {
      const known = tables.get(table.name) ?? { described: described(table), rows: new Map<number, number>() };
      tables.set(table.name, { described: { ...known.described, rows: known.described.rows + table.count }, rows: known.rows });
      if (table.count === 0) continue;
      known.rows.set(subject, table.count);
      if (key) await sealRows(spill, key, { backup: id, table: table.name, subject, source: number }, source.rows(table));
      else await readOnly(source, table);
    }
  }
  return [...tables.values()];
}

/** Without a key nothing is sealed, but a value that has no form shows. */
async function readOnly(source: TenantSource, table: SourceTable): Promise<void> {
  for await (const _ of source.rows(table));
}

/** A tenant against the last backup of the file. */
interface ComparedTenant {
  readonly key: DataKey | undefined;
  readonly read: readonly (StoredRead & { readonly source: number; readonly changed: boolean })[];
  readonly before: ReadonlyMap<string, PageTable>;
  readonly earlier: ManifestSubject | undefined;
  /** Everything is as it was: what the last backup says of it holds. */
  readonly unchanged: boolean;
}

async function compareTenant({ predecessors: { base }, tenants }: Run, number: number, tables: readonly SealedTable[]): Promise<ComparedTenant> {
  const key = tenants[number]?.key;
  const earlier = key && base?.subjects.get(key.ref);
  const before = new Map((earlier && (await pageOf(base, earlier.subject)))?.tables.map((table) => [table.table, table]));
  const read = tables.map(({ source, table, rows, segments }) => {
    const changed = !key || !isSame(before.get(table), segments, key);
    return { source, table, rows, mark: null, segments, changed };
  });
  return { key, read, before, earlier, unchanged: earlier !== undefined && read.length === before.size && read.every(({ changed }) => !changed) };
}

interface SealedTable {
  readonly source: number;
  readonly table: string;
  readonly rows: number;
  readonly segments: readonly SpilledSegment[];
}

function sealedOf(tables: readonly ReadTable[], number: number, segments: readonly SpilledSegment[]): SealedTable[] {
  const bySource = Map.groupBy(segments, ({ source }) => source);
  return tables.flatMap(({ described: { name }, rows }, source) => {
    const count = rows.get(number);
    return count === undefined ? [] : [{ source, table: name, rows: count, segments: bySource.get(source) ?? [] }];
  });
}

async function compareAndStore(run: Run, tables: readonly ReadTable[], gathered: Gathered): Promise<SqliteBackup> {
  const { archive, file, input, id, folder, predecessors, tenants } = run;
  const pages = openPagesFile(path.join(folder, 'pages'));
  const changed = tables.map(() => 0);
  const stored: StoredTenant[] = [];
  let unchanged = 0;
  let done = 0;
  try {
    for (const { from, to, segmentsOf } of gathered.groups()) {
      const numbers = Array.from({ length: to - from }, (_, at) => from + at);
      await sideBySide(numbers, putsAtOnce, async (number) => {
        input.signal?.throwIfAborted();
        const compared = await compareTenant(run, number, sealedOf(tables, number, segmentsOf(number)));
        for (const table of compared.read) changed[table.source] = (changed[table.source] ?? 0) + Number(table.changed);
        unchanged += Number(compared.unchanged);
        if (!input.dryRun) stored.push(await storeTenant({ run, gathered, pages }, compared));
        done += 1;
        input.onProgress?.({ step: 'storing', done, total: tenants.length });
      });
    }
    const report = {
      id,
      at: file.at.toISOString(),
      base: predecessors.base?.manifest.id ?? null,
      tenants: tenants.length,
      unchanged,
      rows: tables.reduce((sum, { described: { rows } }) => sum + rows, 0),
      tables: tables.map(({ described: { name, rows } }, at) => ({ table: name, rows, changed: changed[at] ?? 0 })),
      left: unownedText(unownedRows(file)),
    };
    if (input.dryRun) return { ...report, dryRun: true, stored: null };
    if (pages.bytes() > 0) await archive.store.put(pagesObject(id), pages.read(), { ifAbsent: true });
    const subjects = stored.map(({ entry }) => entry);
    const manifest = signManifest(await manifestOf(run, { subjects, tables, left: report.left }), await signingKey(archive.keyring));
    await archive.store.put(manifestObject(id), manifest, { ifAbsent: true });
    const packs = stored.flatMap((tenant) => tenant.packs);
    const bytes = packs.reduce((sum, pack) => sum + pack.bytes, pages.bytes() + manifest.length);
    return { ...report, dryRun: false, stored: { objects: packs.length + (pages.bytes() > 0 ? 2 : 1), bytes } };
  } finally {
    pages.close();
  }
}

/** By the keyed hashes of what was sealed now and then. */
function isSame(before: PageTable | undefined, sealed: readonly SpilledSegment[], key: DataKey): boolean {
  if (before?.segments.length !== sealed.length) return false;
  const known = new Map(before.segments.map((segment) => [segment.part, segment]));
  return sealed.every(({ part, mac }) => known.get(part)?.mac === mac && known.get(part)?.key === key.id);
}

interface Place {
  readonly run: Run;
  readonly gathered: Gathered;
  readonly pages: PagesFile;
}

interface StoredTenant {
  readonly entry: ManifestSubject;
  readonly packs: readonly StoredPack[];
}

async function storeTenant({ run, gathered, pages }: Place, { key, read, before, earlier, unchanged }: ComparedTenant): Promise<StoredTenant> {
  const { archive, id } = run;
  if (!key) throw new Error('a tenant has no key');
  if (earlier && unchanged) return { entry: earlier, packs: [] };
  const stored = await storeTables({ store: archive.store, gathered, backup: id }, key, { read, before });
  const tables = stored.tables.toSorted((left, right) => (left.table < right.table ? -1 : 1));
  const reached = new Set(tables.flatMap((table) => table.segments.map((segment) => `${segment.backup}.${segment.pack}`)));
  const entry: ManifestSubject = {
    subject: key.ref,
    page: pages.add({ format: pageFormat, backup: id, subject: key.ref, tables }),
    packs: [...(earlier?.packs ?? []), ...stored.packs].filter(({ backup, pack }) => reached.has(`${backup}.${pack}`)),
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    bytes: tables.reduce((sum, table) => sum + table.segments.reduce((bytes, { plainBytes }) => bytes + plainBytes, 0), 0),
  };
  return { entry, packs: stored.packs };
}

interface Content {
  readonly subjects: readonly ManifestSubject[];
  readonly tables: readonly ReadTable[];
  readonly left: readonly string[];
}

async function manifestOf({ archive, file, input, id, predecessors: { previous } }: Run, { subjects, tables, left }: Content): Promise<Manifest> {
  return {
    format: manifestFormat,
    version: { major: manifestMajor, minor: manifestMinor },
    encryption: 'aes-256-gcm-stream/1',
    archive: await ensureIdentity(archive.store),
    id,
    // Nothing of the platform's is in it, so it is never taken for a backup of a whole database.
    scope: 'tenants',
    classes: ['database'],
    reason: input.reason,
    at: file.at.toISOString(),
    finishedAt: input.clock().toISOString(),
    source: { engine: 'sqlite', version: file.version, lsn: '', lineage: lineageOf(file), settings: { encoding: file.encoding } },
    model: modelFingerprint(file.model),
    schema: schemaHash(file),
    tables: tables.map((table) => table.described),
    sequences: [],
    subjects: subjects.toSorted((left, right) => (left.subject < right.subject ? -1 : 1)),
    left: [...left],
    previous: previous ? { id: previous.manifest.id, sha256: previous.sha256 } : null,
  };
}

function described({ name, columns, key, tenantColumn }: SourceTable): ManifestTable {
  return { name, class: 'database', kind: 'rows', columns: columns.map((column) => ({ ...column })), key: [...key], tenantColumn, rows: 0 };
}

function schemaHash({ database }: SqliteFile): string {
  const hash = createHash('sha256');
  for (const { sql } of database.prepare('select sql from sqlite_schema where sql is not null order by type, name').iterate()) hash.update(`${sql};\n`);
  return hash.digest('hex');
}
