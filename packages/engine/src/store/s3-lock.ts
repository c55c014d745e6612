import { PartywallError } from '../errors.ts';
import { checkKey } from './key.ts';
import { persist, type S3Bucket, S3Failure, saying } from './s3-client.ts';
import { headObject, sendOptions } from './s3-read.ts';

/**
 * For the locks of one store: one change of an object's date at a time. A server refuses an earlier date, but Ceph 16 looks first and
 * writes then, so that of two at once the earlier can stand.
 */
export function lockExtender(bucket: S3Bucket): (key: string, until: Date) => Promise<void> {
  const last = new Map<string, Promise<void>>();
  return async (key, until) => {
    const before = last.get(key);
    const own = (before ?? Promise.resolve()).catch(() => undefined).then(() => extendLock(bucket, key, until));
    last.set(key, own);
    try {
      await own;
    } finally {
      if (last.get(key) === own) last.delete(key);
    }
  };
}

/** Keeps an object until then, at least. Where somebody else sets a later date meanwhile, the server refuses this one, and that one stands. */
export async function extendLock(bucket: S3Bucket, key: string, until: Date): Promise<void> {
  const { sdk, client, location } = bucket;
  checkKey(key);
  const mode = location.lock;
  if (mode === undefined) return;
  const doing = `locking ${key} in ${bucket.description}`;
  const isLocked = async (): Promise<boolean> => {
    const found = await headObject(bucket, key);
    if (!found) throw new PartywallError('store_object_missing', `${doing}: it is not there`);
    return found.lockedUntil !== undefined && found.lockedUntil >= until;
  };
  if (await isLocked()) return;
  await saying(doing, async () => {
    try {
      await persist(bucket, () =>
        client.send(
          new sdk.PutObjectRetentionCommand({
            Bucket: location.bucket,
            Key: location.prefix + key,
            Retention: { Mode: mode, RetainUntilDate: until },
            ChecksumAlgorithm: 'CRC32',
          }),
          sendOptions(bucket),
        ),
      );
    } catch (error) {
      if (error instanceof S3Failure && error.fault.kind === 'refused' && (await isLocked())) return;
      throw error;
    }
  });
}
