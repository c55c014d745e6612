import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { PartywallError } from '../errors.ts';
import { persist, type S3Bucket, S3Failure, saying } from './s3-client.ts';
import { type Conditions, replaceForms } from './s3-conditions.ts';
import { extendLock } from './s3-lock.ts';
import { headObject, plainTag, sendOptions, writeMark } from './s3-read.ts';
import type { PutOptions, StoredObject } from './store.ts';

const partsMax = 10_000;
const abortsMax = 6;

/** One write of an object: what all requests that belong to it share. */
interface Write {
  readonly bucket: S3Bucket;
  readonly key: string;
  readonly doing: string;
  /** Kept with the object, so that a repeated request sees whether the first one got through. */
  readonly mark: string;
  readonly options: PutOptions;
}

/**
 * Small bodies go in one request, larger ones in parts. A condition that the server does not keep is looked at beforehand (`ifAbsent`) or refused
 * (`ifMatch`).
 */
export async function putObject(
  bucket: S3Bucket,
  key: string,
  { body, options, conditions, now }: { body: Buffer | AsyncIterable<Buffer>; options: PutOptions; conditions: () => Promise<Conditions>; now: () => Date },
): Promise<StoredObject> {
  bucket.keys.check(key);
  const doing = `writing ${key} in ${bucket.description}`;
  const write: Write = { bucket, key, doing, mark: randomUUID(), options };
  return await saying(doing, async () => {
    const kept = options.ifAbsent || options.ifMatch !== undefined ? await conditions() : undefined;
    const condition = await conditionOf(write, kept);
    const parts = inParts(body, bucket.limits.partBytes);
    const first = (await parts.next()).value ?? Buffer.alloc(0);
    const second = (await parts.next()).value;
    const done = second === undefined ? await putWhole(write, first, condition) : await putParts(write, { first, second, rest: parts }, condition);
    return { key, bytes: done.bytes, tag: done.tag, modifiedAt: now(), lockedUntil: lockOf(bucket, options)?.ObjectLockRetainUntilDate };
  });
}

interface Condition {
  readonly IfNoneMatch?: '*';
  readonly IfMatch?: string;
}

interface Done {
  readonly bytes: number;
  readonly tag: string;
}

async function conditionOf({ bucket, key, doing, options }: Write, kept: Conditions | undefined): Promise<Condition> {
  if (options.ifMatch !== undefined) {
    if (kept?.replace === undefined) {
      throw new PartywallError('store_refused', `${doing}: the bucket does not keep the condition that nobody else writes it meanwhile`, {
        hint: 'keep what is rewritten (the keybook) in a folder, or in a bucket with conditional writes: docs/guide/stores.md',
      });
    }
    return { IfMatch: replaceForms[kept.replace](options.ifMatch) };
  }
  if (!options.ifAbsent) return {};
  if (kept?.create) return { IfNoneMatch: '*' };
  if (await headObject(bucket, key)) throw new PartywallError('store_conflict', `${doing}: there is one already`);
  return {};
}

async function putWhole(write: Write, body: Buffer, condition: Condition): Promise<Done> {
  const { bucket } = write;
  const answer = await persist(bucket, async ({ repeated }) => {
    try {
      return await bucket.client.send(
        new bucket.sdk.PutObjectCommand({
          ...objectOf(write),
          ...condition,
          ...lockOf(bucket, write.options),
          Body: body,
          ContentLength: body.length,
          ContentMD5: md5(body),
        }),
        sendOptions(bucket),
      );
    } catch (error) {
      const own = repeated ? await written(write) : undefined;
      if (own) return { ETag: own.tag };
      throw error;
    }
  });
  return { bytes: body.length, tag: plainTag(answer.ETag) };
}

/** A request that is repeated finds its own object in its way when the first one got through. */
async function written({ bucket, key, mark }: Write): Promise<StoredObject | undefined> {
  const found = await headObject(bucket, key).catch(() => undefined); // the error of the put is the one to tell
  return found?.write === mark ? found : undefined;
}

interface Parts {
  readonly first: Buffer;
  readonly second: Buffer;
  readonly rest: AsyncIterator<Buffer, undefined>;
}

/** Memory: `partsAtOnce` parts and the next one. Whatever fails, the upload is taken back. */
async function putParts(write: Write, { first, second, rest }: Parts, condition: Condition): Promise<Done> {
  const { bucket, doing } = write;
  const created = await persist(bucket, () =>
    bucket.client.send(new bucket.sdk.CreateMultipartUploadCommand({ ...objectOf(write), ...lockOf(bucket, write.options) }), sendOptions(bucket)),
  );
  const uploadId = created.UploadId;
  if (uploadId === undefined) throw new PartywallError('store_unavailable', `${doing}: the server gives no id of the upload`);
  const running = new Set<Promise<unknown>>();
  let completed = false;
  try {
    const tags: string[] = [];
    let bytes = 0;
    for (let part: Buffer | undefined = first, number = 1; part !== undefined; number += 1) {
      if (number > partsMax) throw new PartywallError('store_refused', `${doing}: it is larger than ${partsMax * bucket.limits.partBytes} bytes`);
      bytes += part.length;
      const upload: Promise<void> = uploadPart(write, { uploadId, number, part }).then((tag) => {
        tags[number - 1] = tag;
      });
      running.add(upload);
      upload.then(
        () => running.delete(upload),
        () => undefined, // stays, and ends the race below
      );
      if (running.size >= bucket.limits.partsAtOnce) await Promise.race(running);
      part = number === 1 ? second : (await rest.next()).value;
    }
    await Promise.all(running);
    const done = { bytes, tag: await complete(write, { uploadId, tags, condition }) };
    completed = true;
    // Ceph 16 takes the lock of an upload in parts, and forgets it.
    if (write.options.lockUntil) await extendLock(bucket, write.key, write.options.lockUntil);
    return done;
  } catch (error) {
    await Promise.allSettled(running);
    if (!completed) await abort(write, uploadId);
    throw error;
  }
}

