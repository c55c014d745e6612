import { engineErrors, PartywallError, sqlState } from '@partywall/engine';
import { QuotaExceededError, WallError, wallErrors } from '@partywall/wall';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';

/**
 * What a client is told when something fails: problem details (RFC 9457). The engine's and the wall's errors keep their codes; these are
 * the server's own. The sentence of each is constant, so that neither a value nor a stack trace leaves the server by accident.
 */
export const serverErrors = {
  invalid_request: { status: 400, detail: 'the request does not have the documented form' },
  invalid_cursor: { status: 400, detail: 'the cursor is not one that a list returned' },
  unauthorized: { status: 401, detail: 'a valid bearer token, API key or session is required' },
  sign_in_refused: { status: 401, detail: 'the e-mail address or the password is wrong' },
  forbidden: { status: 403, detail: 'this needs a role or scope that you do not have' },
  csrf_refused: { status: 403, detail: 'a request with a cookie must come from an origin that the server trusts' },
  not_found: { status: 404, detail: 'there is nothing here' },
  method_not_allowed: { status: 405, detail: 'this path takes other methods; Allow lists them' },
  conflict: { status: 409, detail: 'there is one already' },
  last_admin: { status: 409, detail: 'a tenant keeps at least one admin' },
  limit_reached: { status: 409, detail: 'the tenant has as many of these as it may have' },
  idempotency_conflict: { status: 409, detail: 'the idempotency key was used for another request' },
  idempotency_running: { status: 409, detail: 'the request with this idempotency key is still running; ask again' },
  payload_too_large: { status: 413, detail: 'the body is larger than this route takes' },
  unsupported_media_type: { status: 415, detail: 'this route takes another content type' },
  unknown_reference: { status: 400, detail: 'an id in the request names nothing that exists' },
  too_many_requests: { status: 429, detail: 'too many requests; wait as long as Retry-After says' },
  mail_unavailable: { status: 503, detail: 'no mail server is configured, or it took the message for nobody' },
  server_failed: { status: 500, detail: 'the server failed; its log has the request id' },
  database_unavailable: { status: 503, detail: 'the database does not answer' },
  timed_out: { status: 503, detail: 'the request took longer than this route may' },
  mail_failed: { status: 503, detail: 'the message could not be sent; ask again' },
  try_again: { status: 503, detail: 'the database is busy; try again' },
} as const satisfies Record<string, { status: number; detail: string }>;

export type ServerErrorCode = keyof typeof serverErrors;

export interface FieldError {
  /** Path of the field in the request, for example `body/name`. */
  readonly field: string;
  readonly message: string;
}

/** An answer that is a problem. `extra` are members beside the standard ones, such as the quota, limit and usage of a 403. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: string;
  readonly status: number;
  readonly fields: readonly FieldError[];
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(code: string, status: number, detail: string, options: ProblemOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = status;
    this.fields = options.fields ?? [];
    this.extra = options.extra ?? {};
  }

  /** The body to send. */
  body(requestId: string): Record<string, unknown> {
    const errors = this.fields.length > 0 ? { errors: this.fields } : {};
    const title = titles[this.status] ?? 'Error';
    return {
      type: `urn:partywall:problem:${this.code}`,
      title,
      status: this.status,
      detail: this.message,
      code: this.code,
      requestId,
      ...errors,
      ...this.extra,
    };
  }
}

interface ProblemOptions {
  readonly cause?: unknown;
  readonly fields?: readonly FieldError[];
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** One of the server's own problems. */
export function problem(code: ServerErrorCode, options: ProblemOptions = {}): Problem {
  const { status, detail } = serverErrors[code];
  return new Problem(code, status, detail, options);
}

const titles: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not found',
  405: 'Method not allowed',
  409: 'Conflict',
  413: 'Payload too large',
  415: 'Unsupported media type',
  421: 'Misdirected request',
  422: 'Unprocessable content',
  429: 'Too many requests',
  500: 'Internal server error',
  503: 'Service unavailable',
};

