import pg from 'pg';
import { Admissions } from './admissions.ts';
import { BootGate } from './boot-gate.ts';
import { bindCallback, bindToCaller, type Callback, isCallback } from './caller.ts';
import { AllowedStatements } from './clients/allowed-statements.ts';
import { isStale, type StatementNames } from './clients/statement-names.ts';
import { currentScope, inScope, type Scope } from './context.ts';
import { Enter } from './enter.ts';
import { StatementRefusedError, TenantContextError, TenantPlacedElsewhereError, translateError, UnknownTenantError, WallError } from './errors.ts';
import { onMisread } from './misread.ts';
import { givenText, prepareValues, queryOf, textOf } from './query.ts';
import { isQueryObject, type QueryObject, type QueuedQuery } from './queued-query.ts';
import { type CallSite, carriedCallSite } from './rollout/call-site.ts';
import type { StatementWatch, WatchedStatement } from './rollout/statement-watch.ts';
import { createSealer } from './seal/sealer.ts';
import { type SlowQueryOptions, SlowQueryWatch } from './slow-query.ts';
import { classify } from './statement.ts';
import { type Decision, type TransactionStatus, TransactionTrack } from './transaction.ts';

export interface WalledOptions extends SlowQueryOptions {
  /**
   * Whether `enter` is a prepared statement (default). False behind a pooler in transaction mode that does not keep prepared
   * statements, such as PgBouncer before 1.21; it costs a Parse per statement.
   */
  readonly preparedStatements?: boolean;
  /**
   * Keys of the seal, as `partywall seal rotate` prints them, best first: `process.env.PARTYWALL_SEAL_KEY`. Needed where the database is
   * sealed; used wherever it is given.
   */
  readonly seal?: string | undefined;
  /**
   * Statements that a library sends by itself when it connects, such as `select version()`: each, word for word, is sent outside any
   * context too, for no tenant. The recipe of a client names its own.
   */
  readonly allow?: readonly string[];
  /**
   * Of a pool: whether statements with parameters that have no name are given one, so that each connection parses and plans them once
   * (default false). What it costs: after a migration that changes the columns of a result, the statement fails once (0A000). Has no
   * effect without `preparedStatements`.
   */
  readonly nameStatements?: boolean;
}

/** What the clients of one pool have together. */
export const poolState = Symbol('partywall pool state');
export interface PoolState {
  readonly gate: Pick<BootGate, 'pass'>;
  readonly admissions: Admissions;
  /** Of a pool that names statements. */
  readonly names?: StatementNames | undefined;
  /** Of a pool that follows a roll-out: the watch of one connection. */
  readonly watch?: (() => StatementWatch | undefined) | undefined;
  /** Name of the placement that the pool leads to; undefined for the application's first database. */
  readonly placement?: string | undefined;
  /** Hears of tenants that the database does not let in because they are not, or no longer, in it. */
  readonly onRefused?: ((tenant: string, refusal: WallError, placement: string | undefined) => void) | undefined;
}

export type WalledClientConfig = pg.ClientConfig & WalledOptions & { readonly [poolState]?: PoolState };

/** The watch of a connection, where its pool follows a roll-out. */
export const rolloutWatch = Symbol('partywall rollout watch');

/** Of a pool: a query with a callback, in a scope and async context that the pool has seen to. */
export const queryInScope = Symbol('partywall query in scope');

type Release = (error?: Error | boolean) => void;

/** How long a connection that is handed back waits for a cursor or stream to be closed; one that was forgotten is never. */
const openPortalWaitMs = 1_000;

/**
 * A `pg.Client` that sends nothing without a context, and enters the tenant of the context in the same round trip as the query.
 *
 * What is decided when: the context and the caller's async context are taken when `query` is called; whether the tenant must be entered
 * is decided when the queue submits the query, because only then the state of the transaction is known (`TransactionTrack`).
 *
 * **Limits.** What a statement does is told by its text. A function of the application's that sets a session setting, takes a session
 * lock or makes a temporary table inside the database is not seen, and its leftovers stay on the connection; nor is a
 * procedure that commits, after which walled tables refuse every read (there is no context left). SQL in the application's own
 * hands can enter another tenant where the text does not show it and the database is not sealed.
 */
