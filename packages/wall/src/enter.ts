import pg from 'pg';
import { type Admission, type Admissions, enterName, enterText } from './admissions.ts';
import { inOneWrite } from './one-write.ts';
import type { QueuedQuery } from './queued-query.ts';
import type { Statement } from './statement.ts';
import type { TransactionStatus, TransactionTrack } from './transaction.ts';

/** What entering needs of the client it belongs to. */
export interface EnteringClient {
  _activeQuery: QueuedQuery | null;
  readonly _queryQueue: QueuedQuery[];
  getTransactionStatus(): TransactionStatus;
}

/**
 * Enters a tenant in front of a query. It takes the query's place as the one whose answer the client reads, and gives it back
 * when the database has admitted the tenant, so from then on everything is between pg and the query, as without a wall.
 *
 * *Together*, for pg's own queries: the messages of entering and of the query go out in one write under the query's one Sync; one round
 * trip, one implicit transaction. *Apart*, for what brings its own protocol (cursors, COPY streams) or the simple one (several
 * statements in a string): entering ends with Flush, which answers without ending the implicit transaction, and the query is submitted when
 * the answer is there; one more round trip, still one transaction.
 *
 * One object per connection, used again for every query: pg answers one at a time.
 */
export class Enter {
  readonly #client: EnteringClient;
  readonly #track: TransactionTrack;
  readonly #admissions: Admissions;
  /** Read by pg to note on this connection that the statement is parsed, as it does for any named query. */
  readonly name: string | undefined;
  readonly text = enterText;
  #query: QueuedQuery | undefined;
  #apart = false;
  #admission: Admission | undefined;
  /** The query could not be submitted after entering had been written. */
  #failure: Error | undefined;

  constructor(client: EnteringClient, options: { track: TransactionTrack; admissions: Admissions; preparedStatements: boolean }) {
    this.#client = client;
    this.#track = options.track;
    this.#admissions = options.admissions;
    this.name = options.preparedStatements ? enterName : undefined;
  }

  /** The query that entering stands in front of. */
  get query(): QueuedQuery | undefined {
    return this.#query;
  }

  /** Writes the messages; the client is to treat the query as submitted. */
  submitBefore(query: QueuedQuery, connection: pg.Connection, { tenant, statement }: { tenant: string; statement: Statement }): void {
    const admission = this.#admissions.of(tenant);
    this.#query = query;
    this.#admission = admission;
    this.#failure = undefined;
    this.#apart = !(query instanceof pg.Query) || ((statement.many || statement.kind === 'copy') && !query.requiresPreparation());
    this.#client._activeQuery = this;
    inOneWrite(connection.stream, () => {
      if (this.name !== undefined && connection.parsedStatements[this.name] === undefined) {
        connection.parse({ name: this.name, text: this.text, types: [] }, true);
      }
      connection._send(admission.messages);
      if (this.#apart) {
        connection.flush();
      } else {
        if (query instanceof pg.Query && !query.requiresPreparation()) {
          // It would go by the simple protocol, which cannot share a Sync. The results are the same, and always text.
          query.queryMode = 'extended';
          query.binary = false;
        }
        this.#submit(connection);
      }
    });
  }

  submit(): void {
    throw new Error('entering is never queued by itself');
  }

  handleRowDescription(): void {
    // Entering is not described: its one row has one column.
  }

  handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
    if (this.#admission) this.#admissions.answered(this.#admission, fields[0] ?? null);
  }

  handleCommandComplete(_message: unknown, connection: pg.Connection): void {
    this.#track.entered();
    if (this.#apart) this.#submit(connection);
    if (!this.#failure && this.#query) this.#client._activeQuery = this.#query;
  }

  /** The tenant was not admitted, or the connection was lost. */
  handleError(error: Error, connection: pg.Connection): void {
    const query = this.#query;
    if (!query) return;
    if (isAnswer(error)) {
      // Somebody has dropped the statement, or a pooler has changed the server: the next entering parses it again.
      if (this.name !== undefined && error instanceof pg.DatabaseError && error.code === '26000') delete connection.parsedStatements[this.name];
      if (query instanceof pg.Query && query.name !== undefined && connection.parsedStatements[query.name] === undefined) {
        // The server skipped the query's own Parse: without this, pg would take the statement for parsed, and 26000 would follow.
        delete connection.submittedNamedStatements[query.name];
      }
      // A query that fetches its rows in portions leaves its Sync for later, and one that has not been submitted has sent none.
      if (this.#apart || (query instanceof pg.Query && query.rows)) connection.sync();
      if (this.#client.getTransactionStatus() === 'T') this.#rollBack(error);
    }
    query.handleError(this.#failure ?? error, connection);
  }

  /** Only where the query could not be submitted: otherwise it is the active one by now. */
  handleReadyForQuery(connection: pg.Connection): void {
    if (this.#failure) this.#query?.handleError(this.#failure, connection);
  }

  /** An error, returned or thrown, means that the query has sent nothing: what entering has written needs a Sync of its own. */
  #submit(connection: pg.Connection): void {
    try {
      const outcome = this.#query?.submit(connection);
      if (outcome instanceof Error) this.#failure = outcome;
    } catch (thrown) {
      this.#failure = thrown instanceof Error ? thrown : new Error(String(thrown));
    }
    if (this.#failure) connection.sync();
  }

  /** Before anything that the application has queued: its transaction is over, and holds no locks while it finds out. */
  #rollBack(refusal: Error): void {
    this.#track.refused(refusal);
    this.#client._queryQueue.unshift(new pg.Query('rollback', () => undefined));
  }
}

/** An error that the server sent, after which the connection goes on; a lost connection has no SQLSTATE. */
function isAnswer(error: Error): boolean {
  return error instanceof pg.DatabaseError || error.cause instanceof pg.DatabaseError;
}
