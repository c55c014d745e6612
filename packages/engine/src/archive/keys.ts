import { appendAudit } from '../audit/append.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { type DataKey, tenantSubject } from '../keyring/data-keys.ts';
import type { Keyring, Rotation } from '../keyring/keyring.ts';

/**
 * What is done to the keyring, recorded in the audit log. The two are no one transaction: the database is there before anything is done, and the record
 * follows what was done. Where a crash comes between, later records show it: versions of key-encryption keys and writes of the keybook have no gaps.
 */

export interface RotateKeys {
  /** Destroy the key-encryption keys before it. */
  readonly retire?: boolean;
  readonly reason?: string | undefined;
}

/** Wraps every data key under a new key-encryption key. @throws PartywallError what `Keyring.rotate` throws */
export function rotateKeys(operation: Operation, keys: Keyring, { retire = false, reason }: RotateKeys = {}): Promise<Rotation> {
  return transaction(operation.database.pool, async (client) => {
    const rotation = await keys.rotate({ retire });
    await appendAudit(client, operation, { tenant: null, action: 'keys.rotate', target: `kek:${rotation.kek}`, reason, details: { ...rotation, retire } });
    return rotation;
  });
}

/** Gives a tenant a new data key for what is backed up from now on. @throws PartywallError key_missing: it has none yet */
export function rekeyTenant(
  operation: Operation,
  keys: Keyring,
  { tenant, reason }: { readonly tenant: string; readonly reason?: string | undefined },
): Promise<DataKey> {
  return transaction(operation.database.pool, async (client) => {
    const key = await keys.rekey(tenantSubject(tenant));
    await appendAudit(client, operation, { tenant, action: 'keys.rekey', target: `key:${key.id}`, reason });
    return key;
  });
}
