import { PartywallError } from '../errors.ts';

/**
 * What an S3 server or the way to it said, in the words of a store. The original error is never passed on: the client hangs the request
 * on it, signature and key id included.
 */
export interface S3Fault {
  readonly kind: 'passes' | 'refused' | 'full' | 'missing' | 'conflict';
  /** `SlowDown, HTTP 503, request tx000...` */
  readonly said: string;
  /** The server's or the system's word: `AccessDenied`, `ECONNRESET`. */
  readonly code: string;
  readonly status: number | undefined;
}

const passing: ReadonlySet<string> = new Set([
  'RequestTimeout',
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'OperationAborted',
  'ConditionalRequestConflict',
]);
const full: ReadonlySet<string> = new Set(['QuotaExceeded', 'EntityTooLarge', 'StorageCapExceeded', 'XMinioStorageFull', 'InsufficientStorage']);
const missing: ReadonlySet<string> = new Set(['NoSuchKey', 'NotFound', 'NoSuchUpload', 'NoSuchVersion']);
const namesOfAborts: ReadonlySet<string> = new Set(['AbortError']);

/** Undefined for what neither server nor network said: a mistake in the program, the caller's own error, an abort. */
export function s3Fault(error: unknown): S3Fault | undefined {
  if (!(error instanceof Error) || error instanceof PartywallError || namesOfAborts.has(error.name)) return undefined;
  const { status, requestId } = metadataOf(error);
  const code = status !== undefined && error.name !== 'Error' ? error.name : (codeOf(error) ?? error.name);
  // The answer to a HEAD has no body to say why.
  const said = [
    ...(/^Unknown/.test(code) ? [] : [code]),
    ...(status === undefined ? [] : [`HTTP ${status}`]),
    ...(requestId === undefined ? [] : [`request ${requestId}`]),
  ].join(', ');
  const kind = kindOf(error, code, status);
  return kind && { kind, said, code, status };
}

function kindOf(error: Error, code: string, status: number | undefined): S3Fault['kind'] | undefined {
  if (status === undefined) {
    if (error.name === 'CredentialsProviderError' || error.name === 'TokenProviderError') return 'refused';
    // Of the network or of an answer that was cut: both have a code or say so by their name.
    return error.name === 'TimeoutError' || codeOf(error) !== undefined || error instanceof SyntaxError ? 'passes' : undefined;
  }
  if (passing.has(code) || status === 429) return 'passes';
  if (full.has(code) || status === 507) return 'full';
  if (status === 501) return 'refused';
  // A status of success with an error: the answer was cut, or is not what it should be.
  if (status >= 500 || status < 300) return 'passes';
  if (status === 412 || status === 409) return 'conflict';
  return missing.has(code) || (status === 404 && code !== 'NoSuchBucket') ? 'missing' : 'refused';
}

/** @param fault - not of a kind that the caller has an answer to of its own */
export function faultError(fault: S3Fault, doing: string): PartywallError {
  const message = `${doing}: ${fault.said}`;
  switch (fault.kind) {
    case 'passes':
      return new PartywallError('store_unavailable', message);
    case 'full':
      return new PartywallError('store_full', message);
    case 'missing':
      return new PartywallError('store_object_missing', message);
    case 'conflict':
      return new PartywallError('store_conflict', message);
    case 'refused':
      return new PartywallError('store_refused', message, hintFor(fault.code));
  }
}

function hintFor(code: string): { hint?: string } {
  if (/Expired/.test(code)) return { hint: 'the credentials have expired: renew them, then run again' };
  if (code === 'CredentialsProviderError') return { hint: 'no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role' };
  if (code === 'NoSuchBucket') return { hint: 'make the bucket first: a store never makes one' };
  // The answer to a HEAD again.
  if (/^Unknown/.test(code)) return { hint: 'the server gave no reason: the credentials may have expired, or may not do this' };
  if (code === 'RequestTimeTooSkewed') return { hint: 'set the clock of this machine' };
  return {};
}

function codeOf(error: Error): string | undefined {
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function metadataOf(error: Error): { readonly status?: number; readonly requestId?: string } {
  if (!('$metadata' in error) || typeof error.$metadata !== 'object' || error.$metadata === null) return {};
  const { httpStatusCode, requestId } = error.$metadata as { readonly httpStatusCode?: unknown; readonly requestId?: unknown }; // checked below
  return {
    ...(typeof httpStatusCode === 'number' ? { status: httpStatusCode } : {}),
    ...(typeof requestId === 'string' ? { requestId } : {}),
  };
}
