import pg from 'pg';
import type { Admission, Admissions } from './admissions.ts';
import { inOneWrite } from './one-write.ts';
import type { QueuedQuery } from './queued-query.ts';
import type { Statement } from './statement.ts';
import type { TransactionStatus, TransactionTrack } from './transaction.ts';

/** Whom to enter, and the statement that is sent behind. */
export interface Entered {
  readonly tenant: string;
  readonly unit: string | undefined;
  readonly statement: Statement;
}

/** What entering needs of the client it belongs to. */
export interface EnteringClient {
  _activeQuery: QueuedQuery | null;
  readonly _queryQueue: QueuedQuery[];
  /** Of the application's transaction: the wall's own begins and ends without being seen here. */
  getTransactionStatus(): TransactionStatus;
}

/**
 * Enters a tenant in front of a query. It takes the query's place as the one whose answer the client reads, and gives it back
 * when the database has admitted the tenant, so from then on everything is between pg and the query, as without a wall.
 *
 * *Together*, for pg's own queries: the messages of entering and of the query go out in one write under the query's one Sync; one round
 * trip, one implicit transaction.
 *
 * *Wrapped*, for what brings its own protocol (cursors, streams) or the simple one (COPY, several statements in a string): BEGIN and
 * entering go under one Sync, then the query, then COMMIT, or ROLLBACK after an error; the query hears of its end when COMMIT is
 * answered. Two more round trips. Inside a transaction of the application's there is neither BEGIN nor COMMIT. (Entering with Flush and
 * then a simple query in the same implicit transaction saves one of them, and leaves a PostgreSQL 18 server in an "unexpected state STARTED".)
 *
 * One object per connection, used again for every query: pg answers one at a time. States: *idle*; *beginning*, *entering*, *entered* (wrapped
 * only: its Sync is on its way), *refused* (so too); *running*, the query inside the wall's own transaction; *committing*, *rolling back*.
 */
export class Enter {
  readonly #client: EnteringClient;
  readonly #track: TransactionTrack;
  readonly #admissions: Admissions;
  #state: 'idle' | 'beginning' | 'entering' | 'entered' | 'refused' | 'running' | 'committing' | 'rolling back' = 'idle';
  #query: QueuedQuery | undefined;
  #wrapped = false;
  #ownTransaction = false;
  #admission: Admission | undefined;
  /** The query could not be submitted together with entering, which had been written. */
  #failure: Error | undefined;

  constructor(client: EnteringClient, options: { track: TransactionTrack; admissions: Admissions }) {
    this.#client = client;
    this.#track = options.track;
    this.#admissions = options.admissions;
  }

  /** Read by pg to note on this connection that the statement is parsed, as it does for any named query. BEGIN has no name. */
  get name(): string | undefined {
    return this.#state === 'beginning' ? undefined : this.#statementName;
  }

  get text(): string | undefined {
    return this.#admission?.statement.text;
  }

