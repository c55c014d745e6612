import type pg from 'pg';

/**
 * Every error that the wall raises on purpose at run time. One row per code; `docs/errors.md` has a section per code.
 * `sqlstate` is what the database raises for it (null: raised in the process, before anything is sent), `status` what an
 * HTTP server answers when the error reaches it unhandled: 500 where the application's code is wrong, not the request.
 */
export const wallErrors = {
  tenant_context: {
    sqlstate: 'PW001',
    status: 500,
    message: 'a statement was sent, or a walled table read, outside any tenant context',
    hint: 'wrap the work in run({ tenant }, ...), or in system(purpose, ...) when it belongs to no tenant',
  },
  unknown_tenant: {
    sqlstate: 'PW002',
    status: 404,
    message: 'the tenant is not registered in this database, or its id has the wrong type',
    hint: 'tenants register when their row is inserted into the tenant root table',
  },
  tenant_suspended: { sqlstate: 'PW003', status: 403, message: 'the tenant is suspended or fenced', hint: 'an operator reactivates it' },
  tenant_cancelled: { sqlstate: 'PW004', status: 403, message: 'the tenant is cancelled', hint: 'an operator reactivates it while its data is retained' },
  tenant_read_only: { sqlstate: 'PW005', status: 403, message: 'the tenant is read-only and the statement writes', hint: 'an operator lifts it' },
  tenant_placed_elsewhere: {
    sqlstate: 'PW006',
    status: 421,
    message: 'the tenant is placed in another database',
    hint: 'pass `placements` to the pool, or send the request to the deployment that holds the tenant',
  },
  cross_tenant: {
    sqlstate: 'PW007',
    status: 403,
    message: 'one tenant’s transaction was used in another context, or a row was written for another tenant',
    hint: 'a transaction belongs to the context it was begun in; a written row to the tenant of the context',
  },
  quota_exceeded: {
    sqlstate: 'PW008',
    status: 403,
    message: 'what was written, or asked for, exceeds a quota of the tenant',
    hint: 'remove what is not needed, or ask for a larger plan',
  },
  seal_refused: {
    sqlstate: 'PW009',
    status: 500,
    message: 'the database did not take the seal with which the tenant was to be entered, or asks for one',
    hint: 'give the pool a key that the database has, `seal: process.env.PARTYWALL_SEAL_KEY`, and compare the clocks; `partywall seal status` lists the keys',
  },
  wall_not_held: {
    sqlstate: null,
    status: 503,
    message: 'the wall does not hold for the role that the pool connects as',
    hint: 'connect as the app role of the model, and run `partywall verify`',
  },
  statement_refused: {
    sqlstate: null,
    status: 500,
    message: 'the statement cannot run safely on a pooled connection, or in a tenant’s context',
    hint: 'the message says why, and what to use instead',
  },
  unauthenticated: {
    sqlstate: null,
    status: 401,
    message: 'the request carries no credential that holds',
    hint: 'send a bearer token, or sign in',
  },
  tenant_foreign: {
    sqlstate: null,
    status: 403,
    message: 'the request names a tenant that you do not belong to',
    hint: 'name a tenant of the credential, or none',
  },
  tenant_required: {
    sqlstate: null,
    status: 400,
    message: 'the request has to name its tenant',
    hint: 'send the header X-Tenant-ID',
  },
  tenant_unselected: {
    sqlstate: null,
    status: 409,
    message: 'no organization is selected',
    hint: 'select one, or name it in the header X-Tenant-ID',
  },
  unit_foreign: {
    sqlstate: null,
    status: 403,
    message: 'the business unit does not belong to your tenant',
    hint: 'name a unit of the tenant, or none',
  },
  source_blocked: {
    sqlstate: null,
    status: 429,
    message: 'too many attempts on other tenants came from this address',
    hint: 'wait as long as Retry-After says; an operator lifts it with `partywall attempts unblock`',
  },
  signature_refused: {
    sqlstate: null,
    status: 401,
    message: 'the message carries no signature that holds, or one of another time',
    hint: 'sign id, timestamp and the body as it is sent, with a current secret and a clock that is right',
  },
  message_too_large: {
    sqlstate: null,
    status: 413,
    message: 'the body of the message is larger than this endpoint takes',
    hint: 'send less, or raise `bodyBytesMax`',
  },
  message_in_progress: {
    sqlstate: null,
    status: 409,
    message: 'the message is being worked on',
    hint: 'send it again later, as Retry-After says: it is taken again where that work fails',
  },
  job_running: {
    sqlstate: null,
    status: 409,
    message: 'the job is running already, in this process or another one',
    hint: 'let it end; `partywall jobs show` tells how far it is',
  },
  job_interrupted: {
    sqlstate: null,
    status: 500,
    message: 'the run of the job was broken off',
    hint: 'call it again with the same run key: it goes on with the tenants that were not done',
  },
} as const satisfies Record<string, { sqlstate: string | null; status: number; message: string; hint: string }>;

