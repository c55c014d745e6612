import { PartywallError } from '../../errors.ts';
import type { Archive } from '../archive.ts';
import { type Backup, openBackup, unknownBackup } from './open-backup.ts';

const manifestName = /^backups\/([^/]+)\/manifest\.json$/;

/** Ids of finished backups, oldest first: those that have a manifest. */
export async function backupIds({ store }: Pick<Archive, 'store'>): Promise<string[]> {
  const ids: string[] = [];
  for await (const { key } of store.list('backups/')) {
    const [, id] = manifestName.exec(key) ?? [];
    if (id !== undefined) ids.push(id);
  }
  return ids.sort();
}

/**
 * The backup that a person names: its id, `latest`, or a time (`2026-11-21T02:00:00Z`), which means the last one whose snapshot is not later.
 *
 * @param accepts narrows what `latest` and a time may find, such as to backups that hold a tenant
 * @throws PartywallError backup_unknown, input_invalid, archive_damaged, archive_foreign
 */
export async function findBackup(archive: Archive, named: string, accepts: (backup: Backup) => boolean = () => true): Promise<Backup> {
  const at = named === 'latest' ? undefined : timeNamed(named);
  if (named !== 'latest' && at === undefined) return openBackup(archive, named);
  for (const id of (await backupIds(archive)).reverse()) {
    const backup = await openBackup(archive, id);
    if ((at === undefined || new Date(backup.manifest.at) <= at) && accepts(backup)) return backup;
  }
  throw unknownBackup(named);
}

function timeNamed(text: string): Date | undefined {
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return undefined;
  const at = new Date(text);
  if (!Number.isNaN(at.getTime())) return at;
  throw new PartywallError('input_invalid', `reading ${JSON.stringify(text.slice(0, 100))}: no time`);
}
