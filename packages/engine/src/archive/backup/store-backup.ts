import { randomBytes } from 'node:crypto';
import path from 'node:path';
import type { Operation } from '../../db/operation.ts';
import { signingKey } from '../../keyring/signing.ts';
import { modelFingerprint } from '../../model/fingerprint.ts';
import { manifestObject, pagesObject } from '../archive.ts';
import { filesTables } from '../files/file-index.ts';
import { filesLeft, storeFiles } from '../files/store-files.ts';
import { type Manifest, type ManifestSubject, type ManifestTable, manifestFormat, manifestMajor, manifestMinor } from '../format/manifest.ts';
import { type PageTable, pageFormat } from '../format/page.ts';
import { signManifest } from '../format/signed-manifest.ts';
import { ensureIdentity } from '../identity.ts';
import { schemaTable } from '../read/backup-source.ts';
import { lineageText, type Predecessors } from './base.ts';
import { pageOf } from './changes.ts';
import { type Gathered, openGathered, type SpilledSegment, type SubjectGroup } from './gather.ts';
import { marksHash } from './marks.ts';
import { openPagesFile, type PagesFile } from './pages-file.ts';
import type { SpillFiles } from './reading/spill.ts';
import type { BackupRun, ReadTables } from './run-backup.ts';
import type { BackupSubject } from './seal-schema.ts';
import { sideBySide } from './side-by-side.ts';
import type { Sequence, SnapshotSchema } from './snapshot.ts';
import type { Source } from './sources.ts';
import { type PlannedPack, planTables, putPacks, type ReadTable } from './store-subject.ts';

/** Subjects that are stored side by side. */
const putsAtOnce = 16;

export interface StoreInput extends ReadTables {
  readonly sources: readonly Source[];
  readonly subjects: readonly BackupSubject[];
  readonly predecessors: Predecessors;
  readonly sequences: readonly Sequence[];
  readonly files: readonly SpillFiles[];
  readonly folder: string;
  readonly schema: SnapshotSchema;
}

/** What a run stored. */
export interface Stored {
  readonly objects: number;
  readonly bytes: number;
  /** Rows and plain bytes of the whole backup, taken over ones included. */
  readonly rows: number;
  readonly plainBytes: number;
  readonly pages: number;
}

/** Packs, then pages, then the manifest: each is there before what points at it. */
export async function storeBackup(run: BackupRun, input: StoreInput): Promise<Stored> {
  const { operation, archive, id, snapshot, options } = run;
  const gathered = openGathered(input.files, input.subjects.length);
  const pages = openPagesFile(path.join(input.folder, 'pages'));
  try {
    const stored: StoredSubject[] = [];
    for (const { from, to, segmentsOf } of gathered.groups()) {
      const numbers = Array.from({ length: to - from }, (_, at) => from + at);
      await sideBySide(numbers, putsAtOnce, async (number) => {
        operation.signal?.throwIfAborted();
        stored.push(await storeSubject(run, input, { number, segmentsOf, gathered, pages }));
        options.onProgress?.({ step: 'storing', done: stored.length, total: input.subjects.length });
      });
    }
    if (pages.bytes() > 0) await archive.store.put(pagesObject(id), pages.read(), { ifAbsent: true });
    const lineage = randomBytes(16).toString('hex');
    const isWhole = run.input.tenants === undefined;
    // Of the marks that tell whether rows changed: a backup without rows has none.
    if (isWhole && run.classes.includes('database')) await writeLineage(operation, lineage, id);
    const subjects = stored.map(({ entry }) => entry).sort((left, right) => (left.subject < right.subject ? -1 : 1));
    const manifest = {
      ...describe(run, input),
      archive: await ensureIdentity(archive.store),
      finishedAt: operation.database.clock().toISOString(),
      source: { ...sourceOf(run), lineage: lineageText(lineage, snapshot.lineage.home) },
      subjects,
    };
    const bytes = signManifest(manifest, await signingKey(archive.keyring));
    await archive.store.put(manifestObject(id), bytes, { ifAbsent: true });
    const packs = stored.flatMap((subject) => subject.packs);
    return {
      objects: packs.length + (pages.bytes() > 0 ? 2 : 1),
      bytes: packs.reduce((sum, pack) => sum + pack.bytes, pages.bytes() + bytes.length),
      rows: subjects.reduce((sum, { rows }) => sum + rows, 0),
      plainBytes: subjects.reduce((sum, subject) => sum + subject.bytes, 0),
      pages: stored.filter(({ isNew }) => isNew).length,
    };
  } finally {
    pages.close();
    gathered.close();
  }
}

