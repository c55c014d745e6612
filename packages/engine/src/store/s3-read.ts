import { setTimeout as wait } from 'node:timers/promises';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { PartywallError } from '../errors.ts';
import { archiveKeys } from './key.ts';
import { persist, type S3Bucket, S3Failure, saying } from './s3-client.ts';
import type { ByteRange, StoredObject } from './store.ts';

/** In a row, without a byte between them. */
const stallsMax = 8;
/** Each goes on where the last one ended, so this bounds a server that gives a few bytes at a time. */
const resumesMax = 1_000;

/** The bytes of an object. Where a body ends early, or falls silent, the rest is asked for. */
export async function* getObject(bucket: S3Bucket, key: string, range?: ByteRange): AsyncGenerator<Buffer> {
  bucket.keys.check(key);
  if (range?.length === 0) return;
  const doing = `reading ${key} in ${bucket.description}`;
  let position = range?.offset ?? 0;
  let until = range && range.offset + range.length;
  let tag: string | undefined;
  for (let resumes = 0, stalls = 0; until === undefined || position < until; resumes += 1) {
    const from = position;
    const answer = await ask(bucket, { key, from, until, tag, doing });
    tag = answer.tag;
    until ??= from + answer.bytes;
    try {
      for await (const chunk of answer.body) {
        position += chunk.length;
        if (position > until) throw new PartywallError('store_unavailable', `${doing}: the server sends more than it was asked for`);
        yield chunk;
      }
    } catch (error) {
      if (error instanceof PartywallError) throw error;
      bucket.signal?.throwIfAborted();
    }
    if (position >= until) return;
    stalls = position > from ? 0 : stalls + 1;
    if (stalls > stallsMax || resumes >= resumesMax) {
      throw new PartywallError('store_unavailable', `${doing}: the body ends at byte ${position} of ${until}, again and again`);
    }
    await wait(Math.min(bucket.limits.firstPauseMs * 2 ** stalls, bucket.limits.pauseMaxMs), undefined, {
      ...(bucket.signal ? { signal: bucket.signal } : {}),
    });
  }
}

interface Question {
  readonly key: string;
  readonly from: number;
  readonly until: number | undefined;
  /** What an earlier part was of. */
  readonly tag: string | undefined;
  readonly doing: string;
}

interface Answer {
  readonly body: AsyncIterable<Buffer>;
  readonly bytes: number;
  readonly tag: string | undefined;
}

async function ask(bucket: S3Bucket, { key, from, until, tag, doing }: Question): Promise<Answer> {
  const whole = from === 0 && until === undefined;
  const answer = await saying(doing, async () => {
    try {
      return await persist(bucket, () =>
        bucket.client.send(
          new bucket.sdk.GetObjectCommand({
            Bucket: bucket.location.bucket,
            Key: bucket.location.prefix + key,
            ...(whole ? {} : { Range: `bytes=${from}-${until === undefined ? '' : until - 1}` }),
            ...(tag === undefined ? {} : { IfMatch: tag }),
          }),
          sendOptions(bucket),
        ),
      );
    } catch (error) {
      if (error instanceof S3Failure && error.fault.status === 416) throw tooShort(doing, from, until);
      throw error;
    }
  });
  const { ContentLength: bytes, ContentRange: given } = answer;
  if (bytes === undefined || (!whole && given?.startsWith(`bytes ${from}-`) !== true)) {
    throw new PartywallError('store_unavailable', `${doing}: the server does not answer with the range that it was asked for`);
  }
  if (until !== undefined && bytes !== until - from) throw tooShort(doing, from, until);
  return { body: bodyOf(answer), bytes, tag: answer.ETag };
}

function tooShort(doing: string, from: number, until: number | undefined): PartywallError {
  return new PartywallError('archive_damaged', `${doing}: bytes ${from} to ${until ?? 'its end'} are asked for, and it is shorter`);
}

/** With Node's own handler a body is a stream of buffers. */
function bodyOf({ Body: body }: GetObjectCommandOutput): AsyncIterable<Buffer> {
  return body as AsyncIterable<Buffer>;
}

/** Undefined where there is none. */
export async function headObject(bucket: S3Bucket, key: string): Promise<(StoredObject & { readonly write: string | undefined }) | undefined> {
  bucket.keys.check(key);
  return await saying(`looking for ${key} in ${bucket.description}`, async () => {
    try {
      const found = await persist(bucket, () =>
        bucket.client.send(new bucket.sdk.HeadObjectCommand({ Bucket: bucket.location.bucket, Key: bucket.location.prefix + key }), sendOptions(bucket)),
      );
      return {
        key,
        bytes: found.ContentLength ?? 0,
        tag: plainTag(found.ETag),
        modifiedAt: found.LastModified ?? new Date(0),
        lockedUntil: found.ObjectLockRetainUntilDate,
        write: found.Metadata?.[writeMark],
      };
    } catch (error) {
      if (error instanceof S3Failure && error.fault.kind === 'missing') return undefined;
      throw error;
    }
  });
}

/** Which put wrote an object: how one that is repeated knows its own. */
export const writeMark = 'partywall-write';

/**
 * Objects in the order of their keys. Some servers list late what was just written: nobody may take a missing entry for a missing object. What
 * has no key of an archive is not part of it.
 */
export async function* listObjects(bucket: S3Bucket, prefix: string): AsyncGenerator<StoredObject> {
  bucket.keys.checkPrefix(prefix);
  const { bucket: name, prefix: base } = bucket.location;
  const doing = `listing ${bucket.description}`;
  let token: string | undefined;
  do {
    const page = await saying(doing, () =>
      persist(bucket, () =>
        bucket.client.send(
          new bucket.sdk.ListObjectsV2Command({
            Bucket: name,
            Prefix: base + prefix,
            MaxKeys: bucket.limits.listedAtOnce,
            // XML has no form for some characters of keys that are not an archive's.
            ...(bucket.keys === archiveKeys ? {} : { EncodingType: 'url' as const }),
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          sendOptions(bucket),
        ),
      ),
    );
    for (const { Key: encoded = '', Size: bytes = 0, ETag: tag, LastModified: modifiedAt = new Date(0) } of page.Contents ?? []) {
      const full = page.EncodingType === 'url' ? decodeURIComponent(encoded.replaceAll('+', ' ')) : encoded;
      const key = full.slice(base.length);
      if (full.startsWith(base) && bucket.keys.is(key)) yield { key, bytes, tag: plainTag(tag), modifiedAt };
    }
    const next = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    if (next === token && next !== undefined) throw new PartywallError('store_unavailable', `${doing}: the server gives the same page again`);
    token = next;
  } while (token !== undefined);
}

/** An entity tag without its quotes: servers differ in whether they want them back. */
export function plainTag(tag: string | undefined): string {
  return (tag ?? '').replaceAll('"', '');
}

export function sendOptions({ signal }: S3Bucket): { abortSignal?: AbortSignal } {
  return signal ? { abortSignal: signal } : {};
}
