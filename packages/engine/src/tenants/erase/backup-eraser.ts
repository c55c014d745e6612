import type pg from 'pg';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { CertificateBody } from '../certificate.ts';

/** What an erasure did to the backups of the tenant, as its certificate says it. */
export type ErasedBackups = NonNullable<CertificateBody['backups']>;

/** Makes the backups of a tenant unreadable, as a part of its erasure. Each of these can be run again. */
export interface BackupEraser {
  /**
   * Finds out whether archive, keyring and escrow are there and belong together; changes nothing.
   *
   * @throws PartywallError what is missing
   */
  prepare(operation: Operation, tenant: string): Promise<void>;
  /** Writes down outside of the database that the tenant goes, before its first row does. */
  announce(operation: Operation, tenant: string): Promise<void>;
  /**
   * Destroys the keys, proves it, and calls `certify` on a connection that keeps every backup of the database from running meanwhile: one would make
   * the tenant another key for what is left of it. Nothing is certified where the proof fails.
   */
  conclude(erasing: Erasing, certify: (client: pg.ClientBase, backups: ErasedBackups) => Promise<void>): Promise<void>;
}

export interface Erasing {
  readonly operation: Operation;
  readonly id: string;
  readonly tenant: string;
  /** Says what it is at. */
  readonly say: (step: string) => Promise<void>;
}

/**
 * An erasure that knows of no archive, for a database that nobody ever backed up.
 *
 * @throws PartywallError erasure_refused: it was backed up, and the backups would still hold the tenant
 */
export async function refuseBackedUp({ database }: Operation, tenant: string): Promise<void> {
  if (database.model.archive.files.size > 0) {
    throw new PartywallError(
      'erasure_refused',
      `erasing tenant ${JSON.stringify(tenant)}: the model names places of its files, and no archive is given to erase them with`,
      {
        hint: 'set PARTYWALL_ARCHIVE, PARTYWALL_KEYRING and PARTYWALL_ESCROW as for backups',
      },
    );
  }
  const { rows } = await database.pool.query<{ backup: string }>(
    `select l.backup from partywall_control.archive_lineage l union all select p.backup from partywall_control.recovery_points p
union all select r.backup from partywall_control.backup_runs r where r.state in ('stored', 'verified') limit 1`,
  );
  const backup = rows[0]?.backup;
  if (backup === undefined) return;
  throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)}: backup ${backup} was made of this database, and no archive is given`, {
    hint: 'set PARTYWALL_ARCHIVE, PARTYWALL_KEYRING and PARTYWALL_ESCROW as for backups, so that the tenant is erased from them too',
  });
}

/**
 * A tenant that is on its way between databases has rows in both.
 *
 * @throws PartywallError erasure_refused
 */
export async function refuseMoving({ database }: Operation, tenant: string): Promise<void> {
  const { rows } = await database.pool.query<{ placement: string; state: string }>(
    "select m.placement, m.state from partywall_control.moves m where m.tenant_id = $1 and m.state in ('copying', 'switching', 'switched') limit 1",
    [tenant],
  );
  const move = rows[0];
  if (!move) return;
  const what =
    move.state === 'switched' ? `rows of it wait in database ${move.placement} for the end of a grace` : `a move to or from ${move.placement} is under way`;
  throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)}: ${what}`, { hint: 'end the move first: `partywall move --help`' });
}
