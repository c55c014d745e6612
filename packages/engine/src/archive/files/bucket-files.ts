import { PartywallError } from '../../errors.ts';
import { anyKeys } from '../../store/key.ts';
import { openAnyBucket } from '../../store/s3.ts';
import { parseS3Url } from '../../store/s3-location.ts';
import type { Store } from '../../store/store.ts';
import { FileChanged, filesMax, type LiveFile, type LiveFiles } from './live-files.ts';

/** A bucket that holds files of tenants, under whatever names the application gave them. */
export interface FileBucket {
  readonly description: string;
  files(prefix: string): LiveFiles;
  close(): void;
}

interface BucketSettings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal | undefined;
}

/** @throws PartywallError store_refused, store_unavailable */
export async function openFileBucket(url: URL, { env, signal }: BucketSettings): Promise<FileBucket> {
  const bucket = await openAnyBucket(parseS3Url(url, env), { env, signal, now: () => new Date() });
  return { description: bucket.description, files: (prefix) => bucketFiles(bucket, prefix), close: () => void bucket.close() };
}

function bucketFiles(bucket: Store, prefix: string): LiveFiles {
  const look = async (path: string): Promise<LiveFile | undefined> => {
    const found = await bucket.head(prefix + path);
    return found && liveFile(path, found);
  };
  return {
    list: async () => {
      const files: LiveFile[] = [];
      for await (const object of bucket.list(prefix)) {
        const path = object.key.slice(prefix.length);
        // Some tools write an empty object in the name of a folder.
        if (path !== '') files.push(liveFile(path, object));
        if (files.length > filesMax) throw new PartywallError('backup_refused', `listing files: a tenant has more than ${filesMax} in one place`);
      }
      return { files: files.sort((left, right) => (left.path < right.path ? -1 : 1)), left: new Map() };
    },
    look,
    read: async function* (file) {
      let bytes = 0;
      try {
        for await (const piece of bucket.get(prefix + file.path)) {
          bytes += piece.length;
          yield piece;
        }
      } catch (error) {
        const isGone = error instanceof PartywallError && error.code === 'store_object_missing';
        throw isGone ? new FileChanged('a file is gone') : error;
      }
      // What was read is of one version; that it is this one is known afterwards.
      if (bytes !== file.bytes || (await look(file.path))?.tag !== file.tag) throw new FileChanged('a file was changed while it was read');
    },
    accepts: (path) => anyKeys.is(prefix + path),
    write: async (path, body) => void (await bucket.put(prefix + path, body)),
    remove: (path) => bucket.delete(prefix + path),
    clear: async () => {
      for await (const { key } of bucket.list(prefix)) await bucket.delete(key);
    },
    tidy: async () => undefined,
  };
}

function liveFile(path: string, { bytes, tag, modifiedAt }: { readonly bytes: number; readonly tag: string; readonly modifiedAt: Date }): LiveFile {
  return { path, bytes, modified: modifiedAt.getTime(), mode: null, tag };
}
