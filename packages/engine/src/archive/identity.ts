import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { z } from 'zod';
import { PartywallError } from '../errors.ts';
import { readObject } from '../store/read-object.ts';
import type { Store } from '../store/store.ts';
import { archiveObject, ownerObject } from './archive.ts';
import { canonicalJson, type Json } from './format/canonical-json.ts';

const identityBytesMax = 10_000;
const major = 1;
const identity = z.object({ format: z.literal('partywall.archive'), id: z.uuid(), version: z.object({ major: z.int(), minor: z.int() }) });
const ownership = z.object({ owner: z.uuid() });

/**
 * The archive's id; a store without one becomes an archive.
 *
 * @throws PartywallError archive_foreign: the store is an archive of a newer version, or holds something else under that name
 */
export async function ensureIdentity(store: Store): Promise<string> {
  const found = identity.safeParse(await first(store, archiveObject, { format: 'partywall.archive', id: randomUUID(), version: { major, minor: 0 } }));
  if (found.success && found.data.version.major === major) return found.data.id;
  throw new PartywallError('archive_foreign', `opening the archive in ${store.description}: ${archiveObject} is not of version ${major} of an archive`);
}

/**
 * Holds the archive to one database, the first that used it: the ledger says what became of the tenants of one, and `latest` is a backup of one. What
 * came out of a backup goes on as the database that the backup was of.
 *
 * @throws PartywallError backup_refused: it is another database's
 */
export async function claimArchive(pool: pg.Pool, store: Store): Promise<void> {
  const own = (await readOwner(pool)) ?? (await makeOwner(pool));
  const found = ownership.safeParse(await first(store, ownerObject, { owner: own }));
  if (found.success && found.data.owner === own) return;
  throw new PartywallError('backup_refused', `using the archive in ${store.description}: it is another database's`, {
    hint: 'give each database an archive of its own: another folder, bucket or prefix in PARTYWALL_ARCHIVE',
  });
}

async function makeOwner(pool: pg.Pool): Promise<string | undefined> {
  await pool.query('insert into partywall_control.archive_owner default values on conflict do nothing');
  return readOwner(pool);
}

async function readOwner(pool: pg.Pool): Promise<string | undefined> {
  const { rows } = await pool.query<{ owner: string }>('select o.owner from partywall_control.archive_owner o');
  return rows[0]?.owner;
}

/** What is stored under the name; `fresh`, where nothing is. */
async function first(store: Store, key: string, fresh: Json): Promise<unknown> {
  try {
    await store.put(key, Buffer.from(canonicalJson(fresh)), { ifAbsent: true });
  } catch (error) {
    if (!(error instanceof PartywallError) || error.code !== 'store_conflict') throw error;
  }
  return parsed(await readObject(store, key, identityBytesMax));
}

function parsed(stored: Buffer): unknown {
  try {
    return JSON.parse(stored.toString('utf8'));
  } catch {
    return undefined;
  }
}
