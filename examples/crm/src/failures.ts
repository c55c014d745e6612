import { WallError, type WallErrorCode } from '@partywall/wall';
import type { FastifyError } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { Problem, type ProblemCode } from './problem.ts';

/** What the wall refuses because of the tenant's state; the rest of its errors mean that this application is wrong. */
const byWallError: Partial<Readonly<Record<WallErrorCode, ProblemCode>>> = {
  // A token for a tenant that is no more is as good as none, and the answer says no more than to a forged one.
  unknown_tenant: 'unauthorized',
  tenant_suspended: 'tenant_suspended',
  tenant_cancelled: 'tenant_cancelled',
  tenant_read_only: 'tenant_read_only',
  tenant_placed_elsewhere: 'tenant_placed_elsewhere',
  wall_not_held: 'wall_not_held',
};

/** SQLSTATEs that a client's request can cause; what is not here is the server's fault. */
const bySqlState: Readonly<Record<string, ProblemCode>> = {
  '22001': 'invalid_request', // string_data_right_truncation
  '22003': 'invalid_request', // numeric_value_out_of_range
  '22021': 'invalid_request', // character_not_in_repertoire
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
};

const bySystemError: readonly string[] = ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EHOSTUNREACH'];

/** What `pg` says without a code when a connection is lost or none could be had in time. */
const connectionLost = /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Query read timeout)/;

/** The problem that stands for any failure; one that nobody foresaw is `internal`. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof WallError) return new Problem(byWallError[error.code] ?? 'internal', { cause: error });
  if (hasZodFastifySchemaValidationErrors(error)) {
    const fields = error.validation.map((issue) => ({ field: `${error.validationContext ?? 'request'}${issue.instancePath}`, message: issue.message ?? '' }));
    return new Problem('invalid_request', { cause: error, fields });
  }
  if (!(error instanceof Error)) return new Problem('internal', { cause: error });
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const known = bySqlState[code];
  if (known) return new Problem(known, { cause: error });
  if (code.startsWith('08') || bySystemError.includes(code) || connectionLost.test(error.message)) return new Problem('database_unavailable', { cause: error });
  return new Problem(ofFramework(error), { cause: error });
}

/** Fastify's own refusals: a body that is too large, of another type, or not JSON. */
function ofFramework(error: Error & Partial<Pick<FastifyError, 'statusCode'>>): ProblemCode {
  const status = error.statusCode ?? 500;
  if (status === 413) return 'payload_too_large';
  if (status === 415) return 'unsupported_media_type';
  if (status === 404) return 'not_found';
  return status >= 400 && status < 500 ? 'invalid_request' : 'internal';
}
