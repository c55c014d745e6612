import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { DataKey } from '../../keyring/data-keys.ts';
import type { Archive } from '../archive.ts';
import { unlessDamaged } from '../backup/base.ts';
import { openGathered, type SpilledSegment } from '../backup/gather.ts';
import { openSpill, type Spill } from '../backup/reading/spill.ts';
import { type ReadTable, type StoredPack, storeTables } from '../backup/store-subject.ts';
import type { ManifestSubject } from '../format/manifest.ts';
import type { PageSegment, PageTable } from '../format/page.ts';
import { chunkBytes, writeSegment } from '../format/segment.ts';
import { backupIds } from '../read/list-backups.ts';
import { type Backup, openBackup } from '../read/open-backup.ts';
import { contentTable, type IndexedFile, indexLine, indexTable, isFilesTable, readIndex } from './file-index.ts';
import { FileChanged, type FilePlace, type LiveFile, type LiveFiles } from './live-files.ts';

/** What one run knows of files. */
export interface FilesRun {
  readonly places: readonly FilePlace[];
  /** Newest first: where segments of files that have not changed since may be taken from. */
  readonly bases: readonly Backup[];
  /** What could not be read of them, a line each. */
  readonly damage: string[];
  /** What was not kept, by place and kind: counts, because names of files are personal data. */
  readonly left: Map<string, number>;
  readonly sum: FilesSum;
}

export interface FilesSum {
  files: number;
  bytes: number;
  /** Files that were read, because nothing says that they have not changed. */
  read: number;
}

/** A file that changes while it is read is read so many times. */
const attemptsMax = 3;
/** Manifests that are looked at for files: those of the other data classes lie between. */
const candidatesMax = 50;

/** Looked at and not whole: who took something over from it would not be whole either. */
const failedSql = "select r.backup from partywall_control.backup_runs r where r.backup = any($1) and r.state = 'failed'";

/** A run on these places, that takes over from the newest backups with files: back to the last one of everybody. */
export async function filesRun({ database }: Operation, archive: Archive, places: readonly FilePlace[]): Promise<FilesRun> {
  const ids = (await backupIds(archive)).reverse().slice(0, candidatesMax);
  const { rows } = await database.pool.query<{ backup: string }>(failedSql, [ids]);
  const failed = new Set(rows.map(({ backup }) => backup));
  const damage: string[] = [];
  const bases: Backup[] = [];
  for (const id of ids.filter((each) => !failed.has(each))) {
    const backup = await unlessDamaged(damage, () => openBackup(archive, id));
    if (!backup?.manifest.classes.includes('files')) continue;
    bases.push(backup);
    if (backup.manifest.scope === 'all') break;
  }
  return { places, bases, damage, left: new Map(), sum: { files: 0, bytes: 0, read: 0 } };
}

export function filesLeft({ damage, left }: FilesRun): string[] {
  return [...new Set(damage), ...[...left].map(([what, count]) => `${what}: ${count}`).sort()];
}

/** A tenant's files as they are stored now. */
export interface StoredFiles {
  readonly tables: readonly PageTable[];
  /** That this backup stored, from number 0. */
  readonly packs: readonly StoredPack[];
  /** What else the tables reach. */
  readonly taken: readonly StoredPack[];
  /** Page of the base that says the same; undefined where something is other than there. */
  readonly same: ManifestSubject | undefined;
}

interface FilesTarget {
  readonly archive: Archive;
  readonly backup: string;
  /** For what waits to be stored: sealed. */
  readonly folder: string;
}

interface FilesOwner {
  readonly key: DataKey;
  readonly tenant: string;
}

