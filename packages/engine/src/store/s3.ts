import { PartywallError } from '../errors.ts';
import { anyKeys, archiveKeys, type KeyRules } from './key.ts';
import { connectBucket, persist, type S3Bucket, S3Failure, saying } from './s3-client.ts';
import { type Conditions, proveConditions } from './s3-conditions.ts';
import { deleteObject } from './s3-delete.ts';
import { type S3Limits, s3Limits } from './s3-limits.ts';
import type { S3Location } from './s3-location.ts';
import { lockExtender } from './s3-lock.ts';
import { getObject, headObject, listObjects, sendOptions } from './s3-read.ts';
import { putObject } from './s3-write.ts';
import type { Store } from './store.ts';

export interface S3Options {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal | undefined;
  readonly limits?: Partial<S3Limits> | undefined;
  /** For when an object was written, and whether its lock has ended. */
  readonly now: () => Date;
}

/**
 * A store in a bucket. Opening asks one question, so that a wrong credential or name shows before anything else is done.
 *
 * @throws PartywallError store_refused, store_unavailable
 */
export function openS3Store(location: S3Location, options: S3Options): Promise<Store> {
  return openBucket(location, options, archiveKeys);
}

/** A bucket of somebody else's, in which any name is a key. @throws PartywallError store_refused, store_unavailable */
export function openAnyBucket(location: S3Location, options: S3Options): Promise<Store> {
  return openBucket(location, options, anyKeys);
}

async function openBucket(location: S3Location, { env, signal, limits = {}, now }: S3Options, keys: KeyRules): Promise<Store> {
  const bucket = await connectBucket(location, { env, signal, limits: { ...s3Limits, ...limits }, keys });
  try {
    await saying(`opening ${bucket.description}`, () => assertUsable(bucket));
  } catch (error) {
    bucket.client.destroy();
    throw error;
  }
  let proving: Promise<Conditions> | undefined;
  const conditions = (): Promise<Conditions> => {
    proving ??= proveConditions(bucket).catch((error: unknown) => {
      proving = undefined;
      throw error;
    });
    return proving;
  };
  return {
    description: bucket.description,
    can: { lock: location.lock !== undefined },
    put: (key, body, options = {}) => putObject(bucket, key, { body, options, conditions, now }),
    get: (key, range) => getObject(bucket, key, range),
    head: async (key) => {
      const found = await headObject(bucket, key);
      return found && { key, bytes: found.bytes, tag: found.tag, modifiedAt: found.modifiedAt, lockedUntil: found.lockedUntil };
    },
    list: (prefix) => listObjects(bucket, prefix),
    delete: (key) => deleteObject(bucket, key, now),
    extendLock: lockExtender(bucket),
    close: async () => bucket.client.destroy(),
  };
}

async function assertUsable(bucket: S3Bucket): Promise<void> {
  const { sdk, client, location } = bucket;
  const once = { forMs: bucket.limits.openForMs };
  await persist(
    bucket,
    () => client.send(new sdk.ListObjectsV2Command({ Bucket: location.bucket, Prefix: location.prefix, MaxKeys: 1 }), sendOptions(bucket)),
    once,
  );
  if (location.lock === undefined) return;
  const { ObjectLockConfiguration: lock } = await persist(
    bucket,
    () => client.send(new sdk.GetObjectLockConfigurationCommand({ Bucket: location.bucket }), sendOptions(bucket)),
    once,
  ).catch((error: unknown) => {
    if (error instanceof S3Failure && (error.fault.kind === 'missing' || error.fault.code === 'ObjectLockConfigurationNotFoundError')) {
      return { ObjectLockConfiguration: undefined };
    }
    throw error;
  });
  if (lock?.ObjectLockEnabled !== 'Enabled') {
    throw new PartywallError('store_refused', `opening ${bucket.description}: the URL asks for object lock, and the bucket has none`, {
      hint: 'make a bucket with object lock, or leave lock= out of the URL',
    });
  }
}
