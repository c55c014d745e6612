import pg from 'pg';
import type { Scope } from '../context.ts';
import { CrossTenantError, StatementRefusedError, WallError } from '../errors.ts';
import type { QueuedQuery } from '../queued-query.ts';
import type { Statement } from '../statement.ts';
import type { Decision, TransactionStatus } from '../transaction.ts';
import type { CallSite } from './call-site.ts';
import type { RolloutMode } from './mode.ts';
import type { Rerun } from './rerun.ts';
import type { Rollout } from './rollout.ts';
import { isTenant } from './tables.ts';

/** SQLSTATE of the notices by which the database tells what the wall would refuse. */
const observedState = 'PW020';

/** What is known of a statement when it is sent. */
export interface WatchedStatement {
  readonly query: QueuedQuery;
  readonly text: string;
  readonly scope: Scope;
  readonly site: CallSite | undefined;
  readonly statement: Statement;
  readonly status: TransactionStatus;
}

/**
 * Watches the statements of one connection, which are answered one at a time. *Observing*: the connection is of a role that no policy
 * binds, and all is counted that the wall would refuse. Otherwise the wall holds, and what is watched is how long statements take, which errors they
 * end with, and the rows of tables that are open.
 */
export class StatementWatch {
  readonly #rollout: Rollout;
  readonly #rerun: Rerun | undefined;
  readonly observing: boolean;
  readonly #mode: RolloutMode;
  /** The re-runs' own statements are nobody's. */
  paused = false;
  #current: WatchedStatement | undefined;
  #begun = 0;
  #failed = false;
  /** Positions in the row that hold a tenant, for the rows that are being answered. */
  #columns: { readonly at: number; readonly table: string }[] = [];
  #foreign: Map<string, number> | undefined;
  /** Tenant that the connection was handed out for. */
  #takenFor: string | undefined;

  /** @param rerun given for connections that observe */
  constructor(rollout: Rollout, rerun: Rerun | undefined) {
    this.#rollout = rollout;
    this.#rerun = rerun;
    this.observing = rerun !== undefined;
    this.#mode = this.observing ? 'observe' : 'enforce';
  }

  /** The pool hands the connection out. The mode that it was picked for holds until it is handed back. */
  takenFor(scope: Scope | undefined): void {
    this.#takenFor = scope?.kind === 'tenant' ? scope.tenant : undefined;
  }

  /** Scope of a statement outside any context, where it is let through. */
  scopeOutside(text: string | undefined): Scope | undefined {
    return this.observing || this.#rollout.letsThrough(text) ? { kind: 'none' } : undefined;
  }

  callSite(text: string | undefined, scope: Scope | undefined): CallSite | undefined {
    return this.#rollout.callSite(text, scope);
  }

  /**
   * What is done with a statement. An enforced tenant is never served by a connection that no policy binds: one that was taken for somebody else, or
   * outside any context, refuses it. Beyond that an observing connection refuses nothing that the wall decides: it counts the
   * refusal and sends the statement. What the database has refused (a suspended tenant) stays refused.
   */
  decide(decision: Decision, watched: WatchedStatement): { readonly decision: Decision; readonly passed: boolean } {
    const { scope, statement, status } = watched;
    if (!this.observing || scope.kind === 'setup') return { decision, passed: false };
    if (scope.kind === 'tenant' && scope.tenant !== this.#takenFor && this.#rollout.mode(scope) === 'enforce') {
      const refusal = new StatementRefusedError({
        message: 'sending a statement of an enforced tenant on a connection that was taken for an observed one, or outside any context',
        hint: 'take the connection inside the tenant’s context',
      });
      return { decision: refusal, passed: false };
    }
    const isData = (statement.kind === 'data' || statement.kind === 'copy') && status !== 'E';
    if (decision instanceof CrossTenantError || decision instanceof StatementRefusedError) {
      this.#count(decision instanceof CrossTenantError ? 'cross_context' : 'statement', watched);
      return { decision: isData && statement.refusal === null ? 'enter' : 'plain', passed: true };
    }
    // Entering marks the transaction as observed, in no tenant too, so that its writes are told.
    return { decision: decision === 'plain' && isData && scope.kind !== 'tenant' ? 'enter' : decision, passed: false };
  }

