import { setTimeout as wait } from 'node:timers/promises';
import type { S3Client } from '@aws-sdk/client-s3';
import { PartywallError } from '../errors.ts';
import { archiveKeys, type KeyRules } from './key.ts';
import { faultError, type S3Fault, s3Fault } from './s3-fault.ts';
import type { S3Limits } from './s3-limits.ts';
import type { S3Location } from './s3-location.ts';

const socketsMax = 64;

export type S3Module = typeof import('@aws-sdk/client-s3');

/** An open bucket: what the parts of the S3 store work with. */
export interface S3Bucket {
  readonly sdk: S3Module;
  readonly client: S3Client;
  readonly location: S3Location;
  readonly limits: S3Limits;
  readonly signal: AbortSignal | undefined;
  readonly description: string;
  readonly keys: KeyRules;
}

/** @throws PartywallError store_refused: the client is not installed */
export async function connectBucket(
  location: S3Location,
  {
    env,
    limits,
    signal,
    keys = archiveKeys,
  }: {
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly limits: S3Limits;
    readonly signal: AbortSignal | undefined;
    readonly keys?: KeyRules;
  },
): Promise<S3Bucket> {
  const sdk = await loadSdk();
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = env;
  const client = new sdk.S3Client({
    region: location.region,
    forcePathStyle: location.pathStyle,
    ...(location.endpoint === undefined ? {} : { endpoint: location.endpoint }),
    // Without these the client looks for a profile, a web identity, a role of the machine.
    ...(accessKeyId && secretAccessKey ? { credentials: { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) } } : {}),
    // Backblaze B2 and older servers refuse the checksums that the client sends by default; puts carry a Content-MD5 instead.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: 1, // retries are below: after a write that may have happened they have to look
    expectContinueHeader: false, // it takes a new connection for each part
    requestHandler: {
      connectionTimeout: limits.connectMs,
      socketTimeout: limits.idleMs,
      httpAgent: { keepAlive: true, maxSockets: socketsMax },
      httpsAgent: { keepAlive: true, maxSockets: socketsMax },
      logger: silent,
    },
    logger: silent,
  });
  return { sdk, client, location, limits, signal, keys, description: `s3://${location.bucket}/${location.prefix}` };
}

export interface Attempt {
  /** An attempt before this one failed in a way that leaves open whether the server did what it was asked. */
  readonly repeated: boolean;
}

/**
 * Does it until it is done, or has failed for too long, with growing pauses and jitter. What does not pass is not done again.
 *
 * @throws S3Failure, which holds what the last answer was
 */
export async function persist<T>(
  { limits, signal }: Pick<S3Bucket, 'limits' | 'signal'>,
  work: (attempt: Attempt) => Promise<T>,
  { forMs = limits.retryForMs }: { readonly forMs?: number } = {},
): Promise<T> {
  const giveUpAt = performance.now() + forMs;
  for (let pauseMs = limits.firstPauseMs, repeated = false; ; repeated = true) {
    signal?.throwIfAborted();
    try {
      return await work({ repeated });
    } catch (error) {
      signal?.throwIfAborted();
      const fault = s3Fault(error);
      if (!fault) throw error;
      if (fault.kind !== 'passes' || performance.now() + pauseMs > giveUpAt) throw new S3Failure(fault);
    }
    await wait(pauseMs * (0.5 + Math.random() / 2), undefined, { ...(signal ? { signal } : {}) });
    pauseMs = Math.min(pauseMs * 2, limits.pauseMaxMs);
  }
}

/** A fault that retries did not help; turned into an error of stores by `saying`, with what was being done. */
export class S3Failure extends Error {
  override readonly name = 'S3Failure';
  readonly fault: S3Fault;

  constructor(fault: S3Fault) {
    super(fault.said);
    this.fault = fault;
  }
}

/** @throws PartywallError where the work fails with the store's fault; anything else as it is */
export async function saying<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof S3Failure ? faultError(error.fault, doing) : error;
  }
}

async function loadSdk(): Promise<S3Module> {
  try {
    return await import('@aws-sdk/client-s3');
  } catch (error) {
    throw new PartywallError('store_refused', 'opening an S3 store: the package @aws-sdk/client-s3 cannot be loaded', {
      hint: 'install it: npm install @aws-sdk/client-s3',
      cause: error,
    });
  }
}

/** The client writes warnings to the console otherwise. */
const silent = { debug: nothing, info: nothing, warn: nothing, error: nothing };

function nothing(): void {}