export type WallErrorCode = keyof typeof wallErrors;

export interface WallErrorOptions {
  /** What was being done and the value received, lower case; the table's message when left out. */
  readonly message?: string;
  readonly cause?: unknown;
  readonly hint?: string;
}

/** Base of all errors below: `code` is the key in `wallErrors`, `cause` the database's own error where there is one. */
export class WallError extends Error {
  readonly code: WallErrorCode;
  readonly hint: string;
  /** As the database reported it, which for `cross_tenant`, `unknown_tenant` and `tenant_read_only` may be a state of PostgreSQL's own. */
  readonly sqlstate: string | null;
  /** HTTP status for an answer to a request that failed with this error. */
  readonly status: number;

  constructor(code: WallErrorCode, options: WallErrorOptions = {}) {
    super(options.message ?? wallErrors[code].message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? wallErrors[code].hint;
    this.sqlstate = sqlstateOf(options.cause) ?? wallErrors[code].sqlstate;
    this.status = wallErrors[code].status;
  }
}

export class TenantContextError extends WallError {
  override readonly name = 'TenantContextError';
  constructor(options?: WallErrorOptions) {
    super('tenant_context', options);
  }
}

export class UnknownTenantError extends WallError {
  override readonly name = 'UnknownTenantError';
  constructor(options?: WallErrorOptions) {
    super('unknown_tenant', options);
  }
}

export class TenantSuspendedError extends WallError {
  override readonly name = 'TenantSuspendedError';
  constructor(options?: WallErrorOptions) {
    super('tenant_suspended', options);
  }
}

export class TenantCancelledError extends WallError {
  override readonly name = 'TenantCancelledError';
  constructor(options?: WallErrorOptions) {
    super('tenant_cancelled', options);
  }
}

export class TenantReadOnlyError extends WallError {
  override readonly name = 'TenantReadOnlyError';
  constructor(options?: WallErrorOptions) {
    super('tenant_read_only', options);
  }
}

export class TenantPlacedElsewhereError extends WallError {
  override readonly name = 'TenantPlacedElsewhereError';
  /** Name of the placement, where the database told it. */
  readonly placement: string | null;
  constructor(options: WallErrorOptions = {}) {
    super('tenant_placed_elsewhere', options);
    const { cause } = options;
    this.placement = cause instanceof Error && 'detail' in cause && typeof cause.detail === 'string' ? cause.detail : null;
  }
}

export class CrossTenantError extends WallError {
  override readonly name = 'CrossTenantError';
  constructor(options?: WallErrorOptions) {
    super('cross_tenant', options);
  }
}

/** The numbers of a refusal. `usage` is without what was `requested`. */
export interface QuotaNumbers {
  readonly quota: string;
  readonly limit: number;
  readonly usage: number;
  readonly requested: number;
  /** When the usage starts again from nothing, where it does. */
  readonly reset: Date | null;
}

/** The commit of a transaction, or a request, would have taken the tenant past its quota. The transaction is rolled back. */
export class QuotaExceededError extends WallError implements QuotaNumbers {
  override readonly name = 'QuotaExceededError';
  readonly quota: string;
  readonly limit: number;
  readonly usage: number;
  readonly requested: number;
  readonly reset: Date | null;