export class WalledClient extends pg.Client {
  readonly #gate: Pick<BootGate, 'pass'>;
  readonly [rolloutWatch]: StatementWatch | undefined;
  readonly #track = new TransactionTrack();
  readonly #enter: Enter;
  readonly #admissions: Admissions;
  readonly #watch: SlowQueryWatch | undefined;
  readonly #allowed: AllowedStatements;
  readonly #names: StatementNames | undefined;
  readonly #placement: string | undefined;
  readonly #onRefused: PoolState['onRefused'];
  /** Queries of the application until the boot gate is passed: pg would send them first, as soon as the connection is ready. */
  #held: QueuedQuery[] | undefined = [];
  #leftover: string | undefined;
  #pooled = false;
  #release: Release | undefined;
  /** The scope of the query being answered, for its notices and the job that it belongs to. */
  #scope: Scope | undefined;

  static {
    // pg declares \`query\` with overloads whose results are \`any\`; this one has the same, so it is put in place without restating them.
    Object.defineProperty(WalledClient.prototype, 'query', {
      configurable: true,
      writable: true,
      value(this: WalledClient, config: unknown, values?: unknown, callback?: unknown): unknown {
        return this.#query(config, values, callback);
      },
    });
  }

  constructor(config?: string | WalledClientConfig) {
    super(config);
    const options = typeof config === 'object' ? config : {};
    if (!(this.connection instanceof pg.Connection)) throw new TypeError('the walled client needs the JavaScript client of pg, not pg-native');
    if (options.pipeline) throw new TypeError('the walled client cannot be used with the pipeline option: it must know the transaction before it sends');
    const preparedStatements = options.preparedStatements ?? true;
    const sealer = options.seal === undefined ? undefined : createSealer(options.seal);
    this.#gate = options[poolState]?.gate ?? new BootGate(sealer);
    this.#admissions = options[poolState]?.admissions ?? new Admissions({ preparedStatements, sealer });
    this.#placement = options[poolState]?.placement;
    this[rolloutWatch] = options[poolState]?.watch?.();
    this.#onRefused = options[poolState]?.onRefused;
    this.#allowed = new AllowedStatements(options.allow);
    this.#names = options[poolState]?.names;
    this.#watch = options.onSlowQuery && new SlowQueryWatch(options.onSlowQuery, options.slowQueryMs);
    this.#enter = new Enter(this, { track: this.#track, admissions: this.#admissions });
    onMisread(this.connection, (reason) => this.retire(reason));
  }

