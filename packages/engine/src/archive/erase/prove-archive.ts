import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { tenantSubject } from '../../keyring/data-keys.ts';
import { manifestObject } from '../archive.ts';
import { ensureIdentity } from '../identity.ts';
import { readLedger } from '../ledger/ledger.ts';
import { recoveredPrefix } from '../ledger/recovered.ts';
import type { OpenArchive } from '../open-archive.ts';
import { backupIds } from '../read/list-backups.ts';
import { type Backup, openBackup, refOf } from '../read/open-backup.ts';

/** Backups that are looked for before an archive is called the wrong one. */
const pointsMax = 100;
/** Newest manifests that are opened before what is wrong with them is believed. */
const manifestsMax = 3;

/**
 * Finds out whether archive, keyring and escrow can be written, belong together, and are those of this database: nothing of an erasure can be taken
 * back, so nothing of it may begin with a wrong one. Changes nothing.
 *
 * @throws PartywallError store_unavailable, store_refused, archive_foreign, archive_damaged, escrow_unverified, keyring_refused, key_missing,
 * erasure_refused
 */
export async function proveArchive(operation: Operation, archive: OpenArchive, tenant: string): Promise<void> {
  await ensureIdentity(archive.store);
  await archive.keys.verify();
  await readLedger(archive);
  const newest = await newestBackup(archive);
  // What belongs to no tenant is in each backup of everything: a keyring without that key is another one.
  if (newest?.manifest.scope === 'all' && !newest.subjects.has(refOf(archive, 'platform'))) {
    throw new PartywallError('key_missing', `comparing the keyring with backup ${newest.manifest.id}: it was made with another keybook`);
  }
  const points = await recordedPoints(operation, tenant);
  if (points.recovered || points.backups.length === 0) return;
  await refuseOtherArchive(archive, points.backups);
  const hasKey = archive.keys.subjects().some(({ subject }) => subject === tenantSubject(tenant));
  if (hasKey || !points.own) return;
  throw new PartywallError('key_missing', `looking for the key of tenant ${JSON.stringify(tenant)}: it was backed up, and the keyring has none of it`);
}

/** Undefined where there is none. @throws PartywallError where none of the newest opens */
export async function newestBackup(archive: OpenArchive): Promise<Backup | undefined> {
  let failed: unknown;
  for (const id of (await backupIds(archive)).toReversed().slice(0, manifestsMax)) {
    try {
      return await openBackup(archive, id);
    } catch (error) {
      if (!(error instanceof PartywallError) || (error.code !== 'archive_damaged' && error.code !== 'backup_unknown')) throw error;
      failed ??= error;
    }
  }
  if (failed !== undefined) throw failed;
  return undefined;
}

interface RecordedPoints {
  /** Backups of this database that were verified, newest first. */
  readonly backups: readonly string[];
  /** Whether one of them is of the tenant. */
  readonly own: boolean;
  /** It came from a backup, and so did what is remembered of backups. An erasure that is done again finds its key gone. */
  readonly recovered: boolean;
}

async function recordedPoints({ database }: Operation, tenant: string): Promise<RecordedPoints> {
  const { rows } = await database.pool.query<{ backup: string; own: boolean }>(
    `select p.backup, bool_or(p.tenant_id is not distinct from $1) as own from partywall_control.recovery_points p
group by p.backup order by bool_or(p.tenant_id is not distinct from $1) desc, p.backup desc limit ${pointsMax}`,
    [tenant],
  );
  const state = await database.pool.query<{ out: boolean }>(
    `select coalesce(starts_with(g.reason, $2), false) or d.status = 'erasing' as out from partywall_control.directory d
left join partywall.registry g on g.tenant_id::text = d.tenant_id where d.tenant_id = $1`,
    [tenant, recoveredPrefix],
  );
  return { backups: rows.map(({ backup }) => backup), own: rows.some(({ own }) => own), recovered: state.rows[0]?.out ?? false };
}

async function refuseOtherArchive({ store }: OpenArchive, backups: readonly string[]): Promise<void> {
  for (const backup of backups) if (await store.head(manifestObject(backup))) return;
  throw new PartywallError('erasure_refused', `comparing the database with the archive in ${store.description}: it has none of the backups of this database`, {
    hint: 'set PARTYWALL_ARCHIVE to where the backups of this database are',
    details: backups.slice(0, 10),
  });
}
