import { QuotaExceededError, RequestRefusedError, type WallError, wallErrors } from '../errors.ts';
import { requestIdHeader } from './request-id.ts';

/** An answer that an adapter sends instead of the handler's. */
export interface Answer {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** Empty on a redirect. */
  readonly body: string;
}

/**
 * Set before the handler runs, which may say otherwise: the same address shows each tenant something else, so that a cache between, or the browser's for another tab,
 * would show one tenant's answer to another.
 */
export const tenantCacheControl = 'no-store';

/** Members of the body beside the standard ones, and headers beside the usual ones. */
export interface AnswerOptions {
  readonly extra?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
}

const titles: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not found',
  409: 'Conflict',
  413: 'Payload too large',
  421: 'Misdirected request',
  429: 'Too many requests',
  500: 'Internal server error',
  503: 'Service unavailable',
};

/**
 * Problem details (RFC 9457) for an error of the wall, in the form of the control plane: `type`, `title`, `status`, `detail`, `code`, `requestId`.
 * What the database said stays inside: the sentence is the table's, and what is the application's fault says only that the server failed.
 */
export function problemAnswer(error: WallError, requestId: string, options: AnswerOptions = {}): Answer {
  const { status, code, detail } = told(error);
  const body = {
    type: `urn:partywall:problem:${code}`,
    title: titles[status] ?? 'Error',
    status,
    detail,
    code,
    requestId,
    ...(error instanceof QuotaExceededError && quotaOf(error)),
    ...options.extra,
  };
  return {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'cache-control': tenantCacheControl,
      [requestIdHeader]: requestId,
      ...(status === 401 && { 'www-authenticate': 'Bearer' }),
      ...options.headers,
    },
    body: JSON.stringify(body),
  };
}

function told(error: WallError): { readonly status: number; readonly code: string; readonly detail: string } {
  const { code, status } = error;
  // A credential for a tenant that is no more is as good as none, and the answer says no more than to a forged one.
  if (code === 'unknown_tenant') return { status: 401, code: 'unauthenticated', detail: wallErrors.unauthenticated.message };
  if (status >= 500) return { status, code: 'server_failed', detail: 'the server failed; its log has the request id' };
  // Other messages repeat what the database said, with names of tables and tenants.
  return { status, code, detail: error instanceof RequestRefusedError ? error.message : wallErrors[code].message };
}

function quotaOf({ quota, limit, usage, requested, reset }: QuotaExceededError): Record<string, unknown> {
  return { quota, limit, usage, requested, reset: reset?.toISOString() ?? null };
}
