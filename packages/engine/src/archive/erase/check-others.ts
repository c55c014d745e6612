import { PartywallError } from '../../errors.ts';
import type { DataKey } from '../../keyring/data-keys.ts';
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
  /** Refs of those whose segment did not open. */
  readonly damaged: readonly string[];
}

const subjectsAtOnce = 16;

/**
 * Opens the smallest segment of every subject in the newest backup.
 *
 * @throws PartywallError store_unavailable, store_refused
 */
export async function checkOthers(archive: OpenArchive, signal?: AbortSignal): Promise<OthersCheck> {
  const backup = await newestBackup(archive);
  const subjects = archive.keys.subjects();
  const outcomes = { opened: 0, without: 0, damaged: 0 };
  const damaged: string[] = [];
  await sideBySide(subjects, subjectsAtOnce, async ({ ref }) => {
    signal?.throwIfAborted();
    const outcome = await tryOne(archive, backup, ref);
    outcomes[outcome] += 1;
    if (outcome === 'damaged') damaged.push(ref);
  });
  const { opened, without } = outcomes;
  return { of: subjects.length, visited: opened + without + damaged.length, opened, without, damaged: damaged.sort() };
}

async function tryOne(archive: OpenArchive, backup: Backup | undefined, ref: string): Promise<keyof Pick<OthersCheck, 'opened' | 'without' | 'damaged'>> {
  if (!backup?.subjects.has(ref)) return 'without';
  try {
    const place = smallest(ref, await backup.page(ref));
    if (!place) return 'without';
    for await (const _ of openSegment(archive, place));
    return 'opened';
  } catch (error) {
    if (!(error instanceof PartywallError) || !['archive_damaged', 'key_missing', 'store_object_missing'].includes(error.code)) throw error;
    return 'damaged';
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