  get #statementName(): string | undefined {
    return this.#admission?.statement.name || undefined;
  }

  /** The tenant is being entered: an error now means that the query has not run. */
  get entering(): boolean {
    return this.#state === 'beginning' || this.#state === 'entering';
  }

  /** The query that entering stands in front of. */
  get query(): QueuedQuery | undefined {
    return this.#query;
  }

  /** Writes the messages; the client is to treat the query as submitted. */
  submitBefore(query: QueuedQuery, connection: pg.Connection, { tenant, unit, statement }: Entered): void {
    const admission = this.#admissions.of(tenant, unit);
    this.#query = query;
    this.#admission = admission;
    this.#failure = undefined;
    this.#wrapped = !(query instanceof pg.Query) || ((statement.many || statement.kind === 'copy') && !query.requiresPreparation());
    this.#ownTransaction = this.#wrapped && this.#client.getTransactionStatus() === 'I';
    this.#state = this.#ownTransaction ? 'beginning' : 'entering';
    this.#client._activeQuery = this;
    inOneWrite(connection.stream, () => {
      if (this.#ownTransaction) {
        connection.parse({ name: '', text: 'begin', types: [] }, true);
        connection.bind({}, true);
        connection.execute({}, true);
      }
      const { name, text } = admission.statement;
      if (name !== '' && connection.parsedStatements[name] === undefined) {
        connection.parse({ name, text, types: [] }, true);
      }
      connection._send(admission.messages);
      if (this.#wrapped) connection.sync();
      else this.#submitTogether(query, connection);
    });
  }

  submit(): void {
    throw new Error('entering is never queued by itself');
  }

  handleRowDescription(): void {
    // Entering is not described: its one row has one column.
  }

  handleEmptyQuery(): void {
    // Sent for its answer alone, in place of a query that sent nothing.
  }

  handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
    if (this.#admission) this.#admissions.answered(this.#admission, fields[0] ?? null);
  }

  handleCommandComplete(): void {
    if (this.#state === 'beginning') {
      this.#state = 'entering';
    } else if (this.#state === 'entering') {
      this.#track.entered();
      this.#state = this.#wrapped ? 'entered' : 'idle';
      if (!this.#wrapped && !this.#failure && this.#query) this.#client._activeQuery = this.#query;
    }
  }

  /** The tenant was not admitted, COMMIT failed, or the connection was lost. */
  handleError(error: Error, connection: pg.Connection): void {
    const query = this.#query;
    const told = this.#state === 'rolling back';
    if (!query || told) return;
    if (isAnswer(error) && this.#state !== 'committing') this.#refused(query, error, connection);
    query.handleError(this.#failure ?? error, connection);
  }

  /** Only where the query could not be submitted together: otherwise it is the active one by now. */
  handleReadyForQuery(connection: pg.Connection): void {
    if (this.#failure) this.#query?.handleError(this.#failure, connection);
  }

  /**
   * Takes the next step of a wrapped query when the server is ready for one. False where there is none, and the client goes on
   * with its queue.
   */
  continues(status: TransactionStatus, connection: pg.Connection): boolean {
    switch (this.#state) {
      case 'entered':
        this.#state = this.#ownTransaction ? 'running' : 'idle';
        this.#submitWrapped(connection);
        return true;
      case 'refused':
      case 'running':
        if (status === 'I') break;
        this.#state = status === 'T' ? 'committing' : 'rolling back';
        this.#client._activeQuery = this;
        connection.query(status === 'T' ? 'commit' : 'rollback');
        return true;
      case 'committing':
        // The query, unless COMMIT has failed and it was told so.
        if (this.#client._activeQuery === this) this.#client._activeQuery = this.#query ?? null;
        break;
      case 'rolling back':
        this.#client._activeQuery = null;
        break;
    }
    this.#state = 'idle';
    return false;
  }

  #refused(query: QueuedQuery, error: Error, connection: pg.Connection): void {
    // Somebody has dropped the statement, or a pooler has changed the server: the next entering parses it again.
    const name = this.#statementName;
    if (name !== undefined && error instanceof pg.DatabaseError && error.code === '26000') delete connection.parsedStatements[name];
    if (!this.#wrapped && query instanceof pg.Query) {
      // The server skipped the query's own Parse: without this, pg would take the statement for parsed, and 26000 would follow.
      if (query.name !== undefined && connection.parsedStatements[query.name] === undefined) delete connection.submittedNamedStatements[query.name];
      // A query that fetches its rows in portions leaves its Sync for later.
      if (query.rows) connection.sync();
    }
    this.#state = this.#ownTransaction ? 'refused' : 'idle';
    if (this.#client.getTransactionStatus() !== 'T') return;
    // Before anything that the application has queued: its transaction is over, and holds no locks while it finds out.
    this.#track.refused(error);
    this.#client._queryQueue.unshift(new pg.Query('rollback', () => undefined));
  }

  /** An error, returned or thrown, means that the query has sent nothing: what entering has written needs a Sync of its own. */
  #submitTogether(query: QueuedQuery, connection: pg.Connection): void {
    if (query instanceof pg.Query && !query.requiresPreparation()) {
      // It would go by the simple protocol, which cannot share a Sync. The results are the same, and always text.
      query.queryMode = 'extended';
      query.binary = false;
    }
    this.#failure = outcomeOf(query, connection);
    if (this.#failure) connection.sync();
  }

  #submitWrapped(connection: pg.Connection): void {
    const query = this.#query ?? null;
    this.#client._activeQuery = query;
    const failure = query && outcomeOf(query, connection);
    if (!failure) return;
    // It has sent nothing, so nothing would be answered: the transaction, and the client's turn, are ended from here.
    this.#state = 'rolling back';
    this.#client._activeQuery = this;
    connection.query(this.#ownTransaction ? 'rollback' : '');
    query.handleError(failure, connection);
  }
}

/** pg's queries return an error where nothing was sent; others may throw one. */
function outcomeOf(query: QueuedQuery, connection: pg.Connection): Error | undefined {
  try {
    const outcome = query.submit(connection);
    return outcome instanceof Error ? outcome : undefined;
  } catch (thrown) {
    return thrown instanceof Error ? thrown : new Error(String(thrown));
  }
}

/** An error that the server sent, after which the connection goes on; a lost connection has no SQLSTATE. */
function isAnswer(error: Error): boolean {
  return error instanceof pg.DatabaseError || error.cause instanceof pg.DatabaseError;
}
