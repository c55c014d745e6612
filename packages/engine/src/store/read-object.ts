import { PartywallError } from '../errors.ts';
import type { Store } from './store.ts';

/**
 * A small object whole.
 *
 * @throws PartywallError store_object_missing; archive_damaged where it is larger than `bytesMax`
 */
export async function readObject(store: Store, key: string, bytesMax: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of store.get(key)) {
    bytes += piece.length;
    if (bytes > bytesMax) throw new PartywallError('archive_damaged', `reading ${key} of ${store.description}: it is larger than ${bytesMax} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
