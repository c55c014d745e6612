import { createHash } from 'node:crypto';
import { PartywallError } from '../../errors.ts';
import type { DataKey } from '../../keyring/data-keys.ts';
import type { Store } from '../../store/store.ts';
import { packObject } from '../archive.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import type { Page } from '../format/page.ts';
import type { OpenArchive } from '../open-archive.ts';
import type { Backup, SegmentPlace } from '../read/open-backup.ts';
import { openSegment } from '../read/open-backup.ts';
import { newestBackup } from './prove-archive.ts';

/** That everybody else's backups can still be read. */
export interface OthersCheck {
  /** Subjects of the keyring, and how many of them were looked at. */
  readonly of: number;
  readonly visited: number;
  /** Of whom a segment in the newest backup was opened. */
  readonly opened: number;
  /** Who has no segment there: without rows, or not backed up since. */
  readonly without: number;
  /** Refs of those whose stored bytes are not what the manifest says: nothing that is done to keys does that. */
  readonly damaged: readonly string[];
  /** Refs of those whose bytes are as they should be, and do not open. */
  readonly lost: readonly string[];
}

type Outcome = keyof Pick<OthersCheck, 'opened' | 'without' | 'damaged' | 'lost'>;

const subjectsAtOnce = 16;

/**
 * Opens the smallest segment of every subject in the newest backup.
 *
 * @throws PartywallError store_unavailable, store_refused
 */
export async function checkOthers(archive: OpenArchive, signal?: AbortSignal): Promise<OthersCheck> {
  const backup = await newestBackup(archive);
  const subjects = archive.keys.subjects();
  const refs: Record<Outcome, string[]> = { opened: [], without: [], damaged: [], lost: [] };
  await sideBySide(subjects, subjectsAtOnce, async ({ ref }) => {
    signal?.throwIfAborted();
    refs[await tryOne(archive, backup, ref)].push(ref);
  });
  const { opened, without, damaged, lost } = refs;
  const visited = opened.length + without.length + damaged.length + lost.length;
  return { of: subjects.length, visited, opened: opened.length, without: without.length, damaged: damaged.sort(), lost: lost.sort() };
}

async function tryOne(archive: OpenArchive, backup: Backup | undefined, ref: string): Promise<Outcome> {
  const subject = backup?.subjects.get(ref);
  if (!backup || !subject) return 'without';
  const page = await orDamage(() => backup.page(ref));
  if (page instanceof PartywallError) return 'damaged';
  const place = smallest(ref, page);
  if (!place) return 'without';
  const failed = await orDamage(async () => {
    for await (const _ of openSegment(archive, place));
  });
  if (!failed) return 'opened';
  if (failed.code === 'key_missing') return 'lost';
  const { backup: from, pack } = place.segment;
  const named = subject.packs.find((each) => each.backup === from && each.pack === pack);
  const stored = await orDamage(() => hashOf(archive.store, packObject(ref, from, pack)));
  return named?.sha256 === stored ? 'lost' : 'damaged';
}

async function hashOf(store: Store, key: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of store.get(key)) hash.update(piece);
  return hash.digest('hex');
}

/** What is wrong with what is stored is an answer here. */
async function orDamage<Result>(read: () => Promise<Result>): Promise<Result | PartywallError> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof PartywallError) || !['archive_damaged', 'key_missing', 'store_object_missing'].includes(error.code)) throw error;
    return error;
  }
}

function smallest(ref: string, page: Page): SegmentPlace | undefined {
  let found: SegmentPlace | undefined;
  for (const { table, segments } of page.tables) {
    for (const segment of segments) if (!found || segment.bytes < found.segment.bytes) found = { ref, table, segment };
  }
  return found;
}

/** The keys of everybody but one, to be compared later. */
export function keysBut({ keys }: Pick<OpenArchive, 'keys'>, gone: readonly string[]): readonly DataKey[] {
  return keys.subjects().flatMap(({ ref }) => {
    const key = keys.byRef(ref);
    return key && !gone.includes(ref) ? [key] : [];
  });
}

/** @throws PartywallError key_missing: a key is not what it was, and nobody erased its subject meanwhile */
export function assertKept({ keys }: Pick<OpenArchive, 'keys'>, before: readonly DataKey[]): void {
  for (const { id, secret } of before) {
    try {
      if (keys.byId(id).secret.equals(secret)) continue;
    } catch (error) {
      // Another database with the same keyring erases a tenant of its own.
      if (error instanceof PartywallError && error.message.includes('was destroyed at')) continue;
      throw error;
    }
    throw new PartywallError('key_missing', `comparing key ${id} with what it was before keys were destroyed: it is another one`);
  }
}
