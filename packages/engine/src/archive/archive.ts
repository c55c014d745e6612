import type { DataKeys } from '../keyring/data-keys.ts';
import type { Store } from '../store/store.ts';

/** An archive: where backups are kept, and the keys that open them. */
export interface Archive {
  readonly store: Store;
  readonly keys: DataKeys;
  /** Folder of the signing keys (`keyring/signing.ts`). */
  readonly keyring: string;
  /** Folder for what a backup writes before it is uploaded (encrypted) and restores unpack. */
  readonly workFolder: string;
  /** Where the stores of tenants' files and their credentials come from. Default the environment of the process. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/**
 * Names of objects:
 *
 * ```
 * archive.json                      what this is: { format, version, id }
 * owner.json                        which database it is of: { owner }
 * backups/<backup>/pages            the pages of the subjects that changed, one after the other
 * backups/<backup>/manifest.json    last: nothing exists until its manifest does
 * backups/<backup>/verified.json    it was found whole: what is not verified counts for nothing
 * backups/<backup>/retired-<n>.json subjects that it no longer holds
 * packs/<ref>/<backup>.<n>          segments of one subject, one after the other
 * sweep/<time>-<random>.json        objects that nothing reaches, to be deleted after a grace
 * erasures/<operation>-<hash>.json  what an erasure made unreadable, segment by segment
 * ```
 */
export const archiveObject = 'archive.json';
export const ownerObject = 'owner.json';

export function manifestObject(backup: string): string {
  return `backups/${backup}/manifest.json`;
}

export function pagesObject(backup: string): string {
  return `backups/${backup}/pages`;
}

export function verifiedObject(backup: string): string {
  return `backups/${backup}/verified.json`;
}

export function retiredObject(backup: string, number: number): string {
  return `backups/${backup}/retired-${number}.json`;
}

export function packObject(ref: string, backup: string, number: number): string {
  return `packs/${ref}/${backup}.${number}`;
}

const backupIdPattern = /^\d{8}t\d{6}z-[0-9a-f]{8}$/;

/** `20261121t020000z-1f2e3d4c`: sorts by time, and no two are the same. */
export function backupId(at: Date, random: string): string {
  return `${at.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').toLowerCase()}z-${random}`;
}

export function isBackupId(text: string): boolean {
  return backupIdPattern.test(text);
}
