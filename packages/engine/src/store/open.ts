import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { PartywallError } from '../errors.ts';
import { openFolderStore } from './folder.ts';
import { openS3Store } from './s3.ts';
import type { S3Limits } from './s3-limits.ts';
import { parseS3Url } from './s3-location.ts';
import type { Store } from './store.ts';

export interface OpenStoreOptions {
  /** Where credentials come from. Default the environment of the process. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Ends what is under way. */
  readonly signal?: AbortSignal | undefined;
  /** Of a bucket: timeouts, retries, parts. */
  readonly limits?: Partial<S3Limits> | undefined;
  /** Default the clock of the machine. */
  readonly now?: (() => Date) | undefined;
}

const hint = 'a store is file:///absolute/path or s3://bucket/prefix?region=...';

/**
 * Opens a store by its URL: `file:///var/backups` (or a path), made where there is none, or `s3://bucket/prefix?endpoint=...&region=...&path-style=...&lock=...`, whose
 * bucket is there already and whose credentials come from the environment.
 *
 * @throws PartywallError store_refused: no such kind of store, credentials in the URL, no permission; store_unavailable
 * @example
 * const store = await openStore('file:///var/backups/partywall');
 */
export async function openStore(url: string, { env = process.env, signal, limits, now = () => new Date() }: OpenStoreOptions = {}): Promise<Store> {
  if (path.isAbsolute(url)) return await openFolderStore(path.normalize(url), { signal });
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol === 'file:') return await openFolderStore(folderOf(parsed), { signal });
  if (parsed?.protocol === 's3:') return await openS3Store(parseS3Url(parsed, env), { env, signal, limits, now });
  throw new PartywallError('store_refused', `opening a store: ${parsed ? `there is no store of the kind ${parsed.protocol}` : 'this is no URL of a store'}`, {
    hint,
  });
}

function folderOf(url: URL): string {
  if (url.host !== '' && url.host !== 'localhost') throw new PartywallError('store_refused', 'opening a store: a file URL names no host', { hint });
  try {
    return path.normalize(fileURLToPath(url));
  } catch (error) {
    throw new PartywallError('store_refused', 'opening a store: the path of the file URL is malformed', { hint, cause: error });
  }
}