  /** Connects and passes the boot gate; rejects with `WallNotHeldError`, and ends the connection, where the wall does not hold. */
  override connect(): Promise<WalledClient>;
  override connect(callback: (error: Error | null, client?: WalledClient) => void): void;
  override connect(callback?: (error: Error | null, client?: WalledClient) => void): Promise<WalledClient> | undefined {
    if (!callback) {
      return new Promise((resolve, reject) => {
        this.connect((error) => (error ? reject(error) : resolve(this)));
      });
    }
    super.connect((error: Error | null) => {
      if (error) {
        this.#refuseHeld(error);
        callback(error);
        return;
      }
      this.#admissions.forget();
      this.#setUp(() => this.#gate.pass(this)).then(
        () => {
          const held = this.#held ?? [];
          this.#held = undefined;
          for (const query of held) super.query(query);
          process.nextTick(callback, null, this);
        },
        (refusal: Error) => {
          this.#refuseHeld(refusal);
          this.end(() => callback(refusal));
        },
      );
    });
    return undefined;
  }

  /** Without pg's deprecation warning; the query itself while the tenant is being entered, so that `cancel` finds it. */
  get activeQuery(): QueuedQuery | null {
    const active = this._activeQuery;
    return active === this.#enter ? (this.#enter.query ?? null) : active;
  }

  /**
   * A pool sets this when it hands the connection out. Handing back waits for what is still being answered, and closes the connection
   * instead of returning it where a transaction is open or the session is not as it was. A refusal by the wall says nothing about the
   * connection, so the pool keeps it: else a suspended tenant's requests would cost its neighbours a connection each. Undefined
   * without a pool, by which libraries tell the two apart.
   */
  get release(): Release | undefined {
    if (!this.#pooled) return undefined;
    return (error) => {
      const release = this.#release;
      if (!release) throw new Error('Release called on client which has already been released to the pool.');
      this.#release = undefined;
      if (error && !(error instanceof WallError)) return release(error);
      if (this.readyForQuery && this._queryQueue.length === 0) return release(this.#unclean());
      this.#whenSettled((open) => release(open ?? this.#unclean()));
    };
  }

  set release(release: Release) {
    this.#pooled = true;
    this.#release = release;
  }

  override _handleReadyForQuery(message: { readonly status: TransactionStatus }): void {
    if (this.#enter.continues(message.status, this.connection)) return;
    this.#watch?.end();
    this[rolloutWatch]?.end();
    this.#scope?.visit?.answered(this, message.status);
    super._handleReadyForQuery(message);
  }

  override _handleRowDescription(message: { readonly fields: pg.FieldDef[] }): void {
    if (this._activeQuery !== this.#enter) this[rolloutWatch]?.described(message.fields);
    super._handleRowDescription(message);
  }

  override _handleDataRow(message: { readonly fields: (string | null)[] }): void {
    if (this._activeQuery !== this.#enter) {
      this[rolloutWatch]?.row(message.fields);
      this.#scope?.visit?.row();
    }
    super._handleDataRow(message);
  }

  override _handleCommandComplete(message: { readonly text: string }): void {
    if (this._activeQuery !== this.#enter) this.#scope?.visit?.completed(message.text);
    super._handleCommandComplete(message);
  }

  override _handleErrorMessage(message: pg.DatabaseError): void {
    const tenant = this.#scope?.kind === 'tenant' ? this.#scope.tenant : undefined;
    const situation = { tenant, entering: this._activeQuery === this.#enter, readOnly: this.#track.readOnlyTenant };
    // A query that fetches its rows in portions sends its Sync when it is done; pg forgets it after an error, and hangs.
    const active = this._activeQuery;
    if (active instanceof pg.Query && active.rows) this.connection.sync();
    if (active instanceof pg.Query && isStale(message)) this.#names?.forget(active);
    this.#watch?.fail();
    const translated = translateError(message, situation);
    this[rolloutWatch]?.fail(translated);
    const misplaced = translated instanceof TenantPlacedElsewhereError || translated instanceof UnknownTenantError;
    if (misplaced && situation.entering && this.#enter.entering && tenant !== undefined) this.#onRefused?.(tenant, translated, this.#placement);
    super._handleErrorMessage(translated);
  }

  override _handleNotice(message: pg.DatabaseError): void {
    if (this._activeQuery === this.#enter && message.code === 'PW005') {
      this.#track.tenantIsReadOnly();
    } else if (this[rolloutWatch]?.notice(message)) {
      return;
    } else if (this.#scope && this._activeQuery) {
      inScope(this.#scope, () => super._handleNotice(message));
    } else {
      super._handleNotice(message);
    }
  }

  /** The connection is not handed to anybody else. */
  retire(reason: string): void {
    this.#leftover ??= reason;
  }

  /** The pool is told that the connection is gone; whoever holds it may hand it back in vain. */
  abandon(reason: string): void {
    const release = this.#release;
    this.#release = () => undefined;
    release?.(new Error(reason));
  }

  [queryInScope](scope: Scope, { config, values, site }: { config: unknown; values: unknown; site?: CallSite | undefined }, callback: Callback): void {
    this.#queue(queryOf(config, values, callback), scope, site);
  }

  #query(config: unknown, values: unknown, callback: unknown): unknown {
    const scope = currentScope();
    const site = this[rolloutWatch] && (carriedCallSite() ?? this[rolloutWatch].callSite(givenText(config), scope));
    if (isQueryObject(config)) return this.#queryObject(config, scope, { callback: isCallback(values) ? values : callback, site });
    const query = queryOf(config, values, callback);
    if (query.callback) {
      query.callback = bindCallback(query.callback);
      this.#queue(query, scope, site);
      return undefined;
    }
    return new Promise((resolve, reject) => {
      query.callback = (error, result) => (error ? reject(error) : resolve(result));
      this.#queue(query, scope, site);
    }).catch((error: Error) => {
      // The stack of an answer leads to the socket; taken here it leads to the application's await, as in pg.
      Error.captureStackTrace(error);
      throw error;
    });
  }

  /** A Query, Cursor or stream that the application made: it answers through its own events and methods. */
  #queryObject(query: QueryObject, scope: Scope | undefined, { callback, site }: { callback: unknown; site: CallSite | undefined }): unknown {
    if (isCallback(callback) && !query.callback) query.callback = callback;
    bindToCaller(query);
    this.#queue(query, scope, site);
    return query;
  }

  #queue(query: QueuedQuery, given: Scope | undefined, site: CallSite | undefined): void {
    const scope = given ?? this.#scopeOutside(textOf(query, this.connection));
    if (!scope) {
      const refusal = new TenantContextError({ message: `sending a statement outside any context` });
      this[rolloutWatch]?.refused(refusal, textOf(query, this.connection) ?? '', site);
      process.nextTick(() => query.handleError(refusal, this.connection));
      return;
    }
    const submit = query.submit;
    query.submit = (connection) => {
      query.submit = submit;
      return this.#submit(query, connection, { scope, site });
    };
    // pg's own method does the rest: time limits, types, the queue, refusals of a closed client.
    if (this.#held && scope.kind !== 'setup') this.#held.push(query);
    else super.query(query);
  }

  #scopeOutside(text: string | undefined): Scope | undefined {
    return this.#allowed.scopeFor(text) ?? this[rolloutWatch]?.scopeOutside(text);
  }

  #refuseHeld(error: Error): void {
    for (const query of this.#held ?? []) query.handleError(error, this.connection);
    this.#held = [];
  }

  /** The queue has come to the query. Returns an error where nothing is to be sent, which pg hands to the query. */
  #submit(query: QueuedQuery, connection: pg.Connection, { scope, site }: { scope: Scope; site: CallSite | undefined }): unknown {
    const text = textOf(query, connection);
    if (text === undefined) {
      return query instanceof pg.Query
        ? query.submit(connection)
        : new StatementRefusedError({ message: 'sending a query object whose text cannot be seen', hint: 'give it a `text`' });
    }
    if (this.#placement !== undefined && scope.kind === 'system') {
      return new StatementRefusedError({
        message: `sending a statement of no tenant to placement ${JSON.stringify(this.#placement)}`,
        hint: 'a connection that was taken inside the context of a placed tenant serves tenants alone',
      });
    }
    const ended = scope.visit?.refusal();
    if (ended) return ended;
    const statement = classify(text);
    const watched = { query, text, scope, site, statement, status: this.getTransactionStatus() };
    const decision = this.#decide(watched);
    if (decision instanceof Error) {
      this[rolloutWatch]?.refused(decision, text, site);
      return decision;
    }
    if (query instanceof pg.Query) this.#names?.name(query, statement);
    const invalid = query instanceof pg.Query ? prepareValues(query) : undefined;
    if (invalid) return invalid;
    this.#scope = scope;
    if (query instanceof pg.Query) this.#watch?.begin(text, scope);
    if (statement.leftover !== null && scope.kind !== 'setup') this.#leftover = statement.leftover;
    this[rolloutWatch]?.begin(watched);
    scope.visit?.began(this);
    if (decision === 'plain') return scope.visit ? scope.visit.submit(this, query) : query.submit(connection);
    this.#enter.submitBefore(query, connection, { ...whom(scope), statement });
    return null;
  }

  /** A roll-out that observes has the last word: it lets through, and counts, what the wall does not send. */
  #decide(watched: WatchedStatement): Decision {
    const decision = this.#track.decide(watched.status, watched.statement, watched.scope);
    const last = this[rolloutWatch]?.decide(decision, watched);
    if (last?.passed) this.#track.left();
    return last?.decision ?? decision;
  }

  /** Calls back when everything sent is answered, or with an error when a cursor or stream stays open. */
  #whenSettled(callback: (error?: Error) => void): void {
    const done = (error?: Error): void => {
      clearTimeout(timer);
      this.off('drain', settled);
      this.off('end', settled);
      this.off('error', ignored);
      callback(error);
    };
    const settled = (): void => done();
    // A connection lost while waiting also ends, which the pool hears of; without a listener the event would end the process.
    const ignored = (): void => undefined;
    const timer = setTimeout(() => {
      if (!(this.activeQuery instanceof pg.Query)) done(new Error('the connection was released with an open cursor or stream'));
    }, openPortalWaitMs);
    this.on('drain', settled);
    this.on('end', settled);
    this.on('error', ignored);
  }

  #setUp<Result>(fn: () => Result): Result {
    return inScope({ kind: 'setup' }, fn);
  }

  /** Why the connection cannot be handed to somebody else. */
  #unclean(): Error | undefined {
    this.#track.reset();
    this.#scope = undefined;
    if (this.getTransactionStatus() !== 'I') return new Error('the connection was released inside a transaction');
    // Observed, a connection is handed on as pg does it.
    return this.#leftover === undefined || this[rolloutWatch]?.observing
      ? undefined
      : new Error(`the connection was released with a changed session: ${this.#leftover}`);
  }
}

/** What a roll-out lets through in no context is sent for no tenant. */
function whom(scope: Scope): { readonly tenant: string; readonly unit: string | undefined } {
  return scope.kind === 'tenant' ? { tenant: scope.tenant, unit: scope.unit } : { tenant: '', unit: undefined };
}
