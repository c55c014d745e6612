import type { QueuedQuery } from './queued-query.ts';

/**
 * The parts of `pg` that the walled client builds on and that `@types/pg` leaves out, as of pg 8.23 (`lib/client.js`, `lib/query.js`,
 * `lib/connection.js`). `test/pg-contract.test.ts` fails when a version moves one of them.
 */
declare module 'pg' {
  interface Connection {
    /** Named statements that the server has parsed, with their text. */
    readonly parsedStatements: Record<string, string | undefined>;
    /** Named statements sent for parsing and not yet answered. */
    readonly submittedNamedStatements: Record<string, string | undefined>;
    _send(buffer: Buffer): void;
  }

  interface Query {
    text: string | undefined;
    name: string | undefined;
    values: unknown;
    rows: number | undefined;
    binary: boolean | undefined;
    portal: string;
    queryMode: string | undefined;
    callback: ((error: Error | null, result?: unknown) => void) | undefined;
    query_timeout?: number | undefined;
    requiresPreparation(): boolean;
    handleError(error: Error, connection: Connection): void;
  }

  interface Client {
    /** The query whose answer is being read. */
    _activeQuery: QueuedQuery | null;
    /** Queries that wait for their turn. */
    readonly _queryQueue: QueuedQuery[];
    /** No query is being answered. */
    readonly readyForQuery: boolean | undefined;
    /** With these, once connected, the server finds whom to cancel. */
    readonly processID: number;
    readonly secretKey: number;
    cancel(client: Client, query: QueuedQuery): void;
    /** The open connection does not keep the process alive. */
    unref(): void;
    /** It does again. */
    ref(): void;
    _handleReadyForQuery(message: { readonly status: TransactionStatus }): void;
    _handleErrorMessage(message: DatabaseError): void;
    _handleCommandComplete(message: { readonly text: string }): void;
    _handleNotice(message: DatabaseError): void;
    _handleRowDescription(message: { readonly fields: FieldDef[] }): void;
    _handleDataRow(message: { readonly fields: (string | null)[] }): void;
  }
}
