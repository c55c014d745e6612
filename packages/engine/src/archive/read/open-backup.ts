import { createHash } from 'node:crypto';
import { PartywallError } from '../../errors.ts';
import type { DataKey, Subject } from '../../keyring/data-keys.ts';
import { publicKeys } from '../../keyring/signing.ts';
import { readObject } from '../../store/read-object.ts';
import type { Store } from '../../store/store.ts';
import { type Archive, isBackupId, manifestObject, packObject, pagesObject } from '../archive.ts';
import type { Manifest, ManifestSubject } from '../format/manifest.ts';
import { type Page, type PageSegment, page as pageSchema } from '../format/page.ts';
import { readSegment } from '../format/segment.ts';
import { manifestBytesMax, manifestHash, parseManifest } from '../format/signed-manifest.ts';
import { retiredSubjects } from './retired-subjects.ts';

/** A finished backup, whose manifest was checked. What else it reaches is checked as it is read. */
export interface Backup {
  readonly manifest: Manifest;
  /** SHA-256 of the stored manifest, hex. */
  readonly sha256: string;
  /** Of all subjects that the backup holds, also those whose keys are gone. */
  readonly subjects: ReadonlyMap<string, ManifestSubject>;
  /** Subjects that it held until retention let them go, with when that was. */
  readonly retired: ReadonlyMap<string, Date>;
  /** The page of a subject. @throws PartywallError archive_damaged, store_object_missing */
  page(ref: string): Promise<Page>;
  /**
   * The plain content of a table of a subject; nothing where it has none. Each piece of a table of rows is whole lines.
   *
   * @throws PartywallError key_missing, archive_damaged, store_object_missing
   */
  content(ref: string, table: string): AsyncIterable<Buffer>;
  /** The same for segments of a page that was read already. */
  segments(ref: string, table: string, segments: readonly PageSegment[]): AsyncIterable<Buffer>;
}

/** @throws PartywallError backup_unknown, archive_foreign, archive_damaged */
export async function openBackup(archive: Archive, id: string): Promise<Backup> {
  if (!isBackupId(id)) throw unknownBackup(id);
  const stored = await readObject(archive.store, manifestObject(id), manifestBytesMax).catch((error: unknown) => {
    throw error instanceof PartywallError && error.code === 'store_object_missing' ? unknownBackup(id) : error;
  });
  const manifest = parseManifest(stored, id, await publicKeys(archive.keyring));
  const retired = await retiredSubjects(archive, id);
  const subjects = new Map(manifest.subjects.flatMap((subject) => (retired.has(subject.subject) ? [] : [[subject.subject, subject]])));
  const page = (ref: string): Promise<Page> => {
    const subject = subjects.get(ref);
    if (!subject) throw new PartywallError('backup_unknown', `looking for subject ${ref} in backup ${id}: ${whyNot({ retired }, ref)}`);
    return readPage(archive.store, subject);
  };
  async function* segments(ref: string, table: string, listed: readonly PageSegment[]): AsyncGenerator<Buffer> {
    for (const segment of listed) yield* openSegment(archive, { ref, table, segment });
  }
  return {
    manifest,
    sha256: manifestHash(stored),
    subjects,
    retired,
    page,
    segments,
    async *content(ref, table) {
      const found = (await page(ref)).tables.find((each) => each.table === table);
      if (found) yield* segments(ref, table, found.segments);
    },
  };
}

/** Why a backup has nothing of a subject. */
export function whyNot({ retired }: Pick<Backup, 'retired'>, ref: string): string {
  const at = retired.get(ref);
  return at ? `it held it until ${at.toISOString()}, when retention let it go` : 'it holds nothing of it';
}

export interface SegmentPlace {
  readonly ref: string;
  readonly table: string;
  readonly segment: PageSegment;
}

/** The plain content of one segment. @throws PartywallError key_missing, archive_damaged, store_object_missing */
export function openSegment({ store, keys }: Pick<Archive, 'store' | 'keys'>, { ref, table, segment }: SegmentPlace): AsyncIterable<Buffer> {
  const key = keyOf(keys.byId(segment.key), ref);
  const { backup, part, pack, offset, bytes } = segment;
  return readSegment(key, { backup, table, part }, segment, store.get(packObject(ref, backup, pack), { offset, length: bytes }));
}

/** Pages come from the signed manifest by hash, so a key of another subject in one is a mistake of whoever wrote it. */
function keyOf(key: DataKey, ref: string): DataKey {
  if (key.ref !== ref) throw new PartywallError('archive_damaged', `reading subject ${ref}: key ${key.id} is of another subject`);
  return key;
}

/** @throws PartywallError archive_damaged, store_object_missing */
export async function readPage(store: Store, { subject, page: { backup, offset, bytes, sha256 } }: ManifestSubject): Promise<Page> {
  const key = pagesObject(backup);
  const pieces: Buffer[] = [];
  for await (const piece of store.get(key, { offset, length: bytes })) pieces.push(piece);
  const stored = Buffer.concat(pieces);
  const damaged = (what: string): PartywallError => new PartywallError('archive_damaged', `reading the page of subject ${subject} in ${key}: ${what}`);
  if (createHash('sha256').update(stored).digest('hex') !== sha256) throw damaged('it is not the one that the manifest names');
  const parsed = pageSchema.safeParse(JSON.parse(stored.toString('utf8')));
  if (!parsed.success) throw damaged(`it is malformed at ${parsed.error.issues[0]?.path.join('.')}`);
  if (parsed.data.subject !== subject) throw damaged(`it is the page of subject ${parsed.data.subject}`);
  return parsed.data;
}

/** The subject's random name in this archive. @throws PartywallError key_missing: it was erased, or never backed up with this keyring */
export function refOf({ keys }: Pick<Archive, 'keys'>, subject: Subject): string {
  const found = keys.subjects().find((each) => each.subject === subject);
  if (found) return found.ref;
  throw new PartywallError('key_missing', `looking for the key of ${subject.slice(0, 100)}: the keyring has none`);
}

export function unknownBackup(id: string): PartywallError {
  return new PartywallError('backup_unknown', `looking for backup ${JSON.stringify(id.slice(0, 100))}: there is none`);
}