interface StoredSubject {
  readonly entry: ManifestSubject;
  readonly packs: ManifestSubject['packs'];
  readonly isNew: boolean;
}

interface SubjectPlace {
  readonly number: number;
  readonly segmentsOf: SubjectGroup['segmentsOf'];
  readonly gathered: Gathered;
  readonly pages: PagesFile;
}

async function storeSubject(run: BackupRun, input: StoreInput, { number, segmentsOf, gathered, pages }: SubjectPlace): Promise<StoredSubject> {
  const { archive, id } = run;
  const key = input.subjects[number]?.key;
  if (!key) throw new Error(`subject ${number} has no key`);
  const { base } = input.predecessors;
  const earlier = base?.subjects.get(key.ref);
  const tenant = input.subjects[number]?.text ?? '';
  const files = run.files && number > 0 ? await storeFiles(run.files, { archive, backup: id, folder: input.folder }, { key, tenant }) : undefined;
  const filesSame = files === undefined || (files.same !== undefined && samePage(files.same, earlier));
  if (earlier && filesSame && input.changes.unchanged[number] === 1) return { entry: earlier, packs: [], isNew: false };
  const before = new Map((await pageOf(base, key.ref))?.tables.map((table) => [table.table, table]));
  const firstPack = files?.packs.length ?? 0;
  // The page is written and let go before its packs are: while one is put, that of nobody else is in memory.
  const page = (): Omit<ManifestSubject, 'packs'> & { readonly planned: readonly PlannedPack[]; readonly reached: ReadonlySet<string> } => {
    const placing = { ...tablesOf(input, number, { segments: segmentsOf(number), before }), before, firstPack };
    const planned = planTables(id, key, placing);
    const tables = [...planned.tables, ...placing.taken, ...(files?.tables ?? [])].sort((left, right) => (left.table < right.table ? -1 : 1));
    return {
      subject: key.ref,
      page: pages.add({ backup: id, format: pageFormat, subject: key.ref, tables }),
      rows: tables.reduce((sum, { rows }) => sum + rows, 0),
      bytes: tables.reduce((sum, table) => sum + table.segments.reduce((bytes, { plainBytes }) => bytes + plainBytes, 0), 0),
      planned: planned.packs,
      reached: new Set(tables.flatMap((table) => table.segments.map(packName))),
    };
  };
  const { planned, reached, ...entry } = page();
  const written = [...(files?.packs ?? []), ...(await putPacks({ store: archive.store, gathered, backup: id }, key, { packs: planned, firstPack }))];
  const known = new Map([...(earlier?.packs ?? []), ...(files?.taken ?? []), ...written].map((pack) => [packName(pack), pack]));
  const packs = [...known].flatMap(([name, pack]) => (reached.has(name) ? [pack] : []));
  const listed = { names: input.sources.map(({ name }) => name), marks: input.marks, schema: input.schema.mark, files: run.files !== undefined };
  const hash = marksHash(listed, number, key.id);
  return { entry: { ...entry, packs, ...(hash !== undefined && { marks: hash }) }, packs: written, isNew: true };
}

