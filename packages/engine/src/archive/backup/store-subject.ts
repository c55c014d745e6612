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

/** A pack that is not stored yet: its segments, one after the other. */
export interface PlannedPack {
  readonly segments: readonly SpilledSegment[];
  readonly bytes: number;
}

interface PlannedTables {
  readonly tables: readonly PageTable[];
  /** The first has the number that was asked for. */
  readonly packs: readonly PlannedPack[];
}

interface Placing {
  readonly read: readonly ReadTable[];
  /** What the base has. */
  readonly before: ReadonlyMap<string, PageTable>;
  readonly firstPack?: number;
}

interface PackStore {
  readonly store: Store;
  readonly gathered: Gathered;
  readonly backup: string;
}

/**
 * Stores the segments of one subject that were read, but for those that the base has with the same content under the same key, and says
 * where they all are.
 */
export async function storeTables(into: PackStore, key: DataKey, placing: Placing): Promise<StoredTables> {
  const { tables, packs } = planTables(into.backup, key, placing);
  return { tables, packs: await putPacks(into, key, { packs, firstPack: placing.firstPack ?? 0 }) };
}

/** Where the segments will be. Members are in the order in which they are written, so that nobody has to sort them. */
export function planTables(backup: string, key: DataKey, { read, before, firstPack = 0 }: Placing): PlannedTables {
  const packs: { segments: SpilledSegment[]; bytes: number }[] = [];
  const tables = read.map(({ table, rows, mark, segments, taken = [] }): PageTable => {
    const known = new Map(before.get(table)?.segments.map((segment) => [segment.part, segment]));
    const placed: PageSegment[] = [...taken];
    for (const segment of segments) {
      const same = known.get(segment.part);
      if (same?.mac === segment.mac && same.key === key.id) {
        placed.push(same);
        continue;
      }
      const last = packs.at(-1);
      const pack = last && last.bytes + segment.bytes <= packBytesMax ? last : { segments: [], bytes: 0 };
      if (pack !== last) packs.push(pack);
      const { bytes, chunks, mac, part, plainBytes, rows: segmentRows } = segment;
      placed.push({ backup, bytes, chunks, key: key.id, mac, offset: pack.bytes, pack: firstPack + packs.length - 1, part, plainBytes, rows: segmentRows });
      pack.segments.push(segment);
      pack.bytes += bytes;
    }
    return { mark, rows, segments: placed.sort((left, right) => left.part - right.part), table };
  });
  return { tables, packs };
}

export async function putPacks(
  into: PackStore,
  { ref }: DataKey,
  { packs, firstPack }: { readonly packs: readonly PlannedPack[]; readonly firstPack: number },
): Promise<StoredPack[]> {
  const stored: StoredPack[] = [];
  for (const [at, pack] of packs.entries()) stored.push(await putPack(into, packObject(ref, into.backup, firstPack + at), { ...pack, number: firstPack + at }));
  return stored;
}

async function putPack(
  { store, gathered, backup }: PackStore,
  key: string,
  { segments, bytes, number }: PlannedPack & { readonly number: number },
): Promise<StoredPack> {
  const hash = createHash('sha256');
  const body = bytes > wholePackBytes ? pieces(gathered, segments, hash) : whole(gathered, segments, bytes);
  if (Buffer.isBuffer(body)) hash.update(body);
  await store.put(key, body, { ifAbsent: true });
  return { backup, bytes, pack: number, sha256: hash.digest('hex') };
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
