import { createHash } from 'node:crypto';
import { PartywallError } from '../../errors.ts';
import { readObject } from '../../store/read-object.ts';
import { type Archive, manifestObject, packObject } from '../archive.ts';
import type { Page, PageSegment } from '../format/page.ts';
import { readSegment } from '../format/segment.ts';
import { manifestBytesMax, manifestHash } from '../format/signed-manifest.ts';
import { type Backup, openBackup } from '../read/open-backup.ts';
import { sideBySide } from './side-by-side.ts';

export interface VerifyBackupOptions {
  /** Reads and opens every segment; else objects are looked for, and pages are read. */
  readonly readData?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
}

/** What there is of a backup, and all that is wrong with it. */
export interface BackupCheck {
  readonly id: string;
  readonly whole: boolean;
  readonly readData: boolean;
  readonly subjects: number;
  /** Subjects whose keys are gone: erased. Their objects are looked for, and cannot be read. */
  readonly sealed: number;
  readonly packs: number;
  readonly segments: number;
  readonly bytes: number;
  readonly rows: number;
  /** A line for each thing, naming it. */
  readonly damage: readonly string[];
}

const subjectsAtOnce = 4;
const newline = 0x0a;

/**
 * Checks a backup from its manifest down: signature and chain; each page by its hash; each pack by its size, and with `readData` by its hash, every
 * segment in it opened and its rows counted. Goes on after a damage, so that all of it is named. Subject by subject, so that no more than a few pages
 * are in memory: those of ten thousand tenants of a hundred tables are a million segments.
 *
 * @throws PartywallError backup_unknown, archive_foreign, store_unavailable, store_refused
 */
export async function verifyBackup(archive: Archive, id: string, options: VerifyBackupOptions = {}): Promise<BackupCheck> {
  const { readData = false, signal } = options;
  const damage: string[] = [];
  const counted = { packs: 0, segments: 0, bytes: 0, rows: 0 };
  const backup = await noting(damage, () => openBackup(archive, id));
  if (!backup) return { id, readData, subjects: 0, sealed: 0, ...counted, whole: false, damage };
  await noting(damage, () => checkChain(archive, backup));
  const refs = [...backup.subjects.keys()];
  const kinds = new Map(backup.manifest.tables.map(({ name, kind }) => [name, kind]));
  const rows = new Map<string, number>();
  const wrongPages: string[] = [];
  const total = [...backup.subjects.values()].reduce((sum, { packs }) => sum + packs.length, 0);
  await sideBySide(refs, subjectsAtOnce, async (ref) => {
    signal?.throwIfAborted();
    const page = await noting(wrongPages, () => backup.page(ref));
    const packs = page ? packsOf({ backup, ref, page, kinds, rows, damage: wrongPages }) : [];
    const isOpened = readData && archive.keys.byRef(ref) !== undefined;
    for (const pack of packs) {
      signal?.throwIfAborted();
      await noting(damage, () => checkSize(archive, pack));
      if (readData) await noting(damage, () => checkContent(archive, pack, { opened: isOpened, damage }));
      counted.packs += 1;
      counted.segments += pack.segments.length;
      counted.bytes += pack.bytes;
      options.onProgress?.({ done: counted.packs, total });
    }
  });
  // Where a page is damaged the sums are wrong as well, and say nothing more.
  damage.push(...wrongPages, ...(wrongPages.length === 0 ? wrongSums(backup, rows) : []));
  return {
    id,
    readData,
    subjects: refs.length,
    sealed: refs.filter((ref) => archive.keys.byRef(ref) === undefined).length,
    ...counted,
    rows: [...rows.values()].reduce((sum, each) => sum + each, 0),
    whole: damage.length === 0,
    damage: damage.sort(),
  };
}

interface Pack {
  readonly key: string;
  readonly ref: string;
  readonly bytes: number;
  readonly sha256: string;
  /** Those that this backup reaches. */
  readonly segments: { readonly table: string; readonly kind: 'rows' | 'bytes'; readonly segment: PageSegment }[];
}

interface ReadPage {
  readonly backup: Backup;
  readonly ref: string;
  readonly page: Page;
  /** Of the tables of the manifest. */
  readonly kinds: ReadonlyMap<string, Pack['segments'][number]['kind']>;
  /** Of all pages, by table. */
  readonly rows: Map<string, number>;
  readonly damage: string[];
}