/** Reads and seals the files of one tenant that changed, stores them, and says where all of them are. */
export async function storeFiles(run: FilesRun, { archive, backup, folder }: FilesTarget, owner: FilesOwner): Promise<StoredFiles> {
  const { key } = owner;
  const base = run.bases.find(({ subjects }) => subjects.has(key.ref));
  const page = base && (await unlessDamaged(run.damage, () => base.page(key.ref)));
  const before = new Map(page?.tables.filter(({ table }) => isFilesTable(table)).map((table) => [table.table, table]));
  const files = { chunks: path.join(folder, `files-${key.ref}.chunks`), records: path.join(folder, `files-${key.ref}.records`) };
  try {
    const spill = openSpill(files);
    const places: ReadPlace[] = [];
    try {
      for (const [number, place] of run.places.entries()) places.push(await readPlace({ run, backup, spill, base, before, number, place }, owner));
    } finally {
      spill.close();
    }
    const gathered = openGathered([files], 1);
    try {
      const read = placedTables(
        places,
        [...gathered.groups()].flatMap(({ segmentsOf }) => segmentsOf(0)),
      );
      const { tables, packs } = await storeTables({ store: archive.store, gathered, backup }, key, { read, before });
      const earlier = base?.subjects.get(key.ref);
      const isSame =
        packs.length === 0 && tables.length === before.size && tables.every(({ table, segments }) => segments.length === before.get(table)?.segments.length);
      return { tables, packs, taken: earlier?.packs ?? [], same: isSame ? earlier : undefined };
    } finally {
      gathered.close();
    }
  } finally {
    for (const name of Object.values(files)) await rm(name, { force: true });
  }
}

/** A tenant's files of one place, as they were read. */
interface ReadPlace {
  readonly name: string;
  readonly files: number;
  readonly taken: readonly PageSegment[];
  /** Parts that were read whole and are new. */
  readonly fresh: ReadonlySet<number>;
}

function placedTables(places: readonly ReadPlace[], segments: readonly SpilledSegment[]): ReadTable[] {
  const bySource = Map.groupBy(segments, ({ source }) => source);
  return places.flatMap(({ name, files, taken, fresh }, number): ReadTable[] => {
    if (files === 0) return [];
    const content = (bySource.get(contentSource(number)) ?? []).filter(({ part }) => fresh.has(part));
    return [
      { table: indexTable(name), rows: 0, mark: null, segments: bySource.get(indexSource(number)) ?? [] },
      { table: contentTable(name), rows: 0, mark: null, taken, segments: content },
    ];
  });
}

function indexSource(place: number): number {
  return 2 * place;
}

function contentSource(place: number): number {
  return 2 * place + 1;
}

interface Reading {
  readonly run: FilesRun;
  readonly backup: string;
  readonly spill: Spill;
  readonly base: Backup | undefined;
  readonly before: ReadonlyMap<string, PageTable>;
  readonly number: number;
  readonly place: FilePlace;
}

