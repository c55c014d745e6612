import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { PartywallError } from '../errors.ts';
import { readObject } from '../store/read-object.ts';
import type { Store } from '../store/store.ts';
import { archiveObject } from './archive.ts';
import { canonicalJson } from './format/canonical-json.ts';

const identityBytesMax = 10_000;
const major = 1;
const identity = z.object({ format: z.literal('partywall.archive'), id: z.uuid(), version: z.object({ major: z.int(), minor: z.int() }) });

/**
 * The archive's id; a store without one becomes an archive.
 *
 * @throws PartywallError archive_foreign: the store is an archive of a newer version, or holds something else under that name
 */
export async function ensureIdentity(store: Store): Promise<string> {
  const fresh = Buffer.from(canonicalJson({ format: 'partywall.archive', id: randomUUID(), version: { major, minor: 0 } }));
  try {
    await store.put(archiveObject, fresh, { ifAbsent: true });
  } catch (error) {
    if (!(error instanceof PartywallError) || error.code !== 'store_conflict') throw error;
  }
  const found = identity.safeParse(parsed(await readObject(store, archiveObject, identityBytesMax)));
  if (found.success && found.data.version.major === major) return found.data.id;
  throw new PartywallError('archive_foreign', `opening the archive in ${store.description}: ${archiveObject} is not of version ${major} of an archive`);
}

function parsed(stored: Buffer): unknown {
  try {
    return JSON.parse(stored.toString('utf8'));
  } catch {
    return undefined;
  }
}