async function uploadPart(write: Write, { uploadId, number, part }: { uploadId: string; number: number; part: Buffer }): Promise<string> {
  const { bucket } = write;
  const answer = await persist(bucket, () =>
    bucket.client.send(
      new bucket.sdk.UploadPartCommand({
        ...nameOf(write),
        UploadId: uploadId,
        PartNumber: number,
        Body: part,
        ContentLength: part.length,
        ContentMD5: md5(part),
      }),
      sendOptions(bucket),
    ),
  );
  return answer.ETag ?? '';
}

async function complete(write: Write, { uploadId, tags, condition }: { uploadId: string; tags: readonly string[]; condition: Condition }): Promise<string> {
  const { bucket, key, doing, options } = write;
  // Some servers keep a condition in one request and not here: it is looked at just before, too.
  const before = options.ifAbsent || options.ifMatch !== undefined ? await headObject(bucket, key) : undefined;
  if (options.ifAbsent && before) throw new PartywallError('store_conflict', `${doing}: there is one already`);
  if (options.ifMatch !== undefined && before?.tag !== options.ifMatch) throw new PartywallError('store_conflict', `${doing}: it is another one now`);
  const answer = await persist(bucket, async ({ repeated }) => {
    try {
      return await bucket.client.send(
        new bucket.sdk.CompleteMultipartUploadCommand({
          ...nameOf(write),
          ...condition,
          UploadId: uploadId,
          MultipartUpload: { Parts: tags.map((ETag, index) => ({ ETag, PartNumber: index + 1 })) },
        }),
        sendOptions(bucket),
      );
    } catch (error) {
      const own = repeated ? await written(write) : undefined;
      if (own) return { ETag: own.tag };
      throw error;
    }
  });
  // Ceph 16 answers without a tag.
  return answer.ETag ? plainTag(answer.ETag) : ((await headObject(bucket, key))?.tag ?? '');
}

/**
 * Best effort, also after the caller gave up: parts that stay are cleaned by the bucket's own rule, and the first error is the one to tell. A part
 * whose connection was lost may still be written on the server, and bring the upload back: so it is taken back until it stays away.
 */
async function abort(write: Write, uploadId: string): Promise<void> {
  const bucket: S3Bucket = { ...write.bucket, signal: undefined };
  const { firstPauseMs, openForMs: forMs } = bucket.limits;
  for (let tries = 0, gone = 0; tries < abortsMax && gone < 2; tries += 1) {
    if (tries > 0) await wait(firstPauseMs * 2 ** tries);
    try {
      await persist(bucket, () => bucket.client.send(new bucket.sdk.AbortMultipartUploadCommand({ ...nameOf(write), UploadId: uploadId })), { forMs });
      gone = 0;
    } catch (error) {
      if (!(error instanceof S3Failure)) throw error;
      if (error.fault.kind !== 'missing') return;
      gone += 1;
    }
  }
}

/** Full parts, and a last one that may be shorter. */
async function* inParts(body: Buffer | AsyncIterable<Buffer>, partBytes: number): AsyncGenerator<Buffer, undefined> {
  if (Buffer.isBuffer(body)) {
    for (let from = 0; from < body.length; from += partBytes) yield body.subarray(from, from + partBytes);
    return;
  }
  let part: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    for (let rest = chunk; rest.length > 0; ) {
      const taken = rest.subarray(0, partBytes - bytes);
      part.push(taken);
      bytes += taken.length;
      rest = rest.subarray(taken.length);
      if (bytes < partBytes) continue;
      yield Buffer.concat(part, bytes);
      part = [];
      bytes = 0;
    }
  }
  if (bytes > 0) yield Buffer.concat(part, bytes);
}

function nameOf({ bucket, key }: Write): { Bucket: string; Key: string } {
  return { Bucket: bucket.location.bucket, Key: bucket.location.prefix + key };
}

function objectOf(write: Write): { Bucket: string; Key: string; Metadata: Record<string, string> } {
  return { ...nameOf(write), Metadata: { [writeMark]: write.mark } };
}

function lockOf(
  { location }: S3Bucket,
  { lockUntil }: PutOptions,
): { ObjectLockMode: 'GOVERNANCE' | 'COMPLIANCE'; ObjectLockRetainUntilDate: Date } | undefined {
  return location.lock && lockUntil && { ObjectLockMode: location.lock, ObjectLockRetainUntilDate: lockUntil };
}

/** Against what is changed on the way; also what S3 demands with a lock. */
function md5(body: Buffer): string {
  return createHash('md5').update(body).digest('base64');
}
