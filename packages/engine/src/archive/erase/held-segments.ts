import { PartywallError } from '../../errors.ts';
import { type Archive, packObject } from '../archive.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import type { PageSegment } from '../format/page.ts';
import { backupIds } from '../read/list-backups.ts';
import { openBackup, type SegmentPlace } from '../read/open-backup.ts';

/** Everything that an archive holds of some subjects, by their refs. */
export interface Held {
  /** Oldest first. */
  readonly backups: readonly HeldBackup[];
  /** In the order of their names; also those that no backup reaches any more. */
  readonly objects: readonly HeldObject[];
  /** Backups that could not be read, a line each. */
  readonly unread: readonly string[];
}

export interface HeldBackup {
  readonly id: string;
  readonly at: string;
  readonly rows: number;
  /** That it reaches: several backups reach the same where nothing changed between them. */
  readonly segments: number;
}

export interface HeldObject {
  readonly object: string;
  readonly bytes: number;
  /** As the manifests have it; null where none reaches the object. */
  readonly sha256: string | null;
  /** Until then it cannot be deleted. */
  readonly lockedUntil: string | null;
  /** In the order of their places. */
  readonly segments: readonly HeldSegment[];
}

export interface HeldSegment extends SegmentPlace {}

const requestsAtOnce = 16;
/** Segments that are named one by one; of what is beyond, the objects are. */
const segmentsMax = 500_000;
const readable: ReadonlySet<string> = new Set(['archive_damaged', 'archive_foreign', 'store_object_missing', 'backup_unknown']);

export interface HeldOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, of: number) => Promise<void>) | undefined;
}

interface Finding {
  readonly bytes: number;
  readonly lockedUntil: string | null;
  sha256: string | null;
  readonly segments: Map<string, SegmentPlace>;
}

/**
 * Finds what an archive holds of subjects, from every manifest and from the names of objects. Needs no key: pages are in clear.
 *
 * @throws PartywallError store_unavailable, store_refused
 */
export async function heldSegments(archive: Archive, refs: readonly string[], { signal, onProgress }: HeldOptions = {}): Promise<Held> {
  const objects = new Map<string, Finding>();
  const backups: HeldBackup[] = [];
  const unread: string[] = [];
  if (refs.length === 0) return { backups, objects: [], unread };
  for (const ref of refs) await findObjects(archive, ref, objects);
  let named = 0;
  const note = (ref: string, table: string, segment: PageSegment): void => {
    const key = packObject(ref, segment.backup, segment.pack);
    const found = objects.get(key) ?? { bytes: 0, lockedUntil: null, sha256: null, segments: new Map() };
    objects.set(key, found);
    const place = String(segment.offset);
    if (found.segments.has(place) || named >= segmentsMax) return;
    named += 1;
    found.segments.set(place, { ref, table, segment });
  };
  const ids = await backupIds(archive);
  for (const [at, id] of ids.entries()) {
    signal?.throwIfAborted();
    await onProgress?.(at, ids.length);
    try {
      const backup = await openBackup(archive, id);
      for (const ref of refs) {
        const subject = backup.subjects.get(ref);
        if (!subject) continue;
        for (const { backup: from, pack, bytes, sha256 } of subject.packs) {
          const key = packObject(ref, from, pack);
          const found = objects.get(key) ?? { bytes, lockedUntil: null, sha256, segments: new Map() };
          found.sha256 = sha256;
          objects.set(key, found);
        }
        const page = await backup.page(ref);
        let segments = 0;
        for (const { table, segments: listed } of page.tables) {
          for (const segment of listed) note(ref, table, segment);
          segments += listed.length;
        }
        backups.push({ id, at: backup.manifest.at, rows: subject.rows, segments });
      }
    } catch (error) {
      if (!(error instanceof PartywallError) || !readable.has(error.code)) throw error;
      // Removed since it was listed.
      if (error.code !== 'backup_unknown') unread.push(error.message);
    }
  }
  const sorted = [...objects].sort(([left], [right]) => (left < right ? -1 : 1));
  return {
    backups,
    unread,
    objects: sorted.map(([object, { segments, ...found }]) => ({
      object,
      ...found,
      segments: [...segments.values()].sort((left, right) => left.segment.offset - right.segment.offset),
    })),
  };
}

async function findObjects({ store }: Archive, ref: string, objects: Map<string, Finding>): Promise<void> {
  const names: string[] = [];
  for await (const { key, bytes, lockedUntil } of store.list(`packs/${ref}/`)) {
    names.push(key);
    objects.set(key, { bytes, lockedUntil: lockedUntil?.toISOString() ?? null, sha256: null, segments: new Map() });
  }
  if (!store.can.lock) return;
  // Lists do not tell of locks.
  await sideBySide(names, requestsAtOnce, async (key) => {
    const found = objects.get(key);
    const lockedUntil = (await store.head(key))?.lockedUntil?.toISOString() ?? null;
    if (found) objects.set(key, { ...found, lockedUntil });
  });
}
