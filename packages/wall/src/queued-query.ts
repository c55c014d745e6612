import type { Connection } from 'pg';

/** A query as the client's queue holds it. Only these are there in every class; pg calls others when their message comes. */
export interface QueuedQuery {
  /** An Error as the outcome means that nothing was sent. */
  submit(connection: Connection): unknown;
  handleError(error: Error, connection: Connection): void;
}

/** A query object of the application's: a Query, a Cursor, a stream, or anything else that pg takes. */
export interface QueryObject extends QueuedQuery {
  callback?: unknown;
  readonly text?: unknown;
  /** pg-query-stream keeps its text here. */
  readonly cursor?: { readonly text?: unknown };
}

export function isQueryObject(value: unknown): value is QueryObject {
  return typeof value === 'object' && value !== null && 'submit' in value && typeof value.submit === 'function';
}
