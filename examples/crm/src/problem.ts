/**
 * What a client is told when something fails: problem details (RFC 9457). The sentence of each code is constant, so that
 * neither a value nor a constraint's name nor a stack trace leaves the server; what went wrong is in its log.
 */
const problems = {
  invalid_request: { status: 400, title: 'Bad request', detail: 'the request does not have the documented form' },
  invalid_cursor: { status: 400, title: 'Bad request', detail: 'the cursor is not one that a list returned' },
  unknown_reference: { status: 400, title: 'Bad request', detail: 'parentId, ownerId or countryCode names nothing that exists' },
  unauthorized: { status: 401, title: 'Unauthorized', detail: 'a valid bearer token is required' },
  role_forbidden: { status: 403, title: 'Forbidden', detail: 'a viewer may not change anything' },
  tenant_suspended: { status: 403, title: 'Forbidden', detail: 'this account is suspended' },
  tenant_cancelled: { status: 403, title: 'Forbidden', detail: 'this account is cancelled' },
  tenant_read_only: { status: 403, title: 'Forbidden', detail: 'this account is read-only for now' },
  not_found: { status: 404, title: 'Not found', detail: 'there is nothing here' },
  conflict: { status: 409, title: 'Conflict', detail: 'another customer has this reference' },
  payload_too_large: { status: 413, title: 'Payload too large', detail: 'the body is larger than a customer can be' },
  unsupported_media_type: { status: 415, title: 'Unsupported media type', detail: 'send application/json' },
  tenant_placed_elsewhere: { status: 421, title: 'Misdirected request', detail: 'this account lives on another server' },
  internal: { status: 500, title: 'Internal server error', detail: 'the server failed; its log has the request id' },
  wall_not_held: { status: 503, title: 'Service unavailable', detail: 'the server is not set up to keep accounts apart and serves none' },
  database_unavailable: { status: 503, title: 'Service unavailable', detail: 'the database does not answer' },
  try_again: { status: 503, title: 'Service unavailable', detail: 'the database is busy; try again' },
} as const satisfies Record<string, { status: number; title: string; detail: string }>;

export type ProblemCode = keyof typeof problems;

export interface FieldError {
  /** Path of the field in the request, for example `body/name`. */
  readonly field: string;
  readonly message: string;
}

/** Thrown by a handler to answer with one of the table's problems. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly fields: readonly FieldError[];

  constructor(code: ProblemCode, options: { readonly cause?: unknown; readonly fields?: readonly FieldError[] } = {}) {
    super(problems[code].detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.fields = options.fields ?? [];
  }

  get status(): number {
    return problems[this.code].status;
  }

  /** The body to send. */
  body(requestId: string): Record<string, unknown> {
    const { title, status, detail } = problems[this.code];
    const errors = this.fields.length > 0 ? { errors: this.fields } : {};
    return { type: `urn:partywall:example:crm:problem:${this.code}`, title, status, detail, code: this.code, requestId, ...errors };
  }
}