/** SQLSTATEs that a client's request can cause; what is not here is the server's fault. */
const bySqlState: Readonly<Record<string, ServerErrorCode>> = {
  '22001': 'invalid_request', // string_data_right_truncation
  '22003': 'invalid_request', // numeric_value_out_of_range
  '22007': 'invalid_request', // invalid_datetime_format
  '22008': 'invalid_request', // datetime_field_overflow
  '22021': 'invalid_request', // character_not_in_repertoire
  '22P05': 'invalid_request', // untranslatable_character
  '23503': 'unknown_reference', // foreign_key_violation
  '23505': 'conflict', // unique_violation
  '23514': 'invalid_request', // check_violation
  '40001': 'try_again', // serialization_failure
  '40P01': 'try_again', // deadlock_detected
  '55P03': 'try_again', // lock_not_available
  '57014': 'try_again', // query_canceled, by a timeout
  '53300': 'database_unavailable', // too_many_connections
  '57P01': 'database_unavailable', // admin_shutdown
  '57P02': 'database_unavailable', // crash_shutdown
  '57P03': 'database_unavailable', // cannot_connect_now
  ECONNREFUSED: 'database_unavailable',
  ECONNRESET: 'database_unavailable',
  EPIPE: 'database_unavailable',
  ETIMEDOUT: 'database_unavailable',
  ENOTFOUND: 'database_unavailable',
  EHOSTUNREACH: 'database_unavailable',
};

/** What `pg` says without a code when a connection is lost or none could be had in time. */
const connectionLost = /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Query read timeout)/;

/** Fastify's own refusals, by status. */
const byStatus: Readonly<Record<number, ServerErrorCode>> = {
  404: 'not_found',
  413: 'payload_too_large',
  415: 'unsupported_media_type',
  429: 'too_many_requests',
  503: 'timed_out',
};

/** The problem that stands for any failure; one that nobody foresaw is `server_failed`. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof PartywallError) return ofEngine(error);
  if (error instanceof WallError) return ofWall(error);
  if (hasZodFastifySchemaValidationErrors(error)) {
    const fields = error.validation.map((issue) => ({ field: `${error.validationContext ?? 'request'}${issue.instancePath}`, message: issue.message ?? '' }));
    return problem('invalid_request', { cause: error, fields });
  }
  if (!(error instanceof Error)) return problem('server_failed', { cause: error });
  const code = sqlState(error) ?? '';
  // The control plane writes for tenants too, and its own connections translate nothing.
  if (code === wallErrors.quota_exceeded.sqlstate) return ofWall(new QuotaExceededError({ message: error.message, cause: error }));
  const known = bySqlState[code] ?? (code.startsWith('08') || connectionLost.test(error.message) ? 'database_unavailable' : undefined);
  if (known) return problem(known, { cause: error });
  const status = 'statusCode' in error && typeof error.statusCode === 'number' ? error.statusCode : 500;
  return problem(byStatus[status] ?? (status >= 400 && status < 500 ? 'invalid_request' : 'server_failed'), { cause: error });
}

/** Codes with a status are made for clients, message and details included; the rest tell an operator more than a client may know. */
function ofEngine(error: PartywallError): Problem {
  const row = engineErrors[error.code];
  if (!('status' in row)) return problem('server_failed', { cause: error });
  const details = error.details.length > 0 ? { details: error.details } : {};
  return new Problem(error.code, row.status, error.message, { cause: error, extra: { hint: error.hint, ...details, ...error.extra } });
}

function ofWall(error: WallError): Problem {
  // A token for a tenant that is no more is as good as none, and the answer says no more than to a forged one.
  if (error.code === 'unknown_tenant') return problem('unauthorized', { cause: error });
  if (error.status >= 500) return problem('server_failed', { cause: error });
  return new Problem(error.code, error.status, error.message, { cause: error, ...(error instanceof QuotaExceededError && { extra: quotaOf(error) }) });
}

function quotaOf({ quota, limit, usage, requested, reset }: QuotaExceededError): Record<string, unknown> {
  return { quota, limit, usage, requested, reset: reset?.toISOString() ?? null };
}
