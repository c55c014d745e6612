import { randomUUID } from 'node:crypto';
import { persist, type S3Bucket, S3Failure } from './s3-client.ts';
import { deleteVersions } from './s3-delete.ts';
import { plainTag, sendOptions } from './s3-read.ts';

/**
 * Which conditions of a put the server keeps. There are those that keep them (Amazon), those that refuse them (Backblaze B2: 501), and those that
 * say nothing and write anyway (Ceph 16 in a bucket with versions). So it is tried, once for each process that needs it, with an object of a
 * random name.
 */
export interface Conditions {
  /** Only where there is none. */
  readonly create: boolean;
  /** Only where it has a tag, given in this form; undefined: in none. */
  readonly replace: keyof typeof replaceForms | undefined;
}

/** Ceph 16 compares tags without quotes, Amazon takes both, the standard wants them. */
export const replaceForms = {
  plain: (tag: string): string => tag,
  quoted: (tag: string): string => `"${tag}"`,
} as const;

const probePrefix = 'partywall-probe-';
const triesMax = 10;
const noSuchTag = '0'.repeat(32);

/** A try that is cut off is begun anew. */
export async function proveConditions(bucket: S3Bucket): Promise<Conditions> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await prove(bucket);
    } catch (error) {
      if (!(error instanceof S3Failure) || error.fault.kind !== 'passes' || tries === triesMax) throw error;
    }
    await persist(bucket, () => bucket.client.send(new bucket.sdk.HeadBucketCommand({ Bucket: bucket.location.bucket }), sendOptions(bucket)));
  }
}

async function prove(bucket: S3Bucket): Promise<Conditions> {
  const key = `${probePrefix}${randomUUID()}`;
  try {
    const first = await probe(bucket, key, {});
    if (typeof first !== 'object') return { create: false, replace: undefined };
    const create = (await probe(bucket, key, { IfNoneMatch: '*' })) === 'conflict';
    const replaces = async (form: keyof typeof replaceForms): Promise<boolean> =>
      (await probe(bucket, key, { IfMatch: replaceForms[form](noSuchTag) })) === 'conflict' &&
      typeof (await probe(bucket, key, { IfMatch: replaceForms[form](first.tag) })) === 'object';
    return { create, replace: !create ? undefined : (await replaces('plain')) ? 'plain' : (await replaces('quoted')) ? 'quoted' : undefined };
  } finally {
    await deleteVersions(bucket, key);
  }
}

async function probe(
  bucket: S3Bucket,
  key: string,
  condition: { readonly IfNoneMatch?: '*'; readonly IfMatch?: string },
): Promise<{ readonly tag: string } | 'conflict' | 'unsupported'> {
  try {
    // Not repeated with the same object: what a server says after a first try that may have got through proves nothing.
    const answer = await persist({ ...bucket, limits: { ...bucket.limits, retryForMs: 0 } }, () =>
      bucket.client.send(
        new bucket.sdk.PutObjectCommand({ Bucket: bucket.location.bucket, Key: bucket.location.prefix + key, Body: Buffer.from(randomUUID()), ...condition }),
        sendOptions(bucket),
      ),
    );
    return { tag: plainTag(answer.ETag) };
  } catch (error) {
    if (!(error instanceof S3Failure)) throw error;
    if (error.fault.kind === 'conflict') return 'conflict';
    if (error.fault.status === 501) return 'unsupported';
    throw error;
  }
}
