import { createHash } from 'node:crypto';
import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { readObject } from '../../store/read-object.ts';
import type { Store } from '../../store/store.ts';
import { canonicalJson } from '../format/canonical-json.ts';
import { backupText, hex } from '../format/page.ts';
import type { Held } from './held-segments.ts';

/**
 * What an erasure made unreadable, named one by one: an object `erasures/<operation>-<hash>.json` of the archive, whose SHA-256 is in the certificate. It
 * names no tenant, so that the archive does not tell whose random name is whose.
 */
const listFormat = 'partywall.erasure-list/1';
export const listBytesMax = 512 * 1024 ** 2;

const count = z.int().min(0);
const erasureList = z.strictObject({
  format: z.literal(listFormat),
  operation: z.uuid(),
  archive: z.uuid(),
  /** Refs of the subject. */
  refs: z.array(hex(16)),
  /** Ids of its data keys, all destroyed. */
  keys: z.array(hex(16)),
  backups: z.array(z.strictObject({ id: backupText, at: z.iso.datetime(), rows: count, segments: count })),
  objects: z.array(
    z.strictObject({
      object: z.string(),
      bytes: count,
      sha256: hex(32).nullable(),
      lockedUntil: z.iso.datetime().nullable(),
      segments: z.array(z.strictObject({ table: z.string(), part: count, offset: count, bytes: count, key: hex(16) })),
    }),
  ),
  unread: z.array(z.string()),
});
export type ErasureList = z.output<typeof erasureList>;

export interface ErasureListFacts extends Pick<ErasureList, 'operation' | 'archive' | 'refs' | 'keys'> {
  readonly held: Held;
}

/**
 * Stores the list. The name holds a part of its hash: a run after a crash may find other backups, and objects are never changed.
 *
 * @throws PartywallError store_unavailable, store_refused, store_full
 */
export async function writeErasureList(store: Store, { held, ...facts }: ErasureListFacts): Promise<{ object: string; sha256: string }> {
  const list: ErasureList = {
    format: listFormat,
    ...facts,
    backups: [...held.backups],
    objects: held.objects.map(({ segments, ...object }) => ({
      ...object,
      segments: segments.map(({ table, segment: { part, offset, bytes, key } }) => ({ table, part, offset, bytes, key })),
    })),
    unread: [...held.unread],
  };
  const stored = Buffer.from(canonicalJson(list));
  const sha256 = createHash('sha256').update(stored).digest('hex');
  const object = `erasures/${facts.operation}-${sha256.slice(0, 16)}.json`;
  try {
    await store.put(object, stored, { ifAbsent: true });
  } catch (error) {
    // A run before this one stored the same.
    if (!(error instanceof PartywallError) || error.code !== 'store_conflict') throw error;
  }
  return { object, sha256 };
}

/** @throws PartywallError archive_damaged: it is not the one that the certificate names; store_object_missing */
export async function readErasureList(store: Store, { object, sha256 }: { readonly object: string; readonly sha256: string }): Promise<ErasureList> {
  const stored = await readObject(store, object, listBytesMax);
  const damaged = (what: string): PartywallError => new PartywallError('archive_damaged', `reading ${object}: ${what}`);
  if (createHash('sha256').update(stored).digest('hex') !== sha256) throw damaged('it is not the one that the certificate names');
  const parsed = erasureList.safeParse(JSON.parse(stored.toString('utf8')));
  if (!parsed.success) throw damaged(`it is malformed at ${parsed.error.issues[0]?.path.join('.')}`);
  return parsed.data;
}
