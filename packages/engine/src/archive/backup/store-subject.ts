import { createHash, type Hash } from 'node:crypto';
import type { DataKey } from '../../keyring/data-keys.ts';
import type { Store } from '../../store/store.ts';
import { packObject } from '../archive.ts';
import type { ManifestSubject } from '../format/manifest.ts';
import type { PageSegment, PageTable } from '../format/page.ts';
import type { Gathered, SpilledSegment } from './gather.ts';

/** A pack is closed at this size; one segment may be longer. */
const packBytesMax = 256 * 1024 ** 2;
/** A pack up to this size is put from memory, so that it can be tried again. */
const wholePackBytes = 2 * 1024 ** 2;

export type StoredPack = ManifestSubject['packs'][number];

/** A table of a subject that was read: what to say of it, and its segments. */
export interface ReadTable {
  readonly table: string;
  readonly rows: number;
  readonly mark: string | null;
  readonly segments: readonly SpilledSegment[];
  /** Further segments, which are stored already. */
  readonly taken?: readonly PageSegment[];
}

export interface StoredTables {
  readonly tables: readonly PageTable[];
  readonly packs: StoredPack[];
}

/**
 * Stores the segments of one subject that were read, but for those that the base has with the same content under the same key, and says
 * where they all are.
 */
export async function storeTables(
  { store, gathered, backup }: { readonly store: Store; readonly gathered: Gathered; readonly backup: string },
  key: DataKey,
  { read, before, firstPack = 0 }: { readonly read: readonly ReadTable[]; readonly before: ReadonlyMap<string, PageTable>; readonly firstPack?: number },
): Promise<StoredTables> {
  const packs: StoredPack[] = [];
  let open: SpilledSegment[] = [];
  let openBytes = 0;
  const close = async (): Promise<void> => {
    if (open.length === 0) return;
    const number = firstPack + packs.length;
    packs.push(await putPack({ store, gathered, key: packObject(key.ref, backup, number), number, backup }, open, openBytes));
    open = [];
    openBytes = 0;
  };
  const tables: PageTable[] = [];
  for (const { table, rows, mark, segments, taken = [] } of read) {
    const known = new Map(before.get(table)?.segments.map((segment) => [segment.part, segment]));
    const placed: PageSegment[] = [...taken];
    for (const segment of segments) {
      const same = known.get(segment.part);
      if (same?.mac === segment.mac && same.key === key.id) {
        placed.push(same);
        continue;
      }
      if (openBytes > 0 && openBytes + segment.bytes > packBytesMax) await close();
      const { part, bytes, chunks, rows: segmentRows, plainBytes, mac } = segment;
      const pack = firstPack + packs.length;
      placed.push({ backup, key: key.id, part, pack, offset: openBytes, bytes, chunks, rows: segmentRows, plainBytes, mac });
      open.push(segment);
      openBytes += bytes;
    }
    tables.push({ table, rows, mark, segments: placed.sort((left, right) => left.part - right.part) });
  }
  await close();
  return { tables, packs };
}

interface PackPlace {
  readonly store: Store;
  readonly gathered: Gathered;
  readonly key: string;
  readonly number: number;
  readonly backup: string;
}

async function putPack({ store, gathered, key, number, backup }: PackPlace, segments: readonly SpilledSegment[], bytes: number): Promise<StoredPack> {
  const hash = createHash('sha256');
  const body = bytes > wholePackBytes ? pieces(gathered, segments, hash) : whole(gathered, segments, bytes);
  if (Buffer.isBuffer(body)) hash.update(body);
  await store.put(key, body, { ifAbsent: true });
  return { backup, pack: number, bytes, sha256: hash.digest('hex') };
}

function whole(gathered: Gathered, segments: readonly SpilledSegment[], bytes: number): Buffer {
  const body = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for (const segment of segments) at = gathered.readInto(body, at, segment);
  return body;
}

async function* pieces(gathered: Gathered, segments: readonly SpilledSegment[], hash: Hash): AsyncGenerator<Buffer> {
  for (const segment of segments) {
    for (const piece of gathered.read(segment)) {
      hash.update(piece);
      yield piece;
    }
  }
}
