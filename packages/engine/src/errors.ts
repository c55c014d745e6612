/**
 * Every error the engine and the command raise on purpose. One row per code; `docs/errors.md` has a
 * section per code and a test compares the two. Codes of the wall itself (raised by the database and by
 * the walled pool) are in `@partywall/wall`.
 *
 * `exit` is the status the command ends with: 1 the answer is "no", 2 the question could not be asked. `status` is that of an HTTP
 * answer, for errors that a request can cause; their messages and details are made for clients too.
 */
export const engineErrors = {
  config_missing: { exit: 2, hint: 'run `partywall init` to write one, or pass --config' },
  config_malformed: { exit: 2, hint: 'the config must `export default defineTenancy({ ... })`' },
  root_undecided: { exit: 2, hint: 'name the tenant root: `partywall init --root <schema.table>`' },
  model_invalid: { exit: 2, hint: 'correct the named line of partywall.config.ts, then run `partywall check`' },
  model_drift: { exit: 1, hint: 'run `partywall check` for the list, then `partywall init --update`' },
  model_unclassified: { exit: 1, hint: 'give each listed table a scope in partywall.config.ts' },
  database_unreachable: { exit: 2, hint: 'check DATABASE_URL and that the server is running' },
  database_refused: { exit: 2, hint: 'check the user, the password and the database name' },
  server_unsupported: { exit: 2, hint: 'Partywall supports PostgreSQL 15 to 18' },
  permission_missing: { exit: 2, hint: 'connect as a superuser or as the role that the message names' },
  wrong_database: { exit: 2, hint: 'point DATABASE_URL at the database that partywall.config.ts describes' },
  lock_not_acquired: { exit: 2, hint: 'a long transaction holds the table; end it or run again, finished steps are kept' },
  rows_without_tenant: { exit: 1, hint: 'repair the listed rows, or run again with --quarantine' },
  rows_cross_tenants: { exit: 1, hint: 'repair the listed rows, or run again with --quarantine' },
  phase_refused: { exit: 1, hint: 'run `partywall diff` to see what is missing' },
  switch_incomplete: { exit: 1, hint: 'move the listed connections to the app role and a walled pool' },
  wall_blocked: { exit: 1, hint: 'the message names the table and what to change' },
  embedded_unavailable: { exit: 2, hint: 'set DATABASE_URL to a PostgreSQL server of your own' },
  serve_refused: { exit: 2, hint: 'correct what is listed; `partywall serve --help` names the options' },
  port_busy: { exit: 2, hint: 'set PORT to a free port' },
  config_exists: { exit: 2, hint: 'pass --update to merge what changed into it, or --force to write it anew' },
  confirmation_required: { exit: 2, hint: 'read the plan above, then pass --yes' },
  tenant_unknown: { exit: 2, status: 404, hint: 'list the tenants: `partywall tenants list`' },
  tenant_exists: { exit: 1, status: 409, hint: 'choose another name, or use the tenant that is there' },
  transition_refused: { exit: 1, status: 409, hint: 'the message says which state the tenant is in and what is possible from there' },
  plan_in_use: { exit: 1, status: 409, hint: 'put its tenants on another plan first' },
  plan_unknown: { exit: 2, status: 400, hint: 'list the plans: `partywall plans list`' },
  input_invalid: { exit: 2, status: 400, hint: 'the message names the field' },
  alert_unknown: { exit: 2, status: 404, hint: 'list the alerts: `partywall alerts list`' },
  alert_rule_unknown: { exit: 2, status: 404, hint: 'list the rules: `partywall alerts rules`' },
  alert_channel_unknown: { exit: 2, status: 404, hint: 'list the channels: `partywall alerts channels`' },
  secret_unreadable: { exit: 2, hint: 'use the keyring folder that sealed it, or set the secret anew' },
  fence_incomplete: {
    exit: 1,
    status: 503,
    hint: 'end the session that stays inside the tenant, or grant pg_signal_backend to the owner of schema partywall_control; then ask again',
  },
  erasure_refused: { exit: 1, status: 409, hint: 'the message names the table and what refers to it' },
  certificate_unknown: { exit: 2, status: 404, hint: 'a certificate is issued when an erasure has ended' },
  operation_unknown: { exit: 2, status: 404, hint: 'operations are listed by `GET /api/admin/operations`' },
  export_invalid: { exit: 2, status: 400, hint: 'export the tenant again; an export is restored as it was written' },
  export_mismatch: { exit: 1, status: 409, hint: 'bring the database and partywall.config.ts to what they were when the tenant was exported' },
  export_too_large: { exit: 1, hint: 'a row this long cannot be exported as JSON; make it smaller or leave the tenant to a backup' },
  import_conflict: { exit: 1, status: 409, hint: 'the message names the rows; change them here, or restore an export that agrees with them' },
  transfers_busy: { exit: 1, status: 503, hint: 'wait until an export or a restore has ended, and ask again' },
  keyring_refused: { exit: 2, hint: 'the message names the folder or file and what to change' },
  store_unavailable: { exit: 2, status: 503, hint: 'check that the store can be reached, then run again: what was stored is kept' },
  store_refused: { exit: 2, hint: 'check the credentials and the permissions of the store' },
  store_full: { exit: 2, hint: 'free space in the store or in the work folder, then run again' },
  store_conflict: { exit: 1, status: 409, hint: 'somebody else wrote the same object; run again' },
  store_locked: { exit: 1, hint: 'the object is locked until the date that the message names' },
  store_object_missing: { exit: 2, hint: 'run `partywall backup verify` to see what else is missing' },
  archive_damaged: { exit: 1, hint: 'restore from another backup; `partywall backup verify --read-data` lists all that is damaged' },
  archive_foreign: { exit: 2, hint: 'use the version of Partywall that wrote it, or a newer one' },
  backup_unknown: { exit: 2, status: 404, hint: 'list the backups: `partywall backup list`' },
  backup_refused: { exit: 1, status: 409, hint: 'the message names what could not be backed up and what to change' },
  restore_refused: { exit: 1, status: 409, hint: 'the message says what stands in the way' },
  restore_conflict: { exit: 1, status: 409, hint: 'the list names the rows; change them here, or restore another backup' },
  key_missing: { exit: 1, status: 409, hint: 'the keyring or its escrow copy that made the backup is needed; the key of an erased tenant is gone for good' },
  escrow_unverified: { exit: 2, hint: 'run `partywall keys list` to see what differs, and set PARTYWALL_ESCROW to where the copy is' },
  placement_unknown: { exit: 2, status: 404, hint: 'set PARTYWALL_PLACEMENT_<NAME> to the connection string of that database' },
  move_refused: { exit: 1, status: 409, hint: 'the message says what stands in the way' },
  seal_unchanged: { exit: 1, status: 409, hint: 'the message says what stands in the way' },
  control_missing: { exit: 2, hint: 'run `partywall migrate`' },
  control_foreign: { exit: 2, hint: 'use the version of Partywall that installed it, or a newer one' },
  usage: { exit: 2, hint: 'see --help' },
  internal: { exit: 2, hint: 'run again with --debug for the stack, and report it' },
} as const satisfies Record<string, { exit: 1 | 2; status?: number; hint: string }>;

export type EngineErrorCode = keyof typeof engineErrors;

export interface PartywallErrorOptions {
  readonly cause?: unknown;
  readonly hint?: string;
  readonly details?: readonly string[];
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** An expected failure. `message` says in lower case what was being done and the value received. */
export class PartywallError extends Error {
  override readonly name = 'PartywallError';
  readonly code: EngineErrorCode;
  readonly hint: string;
  /** What the message is about, one line each (rows, tables, connections); never secrets. */
  readonly details: readonly string[];
  /** The same as values, for programs: the quota, limit and usage of a refusal. */
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(code: EngineErrorCode, message: string, options: PartywallErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? engineErrors[code].hint;
    this.details = options.details ?? [];
    this.extra = options.extra ?? {};
  }

  get exit(): 1 | 2 {
    return engineErrors[this.code].exit;
  }
}
