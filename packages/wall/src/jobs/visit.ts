import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { StatementRefusedError } from '../errors.ts';
import type { QueuedQuery } from '../queued-query.ts';
import type { TransactionStatus } from '../transaction.ts';

/** What a visit needs of a connection that it used. */
export interface VisitedClient {
  readonly host: string;
  readonly port: number;
  /** With these the server finds whom to cancel. */
  readonly processID: number;
  readonly secretKey: number;
  readonly connection: pg.Connection;
  getTransactionStatus(): TransactionStatus;
  on(event: 'end' | 'error', listener: () => void): unknown;
  off(event: 'end', listener: () => void): unknown;
  /** Closes the connection when it is handed back. */
  retire(reason: string): void;
  /** Takes the connection from whoever holds it, and its pool. */
  abandon(reason: string): void;
}

/** How long a cancelled statement has to end before its connection is ended. */
const cancelMsMax = 5_000;
/** A request that comes before the server has begun the statement is lost, so it is made again. */
const cancelAgainMs = 100;
const cancelRequestCode = 80_877_102;

/**
 * A tenant's turn in a job, seen from the walled clients: counts the rows of its statements, and knows which connections it is using, so that all of
 * it can be stopped. *Open*, then *closed*: a closed visit sends nothing any more, whatever of it still runs.
 *
 * Rows are those of the protocol: returned ones are read, those of INSERT, UPDATE, DELETE, MERGE and COPY FROM written, also where the
 * transaction is rolled back later. What a CTE or a function writes inside the database shows in no answer.
 */
export class Visit {
  rowsRead = 0;
  rowsWritten = 0;
  #rows = 0;
  #closed = false;
  readonly #busy = new Map<VisitedClient, { state: 'running' | 'in transaction'; readonly onEnd: () => void }>();
  #change = Promise.withResolvers<void>();

  /** Why a statement is not sent any more. */
  refusal(): StatementRefusedError | undefined {
    if (!this.#closed) return undefined;
    return new StatementRefusedError({
      message: 'sending a statement of a job’s visit that has ended',
      hint: 'await everything inside the function of the job',
    });
  }

  /** A statement is sent. */
  began(client: VisitedClient): void {
    const known = this.#busy.get(client);
    if (known) {
      known.state = 'running';
      return;
    }
    const onEnd = (): void => this.#left(client);
    client.on('end', onEnd);
    this.#busy.set(client, { state: 'running', onEnd });
  }

  /** Submits a statement that needs no entering. An error, which pg hands to the query, means that nothing was sent. */
  submit(client: VisitedClient, query: QueuedQuery): unknown {
    const failure = query.submit(client.connection);
    if (failure instanceof Error) this.answered(client, client.getTransactionStatus());
    return failure;
  }

  row(): void {
    this.#rows += 1;
  }

  /** A statement has ended, with the tag that the server gives it: `INSERT 0 3`. */
  completed(tag: string): void {
    const [, verb, count] = /^([A-Z]+)\b.*?(\d+)?$/.exec(tag) ?? [];
    const wrote = verb === 'INSERT' || verb === 'UPDATE' || verb === 'DELETE' || verb === 'MERGE' || verb === 'COPY';
    if (wrote) this.rowsWritten += Number(count ?? 0);
    else this.rowsRead += this.#rows;
    this.#rows = 0;
  }

  /** Everything sent on the connection is answered. In a transaction it stays the visit's. */
  answered(client: VisitedClient, status: TransactionStatus): void {
    this.rowsRead += this.#rows;
    this.#rows = 0;
    const known = this.#busy.get(client);
    if (known && status !== 'I') known.state = 'in transaction';
    else this.#left(client);
    this.#changed();
  }

  /** Resolves when no statement is being answered and no transaction is open. */
  async idle(): Promise<void> {
    while (this.#busy.size > 0) await this.#change.promise;
  }

  close(): void {
    this.#closed = true;
  }

  /**
   * Ends what the visit has running: statements are cancelled, then their connections closed, so that no neighbour gets one of them. Resolves
   * to whether the server has said of each that it ended.
   */
  async stop(): Promise<boolean> {
    this.#closed = true;
    const ended = await Promise.all([...this.#busy.keys()].map((client) => this.#end(client)));
    return ended.every(Boolean);
  }

  async #end(client: VisitedClient): Promise<boolean> {
    const isRunning = (): boolean => this.#busy.get(client)?.state === 'running';
    client.retire('its visit was stopped');
    // Whoever holds the connection may not listen, and the event would end the process.
    client.on('error', () => undefined);
    const until = performance.now() + cancelMsMax;
    while (isRunning() && performance.now() < until) {
      await requestCancel(client);
      if (isRunning()) await Promise.race([this.#change.promise, delay(cancelAgainMs)]);
    }
    const ended = !isRunning();
    client.connection.stream.destroy();
    client.abandon('its visit was stopped');
    return ended;
  }

  #left(client: VisitedClient): void {
    const known = this.#busy.get(client);
    if (known) client.off('end', known.onEnd);
    this.#busy.delete(client);
    this.#changed();
  }

  #changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}

/**
 * Asks the server to cancel what the connection runs, on a connection of its own, as the protocol has it; resolves when the server has taken the request, or
 * cannot be reached. Not pg's own, which never sends it where TLS is used.
 */
function requestCancel({ host, port, processID, secretKey }: VisitedClient): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const request = Buffer.alloc(16);
  for (const [at, word] of [request.length, cancelRequestCode, processID, secretKey].entries()) request.writeInt32BE(word, at * 4);
  const socket = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
  socket.setTimeout(cancelMsMax, () => socket.destroy());
  // Answered or not, what was cancelled tells by its own end.
  socket.on('error', () => undefined);
  socket.on('close', () => resolve());
  socket.end(request);
  return promise;
}
