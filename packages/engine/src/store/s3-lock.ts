import { PartywallError } from '../errors.ts';
import { checkKey } from './key.ts';
import { persist, type S3Bucket, S3Failure, saying } from './s3-client.ts';
import { headObject, sendOptions } from './s3-read.ts';

/**
 * Keeps an object until then, at least. Two that extend at once cannot shorten either: the server refuses an earlier date, and then the later
 * one stands.
 */
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
