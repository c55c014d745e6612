import { randomBytes } from 'node:crypto';
import { PartywallError } from '../../errors.ts';
import { backupId } from '../archive.ts';

const idTime = /^(\d{4})(\d\d)(\d\d)t(\d\d)(\d\d)(\d\d)z-/;
/** How far the last backup may be ahead of the clock: backups within a second take the seconds after it. */
const aheadMsMax = 3_600_000;

/**
 * A name that sorts behind those of all backups that are there, because the last name is the latest backup.
 *
 * @param ids in order
 * @throws PartywallError backup_refused: the clock is behind
 */
export function nextId(ids: readonly string[], now: Date): string {
  const last = ids.at(-1);
  const [, year, month, day, hour, minute, second] = idTime.exec(last ?? '') ?? [];
  const lastAt = second === undefined ? 0 : Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (lastAt - now.getTime() > aheadMsMax) {
    throw new PartywallError('backup_refused', `naming a backup of ${now.toISOString()}: backup ${last} is there already`, {
      hint: 'set the clock of this machine; where it was wrong when that backup was made, delete its manifest.json from the store: docs/guide/backup.md',
    });
  }
  return backupId(new Date(Math.max(now.getTime(), lastAt + 1_000)), randomBytes(4).toString('hex'));
}
