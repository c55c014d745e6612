import type { Operation } from '../../db/operation.ts';
import { type Archive, manifestObject, packObject, pagesObject, verifiedObject } from '../archive.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import { openBackup } from '../read/open-backup.ts';
import { type BackupSettings, defaultBackupSettings } from '../schedule/settings.ts';
import { readHistory } from './history.ts';
import { readHolders } from './holders.ts';
import { retentionPlanner } from './plan.ts';

const requestsAtOnce = 16;

/**
 * Locks what a verified backup reaches, each object for as long as the longest class asks that needs it: a tenant's packs for as long as its tier asks,
 * also those that an earlier backup stored. Locks are only ever extended. Returns how many objects that was: none where the store has no locks.
 *
 * @throws PartywallError backup_unknown, store_unavailable, store_refused
 */
export async function extendLocks(operation: Operation, archive: Archive, id: string, settings: BackupSettings = defaultBackupSettings): Promise<number> {
  const { store } = archive;
  if (!store.can.lock) return 0;
  const { backups } = await readHistory(archive);
  const facts = backups.find((backup) => backup.id === id);
  const { subjects } = await openBackup(archive, id);
  if (!facts || facts.verifiedAt === null) return 0;
  const holders = await readHolders(operation, archive.keys);
  const planner = retentionPlanner({ backups, holders, now: operation.database.clock(), settings });
  const until = new Map<string, Date>();
  const need = (key: string, date: Date): void => {
    const known = until.get(key);
    if (!known || known < date) until.set(key, date);
  };
  for (const { subject, page, packs } of subjects.values()) {
    const ends = planner.until(facts, subject);
    for (const { backup, pack } of packs) need(packObject(subject, backup, pack), ends);
    // Of all subjects together.
    for (const key of [pagesObject(page.backup), manifestObject(id), verifiedObject(id)]) need(key, ends);
  }
  await sideBySide([...until], requestsAtOnce, async ([key, date]) => {
    operation.signal?.throwIfAborted();
    await store.extendLock(key, date);
  });
  return until.size;
}