async function readPlace(reading: Reading, { key, tenant }: FilesOwner): Promise<ReadPlace> {
  const { run, backup, spill, base, before, number, place } = reading;
  const live = filesOf(reading, tenant);
  if (!live) return { name: place.name, files: 0, taken: [], fresh: new Set() };
  const listing = await live.list();
  for (const [kind, count] of listing.left) note(reading, kind, count);
  const stored = new Map(before.get(contentTable(place.name))?.segments.map((segment) => [segment.part, segment]));
  const index = before.get(indexTable(place.name));
  const old = base && index ? await unlessDamaged(run.damage, () => readIndex(base.segments(key.ref, index.table, index.segments))) : [];
  const known = new Map(old?.map((file) => [file.path, file]));
  const table = contentTable(place.name);
  const indexed: IndexedFile[] = [];
  const taken: PageSegment[] = [];
  const fresh = new Set<number>();
  let part = [...stored.keys()].reduce((last, each) => Math.max(last, each), -1);
  for (const listed of listing.files) {
    const earlier = known.get(listed.path);
    const segment = earlier && stored.get(earlier.part);
    const usable = segment?.key === key.id ? segment : undefined;
    const take = (file: LiveFile): void => {
      if (!earlier || !usable) return;
      taken.push(usable);
      indexed.push({ ...file, part: earlier.part });
    };
    if (earlier && usable && listed.tag !== '' && listed.tag === earlier.tag) {
      take(earlier);
      continue;
    }
    run.sum.read += 1;
    const read = await readTries(live, listed, async (file) => {
      part += 1;
      return sealContent({ spill, source: contentSource(number), key, backup, table, part }, live.read(file));
    });
    if (read.kind === 'read' && read.mac === usable?.mac) take(read.file);
    else if (read.kind === 'read') {
      fresh.add(part);
      indexed.push({ ...read.file, part });
    } else if (read.kind === 'gone') note(reading, 'gone before they were read');
    else {
      // What it was when it last held still is better than nothing, and than half of each.
      note(reading, usable ? 'changing while they were read, kept as they were before' : 'changing while they were read, left out');
      if (earlier) take(earlier);
    }
  }
  run.sum.files += indexed.length;
  run.sum.bytes += indexed.reduce((sum, { bytes }) => sum + bytes, 0);
  if (indexed.length > 0) await sealContent({ spill, source: indexSource(number), key, backup, table: indexTable(place.name), part: 0 }, linesOf(indexed));
  return { name: place.name, files: indexed.length, taken, fresh };
}

/** Undefined where the tenant can have none. */
function filesOf(reading: Reading, tenant: string): LiveFiles | undefined {
  try {
    return reading.place.of(tenant);
  } catch (error) {
    if (!(error instanceof PartywallError) || error.code !== 'input_invalid') throw error;
    note(reading, 'tenants whose key is no part of a path');
    return undefined;
  }
}

function note({ run, place }: Reading, kind: string, count = 1): void {
  const what = `files ${place.name}, ${kind}`;
  run.left.set(what, (run.left.get(what) ?? 0) + count);
}

type ReadTry = { readonly kind: 'read'; readonly file: LiveFile; readonly mac: string } | { readonly kind: 'gone' | 'changing' };

/** Until a file holds still while it is read. */
async function readTries(live: LiveFiles, listed: LiveFile, read: (file: LiveFile) => Promise<string>): Promise<ReadTry> {
  let file = listed;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return { kind: 'read', file, mac: await read(file) };
    } catch (error) {
      if (!(error instanceof FileChanged)) throw error;
    }
    const now = await live.look(listed.path);
    if (!now) return { kind: 'gone' };
    if (attempt === attemptsMax) return { kind: 'changing' };
    file = now;
  }
}

interface Sealing {
  readonly spill: Spill;
  readonly source: number;
  readonly key: DataKey;
  readonly backup: string;
  readonly table: string;
  readonly part: number;
}

/** Seals content as it comes; returns its MAC. What breaks off has no last chunk, and is no segment. */
async function sealContent({ spill, source, key, backup, table, part }: Sealing, content: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<string> {
  const writer = writeSegment(key, { backup, table, part });
  let chunk = 0;
  let held: Buffer[] = [];
  let heldBytes = 0;
  const close = (last: boolean): string => {
    const plain = Buffer.concat(held);
    const stored = writer.chunk(plain, last);
    const mac = last ? writer.sum().mac : '';
    const pieces = chunk === 0 ? [writer.header, stored] : [stored];
    spill.write(pieces, { subject: 0, source, part, chunk, last, rows: 0, plainBytes: plain.length, mac: last ? Buffer.from(mac, 'hex') : undefined });
    chunk += 1;
    held = [];
    heldBytes = 0;
    return mac;
  };
  for await (const piece of content) {
    if (heldBytes >= chunkBytes) close(false);
    held.push(piece);
    heldBytes += piece.length;
  }
  return close(true);
}

function* linesOf(files: readonly IndexedFile[]): Generator<Buffer> {
  for (const file of files) yield Buffer.from(indexLine(file));
}