/** The tables of a subject: those that were read, and those that are taken over from the base. */
function tablesOf(
  { sources, marks, changes, schema }: StoreInput,
  number: number,
  { segments, before }: { readonly segments: readonly SpilledSegment[]; readonly before: ReadonlyMap<string, PageTable> },
): { readonly read: readonly ReadTable[]; readonly taken: readonly PageTable[] } {
  const bySource = Map.groupBy(segments, ({ source }) => source);
  const read: ReadTable[] = [];
  const taken: PageTable[] = [];
  for (const [source, { name }] of sources.entries()) {
    const rows = marks[source]?.rows[number] ?? 0;
    if (rows === 0) continue;
    if (changes.wanted[source]?.[number] === 1) {
      read.push({ table: name, rows, mark: marks[source]?.markOf(number) ?? null, segments: bySource.get(source) ?? [] });
    } else {
      const table = before.get(name);
      if (!table) throw new Error(`${name} was not read, and the base has nothing of it`);
      taken.push(table);
    }
  }
  if (number === 0) read.push({ table: schemaTable, rows: 0, mark: schema.mark, segments: bySource.get(sources.length) ?? [] });
  return { read, taken };
}

function packName({ backup, pack }: { readonly backup: string; readonly pack: number }): string {
  return `${backup}.${pack}`;
}

function samePage(left: ManifestSubject, right: ManifestSubject | undefined): boolean {
  return left.page.backup === right?.page.backup && left.page.offset === right.page.offset;
}

function describe(
  { operation, input, classes, id, snapshot, files }: BackupRun,
  { sources, marks, sequences, predecessors, schema }: StoreInput,
): Omit<Manifest, 'archive' | 'finishedAt' | 'source' | 'subjects'> {
  const { previous } = predecessors;
  const tables = sources.map((source, number): ManifestTable => {
    const { name, class: dataClass, columns, key, owner } = source;
    const tenantColumn = owner.kind === 'column' ? owner.column : null;
    const rows = (marks[number]?.rows ?? new Float64Array()).reduce((sum, each) => sum + each, 0);
    return { name, class: dataClass, kind: 'rows', columns: [...columns], key: [...key], tenantColumn, rows };
  });
  const statements: ManifestTable = { name: schemaTable, class: 'configuration', kind: 'bytes', columns: [], key: [], tenantColumn: null, rows: 0 };
  return {
    format: manifestFormat,
    version: { major: manifestMajor, minor: manifestMinor },
    encryption: 'aes-256-gcm-stream/1',
    id,
    scope: input.tenants === undefined ? 'all' : 'tenants',
    classes: [...classes],
    reason: input.reason,
    at: snapshot.at.toISOString(),
    model: modelFingerprint(operation.database.model),
    schema: schema.fingerprint,
    tables: [...tables, statements, ...filesTables(files?.places.map(({ name }) => name) ?? [])],
    sequences: [...sequences],
    left: [...snapshot.left, ...predecessors.damage, ...strays(sources, marks, input.tenants === undefined), ...(files ? filesLeft(files) : [])],
    previous: previous ? { id: previous.manifest.id, sha256: previous.sha256 } : null,
  };
}

/** Rows that the model says belong to tenants, and that belong to none that is registered: kept, with the platform's. */
export function strays(sources: readonly Source[], marks: ReadTables['marks'], isWhole: boolean): string[] {
  if (!isWhole) return [];
  return sources.flatMap(({ name, strict }, number) => {
    const rows = strict ? (marks[number]?.rows[0] ?? 0) : 0;
    return rows === 0 ? [] : [`${name}: ${rows} rows of no registered tenant, kept with the platform's`];
  });
}

function sourceOf({ snapshot: { version, lsn, settings } }: BackupRun): Omit<Manifest['source'], 'lineage'> {
  return { engine: 'postgresql', version, lsn, settings: { ...settings } };
}

/**
 * After the snapshot has ended and before the manifest that names it: a database that holds this value has the snapshot in its past. Where the
 * manifest is not stored any more, the next backup finds no base and reads everything.
 */
async function writeLineage({ database }: Operation, lineage: string, backup: string): Promise<void> {
  await database.pool.query(
    `insert into partywall_control.archive_lineage (id, lineage, backup) values (true, $1, $2)
on conflict (id) do update set lineage = excluded.lineage, backup = excluded.backup, changed_at = now()`,
    [lineage, backup],
  );
}
