import { AsyncLocalStorage } from 'node:async_hooks';

/**
 * Answers arrive on the socket, and what runs because of them runs in the async context of whoever opened the connection: without
 * these, a callback or a row event of one tenant's query sees another tenant's context. Promises need no such care; what awaits
 * one goes on in its own context.
 */
const answerHandlers = [
  'handleRowDescription',
  'handleDataRow',
  'handlePortalSuspended',
  'handleCommandComplete',
  'handleEmptyQuery',
  'handleReadyForQuery',
  'handleError',
  'handleCopyInResponse',
  'handleCopyData',
  'callback',
  // A stream's own events too: COPY reads the socket past the client.
  'emit',
];

/** Makes a query object of the application's (Query, Cursor, QueryStream, COPY stream) run everything in the context of this call. */
export function bindToCaller(query: object): void {
  const inContext = AsyncLocalStorage.snapshot();
  for (const name of answerHandlers) {
    const handler: unknown = Reflect.get(query, name);
    if (typeof handler !== 'function') continue;
    Reflect.set(query, name, (...values: unknown[]) => inContext(() => Reflect.apply(handler, query, values)));
  }
}

export type Callback = (error: Error | null, result?: unknown) => void;

/** What its arguments are is between the application and pg. */
export function isCallback(value: unknown): value is Callback {
  return typeof value === 'function';
}

export function bindCallback<Bound extends (...values: never[]) => unknown>(callback: Bound): Bound {
  return AsyncLocalStorage.bind(callback);
}