  /** The numbers, where they are not given, are those of the database's error in `cause`. */
  constructor(options: WallErrorOptions & Partial<QuotaNumbers> = {}) {
    super('quota_exceeded', options);
    const told = { ...detailOf(options.cause), ...options };
    this.quota = String(told.quota ?? '');
    this.limit = Number(told.limit ?? 0);
    this.usage = Number(told.usage ?? 0);
    this.requested = Number(told.requested ?? 0);
    this.reset = options.reset ?? null;
  }
}

export class SealRefusedError extends WallError {
  override readonly name = 'SealRefusedError';
  constructor(options?: WallErrorOptions) {
    super('seal_refused', options);
  }
}

export class WallNotHeldError extends WallError {
  override readonly name = 'WallNotHeldError';
  constructor(options?: WallErrorOptions) {
    super('wall_not_held', options);
  }
}

export class StatementRefusedError extends WallError {
  override readonly name = 'StatementRefusedError';
  constructor(options?: WallErrorOptions) {
    super('statement_refused', options);
  }
}

/** A request was refused before its handler ran. The message is made for whoever sent it: no internals, nothing of another tenant. */
export class RequestRefusedError extends WallError {
  override readonly name = 'RequestRefusedError';
}

/** A job over all tenants could not run, or not to its end. */
export class JobError extends WallError {
  override readonly name = 'JobError';
}

const bySqlstate: Readonly<Record<string, new (options?: WallErrorOptions) => WallError>> = {
  [wallErrors.tenant_context.sqlstate]: TenantContextError,
  [wallErrors.unknown_tenant.sqlstate]: UnknownTenantError,
  [wallErrors.tenant_suspended.sqlstate]: TenantSuspendedError,
  [wallErrors.tenant_cancelled.sqlstate]: TenantCancelledError,
  [wallErrors.tenant_read_only.sqlstate]: TenantReadOnlyError,
  [wallErrors.tenant_placed_elsewhere.sqlstate]: TenantPlacedElsewhereError,
  [wallErrors.cross_tenant.sqlstate]: CrossTenantError,
  [wallErrors.quota_exceeded.sqlstate]: QuotaExceededError,
  [wallErrors.seal_refused.sqlstate]: SealRefusedError,
};

/** The error of a code of the table, or of a SQLSTATE that the wall raises; undefined for anything else. */
export function wallErrorFrom(code: string, options: WallErrorOptions): WallError | undefined {
  const sqlstate = isCode(code) ? wallErrors[code].sqlstate : code;
  const known = sqlstate !== null && Object.hasOwn(bySqlstate, sqlstate) ? bySqlstate[sqlstate] : undefined;
  if (known) return new known(options);
  return isCode(code) ? new WallError(code, options) : undefined;
}

function isCode(code: string): code is WallErrorCode {
  return Object.hasOwn(wallErrors, code);
}

export interface ErrorSituation {
  /** The tenant of the statement's context, when it has one. */
  readonly tenant: string | undefined;
  /** The error answers `partywall.enter_since`, not the application's statement. */
  readonly entering: boolean;
  /** `enter` told that the tenant is read-only. */
  readonly readOnly: boolean;
}

/**
 * The wall's own error for one of the database, or the error itself. Besides the states of class PW these are the wall's doing:
 * - 42501 while entering, of a function: the database was sealed after the pool had passed the gate without a key;
 * - 22P02 and 22003 while entering: the tenant id is not of the key's type, so no such tenant can exist;
 * - 25006 in a read-only tenant: `enter` made the transaction read-only;
 * - 42501 raised by the check of a written row: the row is another tenant's. The routine tells it from a missing privilege, which
 *   has the same state; the message is no guide, because it is translated. A composite foreign key that finds no parent in the
 *   same tenant stays PostgreSQL's 23503: for the application it is a missing parent.
 */
export function translateError(error: pg.DatabaseError, { tenant, entering, readOnly }: ErrorSituation): WallError | pg.DatabaseError {
  const { code = '' } = error;
  const whose = tenant === undefined ? '' : `tenant ${JSON.stringify(tenant)}: `;
  const known = bySqlstate[code];
  if (known) return new known({ message: `${whose}${error.message}`, cause: error, ...(error.hint && { hint: error.hint }) });
  if (entering && (code === '26000' || code === '42P05')) error.hint ??= 'behind a pooler in transaction mode, pass preparedStatements: false to the pool';
  if (entering && (code === '22P02' || code === '22003')) return new UnknownTenantError({ message: `${whose}${error.message}`, cause: error });
  if (entering && code === '42501' && error.routine === 'aclcheck_error') {
    return new SealRefusedError({ message: `${whose}${error.message}`, cause: error });
  }
  if (readOnly && code === '25006') return new TenantReadOnlyError({ message: `${whose}${error.message}, because the tenant is read-only`, cause: error });
  if (code === '42501' && error.routine === 'ExecWithCheckOptions') return new CrossTenantError({ message: `${whose}${error.message}`, cause: error });
  return error;
}

function sqlstateOf(cause: unknown): string | undefined {
  return cause instanceof Error && 'severity' in cause && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}

/** What the database says of a refused quota: JSON in the error's detail. Anybody may raise the state, so the detail may be anything. */
function detailOf(cause: unknown): { readonly [Name in keyof QuotaNumbers]?: unknown } {
  if (!(cause instanceof Error) || !('detail' in cause) || typeof cause.detail !== 'string') return {};
  try {
    const detail: unknown = JSON.parse(cause.detail);
    return typeof detail === 'object' && detail !== null ? detail : {};
  } catch {
    return {};
  }
}
