import { PartywallError } from '../../errors.ts';
import { publicKeys } from '../../keyring/signing.ts';
import { readObject } from '../../store/read-object.ts';
import { type Archive, isBackupId, verifiedObject } from '../archive.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import { parseRecord, recordBytesMax, type VerifiedRecord } from '../format/record.ts';
import { openBackup } from '../read/open-backup.ts';
import { isWhole } from '../recover/plan-recovery.ts';
import type { RetainedBackup } from './plan.ts';

/** A backup, as the names of its objects and its records tell of it. */
export interface HistoricBackup extends RetainedBackup {
  /** SHA-256 of the manifest that was verified. */
  readonly manifest: string | null;
  /** How many records of retired subjects it has. */
  readonly retired: number;
}

export interface ArchiveHistory {
  /** Oldest first. */
  readonly backups: readonly HistoricBackup[];
  /** Backups that could not be read, a line each: while there are any, nothing may be deleted as unreachable. */
  readonly problems: readonly string[];
}

/** Records of verifications are small. */
const requestsAtOnce = 16;
/** A manifest of ten thousand tenants takes 30 MB while it is read: no more than one is in memory. */
const manifestsAtOnce = 1;

/**
 * All backups of the archive, from its records alone: of those that are verified no manifest is read.
 *
 * @throws PartywallError store_unavailable, store_refused
 */
export async function readHistory(archive: Archive): Promise<ArchiveHistory> {
  const keys = await publicKeys(archive.keyring);
  const problems: string[] = [];
  const backups: HistoricBackup[] = [];
  const read = async ({ id, isVerified, retired }: Listed): Promise<void> => {
    try {
      backups.push({ ...(isVerified ? await readVerified(archive, id, keys) : await readUnverified(archive, id)), retired });
    } catch (error) {
      if (!(error instanceof PartywallError) || !tolerable.has(error.code)) throw error;
      // Removed since it was listed.
      if (error.code !== 'backup_unknown') problems.push(error.message);
    }
  };
  const { verified = [], unverified = [] } = Object.groupBy(await listed(archive), ({ isVerified }) => (isVerified ? 'verified' : 'unverified'));
  await sideBySide(verified, requestsAtOnce, read);
  await sideBySide(unverified, manifestsAtOnce, read);
  return { backups: backups.sort((a, b) => (a.id < b.id ? -1 : 1)), problems: problems.sort() };
}

const tolerable: ReadonlySet<string> = new Set(['archive_damaged', 'archive_foreign', 'backup_unknown', 'store_object_missing']);

/** Names of backups that have no record of a verification, newest first. */
export async function unverifiedBackups(archive: Pick<Archive, 'store'>): Promise<string[]> {
  const found = await listed(archive);
  return found.flatMap(({ id, isVerified }) => (isVerified ? [] : [id])).toSorted((a, b) => (a < b ? 1 : -1));
}

interface Listed {
  readonly id: string;
  readonly isVerified: boolean;
  readonly retired: number;
}

async function listed({ store }: Pick<Archive, 'store'>): Promise<Listed[]> {
  const objects = new Map<string, Set<string>>();
  for await (const { key } of store.list('backups/')) {
    const [, id = '', name = ''] = key.split('/');
    if (isBackupId(id)) objects.set(id, (objects.get(id) ?? new Set()).add(name));
  }
  return [...objects].flatMap(([id, names]) => {
    if (!names.has('manifest.json')) return [];
    return [{ id, isVerified: names.has('verified.json'), retired: [...names].filter((name) => name.startsWith('retired-')).length }];
  });
}

type Facts = Omit<HistoricBackup, 'retired'>;

async function readVerified(archive: Archive, id: string, keys: ReadonlyMap<string, string>): Promise<Facts> {
  const key = verifiedObject(id);
  const record = parseRecord(await readObject(archive.store, key, recordBytesMax), { key, backup: id }, keys);
  if (record.format !== 'partywall.verified/1') throw new PartywallError('archive_damaged', `reading ${key}: it is no record of a verification`);
  return factsOf(record);
}

function factsOf({ backup, manifest, at, verifiedAt, scope, classes }: VerifiedRecord): Facts {
  return { id: backup, at: new Date(at), whole: isWhole({ scope, classes }), verifiedAt: new Date(verifiedAt), classes, manifest };
}

async function readUnverified(archive: Archive, id: string): Promise<Facts> {
  const { manifest } = await openBackup(archive, id);
  return { id, at: new Date(manifest.at), whole: isWhole(manifest), verifiedAt: null, classes: manifest.classes, manifest: null };
}
