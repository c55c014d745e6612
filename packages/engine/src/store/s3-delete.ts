import { PartywallError } from '../errors.ts';
import { persist, type S3Bucket, S3Failure, saying } from './s3-client.ts';
import { headObject, sendOptions } from './s3-read.ts';

const versionPagesMax = 1_000;

/**
 * Deletes an object with all its versions: in a bucket that keeps versions, deleting the name alone would leave every byte there, and would
 * say yes to an object that is locked.
 */
export async function deleteObject(bucket: S3Bucket, key: string, now: () => Date): Promise<void> {
  bucket.keys.check(key);
  const doing = `deleting ${key} in ${bucket.description}`;
  await saying(doing, async () => {
    try {
      await deleteVersions(bucket, key);
    } catch (error) {
      if (!(error instanceof S3Failure) || error.fault.kind !== 'refused') throw error;
      const found = await headObject(bucket, key);
      if (found?.lockedUntil && found.lockedUntil > now()) {
        throw new PartywallError('store_locked', `${doing}: it is locked until ${found.lockedUntil.toISOString()}`);
      }
      throw error;
    }
  });
}

/** The current version last, so that what cannot go as a whole stays. @throws S3Failure */
export async function deleteVersions(bucket: S3Bucket, key: string): Promise<void> {
  const { sdk, client, location } = bucket;
  const name = { Bucket: location.bucket, Key: location.prefix + key };
  const versioned = await persist(bucket, () => client.send(new sdk.HeadObjectCommand(name), sendOptions(bucket))).then(
    ({ VersionId: version }) => version !== undefined,
    (error: unknown) => {
      if (error instanceof S3Failure && error.fault.kind === 'missing') return undefined;
      throw error;
    },
  );
  if (versioned === undefined) return;
  const versions = versioned ? (await versionsOf(bucket, name.Key)).reverse() : [undefined];
  for (const VersionId of versions) await persist(bucket, () => client.send(new sdk.DeleteObjectCommand({ ...name, VersionId }), sendOptions(bucket)));
}

/** Newest first, as the server lists them. */
async function versionsOf(bucket: S3Bucket, key: string): Promise<string[]> {
  const found: string[] = [];
  let marker: { readonly KeyMarker: string; readonly VersionIdMarker?: string } | undefined;
  for (let pages = 0; pages < versionPagesMax; pages += 1) {
    const page = await persist(bucket, () =>
      bucket.client.send(new bucket.sdk.ListObjectVersionsCommand({ Bucket: bucket.location.bucket, Prefix: key, ...marker }), sendOptions(bucket)),
    );
    const entries = [...(page.DeleteMarkers ?? []), ...(page.Versions ?? [])].filter((version) => version.Key === key);
    found.push(...entries.flatMap(({ VersionId: id }) => (id === undefined ? [] : [id])));
    // Keys come in their order, and longer ones after this one.
    if (page.IsTruncated !== true || page.NextKeyMarker === undefined || page.NextKeyMarker !== key) return found;
    marker = { KeyMarker: page.NextKeyMarker, ...(page.NextVersionIdMarker === undefined ? {} : { VersionIdMarker: page.NextVersionIdMarker }) };
  }
  throw new PartywallError('store_refused', `${key} has over ${found.length} versions`, { hint: 'let a rule of the bucket expire old versions' });
}