  /** A statement is refused in the process. */
  refused(error: Error, text: string, site: CallSite | undefined): void {
    if (!this.paused && error instanceof WallError) this.#rollout.tally.add({ mode: this.#mode, kind: error.code, text, site });
  }

  begin(watched: WatchedStatement): void {
    this.#columns = [];
    this.#foreign = undefined;
    this.#failed = false;
    this.#current = this.paused || watched.scope.kind === 'setup' ? undefined : watched;
    if (!this.#current) return;
    if (watched.scope.kind === 'none') this.#count('no_context', watched);
    this.#begun = performance.now();
  }

  described(fields: readonly pg.FieldDef[]): void {
    this.#columns = [];
    // Outside any context the statement has been counted as a whole.
    if (!this.#current || this.#current.scope.kind === 'none') return;
    for (const [at, { tableID, columnID, format }] of fields.entries()) {
      const column = this.#rollout.columns.get(tableID);
      if (column?.column === columnID && format === 'text' && (this.observing || column.isOpen)) this.#columns.push({ at, table: column.table });
    }
  }

  row(values: readonly (string | null)[]): void {
    for (const { at, table } of this.#columns) {
      const value = values[at];
      const scope = this.#current?.scope;
      if (value === null || value === undefined || !scope) continue;
      if (scope.kind === 'tenant' && isTenant(value, scope.tenant, this.#rollout.keyType)) continue;
      this.#foreign ??= new Map();
      this.#foreign.set(table, (this.#foreign.get(table) ?? 0) + 1);
      return;
    }
  }

  /** Whether the notice was the database's word to this watch, and none of the application's. */
  notice(message: { readonly code?: string | undefined; readonly detail?: string | undefined }): boolean {
    if (message.code !== observedState) return false;
    const { kind, table } = detailOf(message.detail);
    if (this.#current && kind !== undefined) this.#count(kind, this.#current, table);
    return true;
  }

  fail(error: Error): void {
    this.#failed = true;
    if (this.#current && error instanceof WallError) this.#count(error.code, this.#current);
    this.end();
  }

  /** The server is ready for the next statement, or has refused this one. */
  end(): void {
    const current = this.#current;
    if (!current) return;
    this.#current = undefined;
    const { query, scope, statement, status, text } = current;
    // Cursors and streams take as long as their reader does.
    const milliseconds = performance.now() - this.#begun;
    if (query instanceof pg.Query) this.#rollout.tally.answered(this.#mode, milliseconds, this.#failed);
    for (const [table, rows] of this.#foreign ?? []) {
      this.#count(scope.kind === 'tenant' ? 'foreign_row' : 'row_without_context', current, table, rows);
    }
    if (this.#rerun && !this.#failed && scope.kind === 'tenant' && status === 'I' && query instanceof pg.Query) {
      this.#rerun.offer({ text, values: Array.isArray(query.values) ? query.values : [], scope, statement, site: current.site });
    }
  }

  #count(kind: string, { text, site }: WatchedStatement, relation?: string, count = 1): void {
    if (this.paused) return;
    this.#rollout.suspect(text);
    this.#rollout.tally.add({ mode: this.#mode, kind, text, site, count, ...(relation !== undefined && { relation }) });
  }
}

/** JSON that the database's own functions have made; anybody may raise the state, so it may be anything. */
function detailOf(detail: string | undefined): { kind?: string; table?: string } {
  try {
    const said: unknown = JSON.parse(detail ?? '');
    if (typeof said !== 'object' || said === null) return {};
    const { kind, table } = said as { kind?: unknown; table?: unknown }; // looked at in the next line
    return {
      ...(typeof kind === 'string' && /^[a-z_]{1,40}$/.test(kind) && { kind }),
      ...(typeof table === 'string' && { table: table.slice(0, tableCharsMax) }),
    };
  } catch {
    return {};
  }
}

const tableCharsMax = 200;