/** The packs of a subject, with the segments that its page has in them. Adds up its rows. */
function packsOf({ backup, ref, page, kinds, rows, damage }: ReadPage): Pack[] {
  const packs = new Map<string, Pack>();
  for (const { backup: storedBy, pack, bytes, sha256 } of backup.subjects.get(ref)?.packs ?? []) {
    const key = packObject(ref, storedBy, pack);
    packs.set(key, { key, ref, bytes, sha256, segments: [] });
  }
  for (const { table, rows: counted, segments } of page.tables) {
    rows.set(table, (rows.get(table) ?? 0) + counted);
    const kind = kinds.get(table);
    if (kind === undefined) damage.push(`the page of ${ref}: ${table} is no table of the manifest`);
    const sum = segments.reduce((total, segment) => total + segment.rows, 0);
    if (sum !== counted) damage.push(`the page of ${ref}: ${table} has ${counted} rows, and its segments have ${sum}`);
    for (const segment of segments) {
      const key = packObject(ref, segment.backup, segment.pack);
      const pack = packs.get(key);
      if (pack && segment.offset + segment.bytes <= pack.bytes) pack.segments.push({ table, kind: kind ?? 'bytes', segment });
      else damage.push(`the page of ${ref}: part ${segment.part} of ${table} is not in ${key} as the manifest has it`);
    }
  }
  return [...packs.values()];
}

/** Rows of the pages against those of the manifest, where nobody was taken out of it. */
function wrongSums({ manifest, subjects }: Backup, rows: ReadonlyMap<string, number>): string[] {
  if (subjects.size !== manifest.subjects.length) return [];
  return manifest.tables.flatMap(({ name, rows: said }) => {
    const found = rows.get(name) ?? 0;
    return found === said ? [] : [`the manifest: ${name} has ${said} rows, and the pages have ${found}`];
  });
}

/** The backup before this one may be gone; one that is there is the one that was named. */
async function checkChain({ store }: Archive, { manifest: { id, previous } }: Backup): Promise<void> {
  if (!previous) return;
  const key = manifestObject(previous.id);
  if (!(await store.head(key))) return;
  const hash = manifestHash(await readObject(store, key, manifestBytesMax));
  if (hash !== previous.sha256) throw new PartywallError('archive_damaged', `${key}: it is not the manifest that backup ${id} follows`);
}

async function checkSize({ store }: Archive, { key, bytes }: Pack): Promise<void> {
  const found = await store.head(key);
  if (!found) throw new PartywallError('archive_damaged', `${key}: it is missing`);
  if (found.bytes !== bytes) throw new PartywallError('archive_damaged', `${key}: it has ${found.bytes} bytes instead of ${bytes}`);
}

/** Reads a pack once: its hash, and on the way each segment. */
async function checkContent(
  { store, keys }: Archive,
  { key, ref, sha256, segments }: Pack,
  { opened, damage }: { readonly opened: boolean; readonly damage: string[] },
): Promise<void> {
  const hash = createHash('sha256');
  const input = cutter(store.get(key), (piece) => hash.update(piece));
  let at = 0;
  if (opened) {
    for (const { table, kind, segment } of segments.toSorted((left, right) => left.segment.offset - right.segment.offset)) {
      for await (const _ of input.take(segment.offset - at));
      const stored = input.take(segment.bytes);
      await noting(damage, async () => {
        const dataKey = keys.byId(segment.key);
        if (dataKey.ref !== ref)
          throw new PartywallError('archive_damaged', `${key}: part ${segment.part} of ${table} is sealed with a key of another subject`);
        let rows = 0;
        for await (const piece of readSegment(dataKey, { backup: segment.backup, table, part: segment.part }, segment, stored)) rows += linesIn(piece);
        if (kind === 'rows' && rows !== segment.rows) {
          throw new PartywallError('archive_damaged', `${key}: part ${segment.part} of ${table} has ${rows} rows instead of ${segment.rows}`);
        }
      });
      // What a damaged segment left unread.
      for await (const _ of stored);
      at = segment.offset + segment.bytes;
    }
  }
  for await (const _ of input.take(Number.POSITIVE_INFINITY));
  if (hash.digest('hex') !== sha256) throw new PartywallError('archive_damaged', `${key}: its content is not what was stored`);
}

/** Gives out what comes in portions of given lengths; a portion goes on where it was left. */
function cutter(pieces: AsyncIterable<Buffer>, onPiece: (piece: Buffer) => void): { take(bytes: number): AsyncIterable<Buffer> } {
  const input = pieces[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);
  return {
    take: (bytes) => {
      let left = bytes;
      const next = async (): Promise<IteratorResult<Buffer>> => {
        if (left === 0) return { done: true, value: undefined };
        if (held.length === 0) {
          const { done, value } = await input.next();
          if (done) return { done: true, value: undefined };
          onPiece(value);
          held = value;
        }
        const piece = held.subarray(0, Math.min(left, held.length));
        held = held.subarray(piece.length);
        left -= piece.length;
        return { done: false, value: piece };
      };
      return { [Symbol.asyncIterator]: () => ({ next }) };
    },
  };
}

function linesIn(piece: Buffer): number {
  let lines = 0;
  for (let at = piece.indexOf(newline); at >= 0; at = piece.indexOf(newline, at + 1)) lines += 1;
  return lines;
}

/** What is damaged or missing is noted; what kept from looking is thrown. */
async function noting<Result>(damage: string[], work: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    const isDamage = error instanceof PartywallError && ['archive_damaged', 'store_object_missing', 'key_missing'].includes(error.code);
    if (!isDamage) throw error;
    damage.push(error.message);
    return undefined;
  }
}
