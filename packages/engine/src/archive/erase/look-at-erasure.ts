import { PartywallError } from '../../errors.ts';
import { tenantSubject } from '../../keyring/data-keys.ts';
import type { ErasedBackups } from '../../tenants/erase/backup-eraser.ts';
import type { OpenArchive } from '../open-archive.ts';
import { sumsOf } from './backup-eraser.ts';
import { type ErasureList, readErasureList } from './erasure-list.ts';
import { type HeldBackup, heldSegments } from './held-segments.ts';

/** What erasing a tenant would do to its backups. */
export interface BackupErasurePreview extends Pick<ErasedBackups, 'held' | 'lockedUntil' | 'unread'> {
  readonly archive: string;
  /** Backups that hold the tenant. */
  readonly backups: readonly HeldBackup[];
  /** Whether it has a key; without one nothing was ever backed up of it. */
  readonly hasKey: boolean;
  /** Versions of key-encryption keys that would be destroyed. */
  readonly keks: readonly number[];
  /** Subjects whose keys would be wrapped anew. */
  readonly others: number;
}

/** What erasing the tenant would make unreadable; changes nothing. @throws PartywallError store_unavailable, store_refused */
export async function previewBackupErasure(archive: OpenArchive, tenant: string, signal?: AbortSignal): Promise<BackupErasurePreview> {
  const subjects = archive.keys.subjects();
  const refs = subjects.flatMap(({ subject, ref }) => (subject === tenantSubject(tenant) ? [ref] : []));
  const held = await heldSegments(archive, refs, { signal });
  const hasKey = refs.length > 0;
  return {
    archive: archive.store.description,
    backups: held.backups,
    hasKey,
    keks: hasKey ? (await archive.keys.status()).keks : [],
    others: subjects.length - refs.length,
    ...sumsOf(held),
  };
}

/** Whether what a certificate says of backups is so now. */
export interface BackupErasureCheck {
  readonly valid: boolean;
  readonly problems: readonly string[];
  /** Segments that were tried. */
  readonly segments: number;
  /** Versions of key-encryption keys that somebody still has to take away. */
  readonly pending: readonly number[];
  /** Undefined where the certificate names none, or it cannot be read. */
  readonly list: ErasureList | undefined;
}

/** Tries every segment that a certificate names, against the keyring as it is now. @throws PartywallError store_unavailable, store_refused */
export async function checkBackupErasure(archive: OpenArchive, erased: ErasedBackups): Promise<BackupErasureCheck> {
  const problems: string[] = [];
  await archive.keys.refresh();
  const status = await archive.keys.status();
  const concerned = [...erased.keks.destroyed, ...erased.keks.pending];
  const pending = [...status.pending, ...status.keks].filter((version) => concerned.includes(version));
  for (const ref of erased.refs) if (archive.keys.byRef(ref)) problems.push(`the keyring has a key of subject ${ref}`);
  const list = erased.list === null ? undefined : await listed(archive, erased.list, problems);
  const keys = new Set([...erased.keys, ...(list?.objects.flatMap(({ segments }) => segments.map(({ key }) => key)) ?? [])]);
  for (const key of keys) if (!isGone(archive, key)) problems.push(`the keyring has key ${key}`);
  return {
    valid: problems.length === 0 && pending.length === 0,
    problems,
    segments: list?.objects.reduce((sum, { segments }) => sum + segments.length, 0) ?? 0,
    pending,
    list,
  };
}

async function listed(archive: OpenArchive, named: { readonly object: string; readonly sha256: string }, problems: string[]): Promise<ErasureList | undefined> {
  try {
    return await readErasureList(archive.store, named);
  } catch (error) {
    if (!(error instanceof PartywallError) || !['archive_damaged', 'store_object_missing'].includes(error.code)) throw error;
    problems.push(error.message);
    return undefined;
  }
}

function isGone({ keys }: Pick<OpenArchive, 'keys'>, id: string): boolean {
  try {
    keys.byId(id);
    return false;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'key_missing') return true;
    throw error;
  }
}
