import { currentScope, inScope } from '../context.ts';

/** What Node's requests and responses have in common. */
interface Emitter {
  emit(event: string | symbol, ...values: unknown[]): boolean;
}

/**
 * Events of a request and its response come from the socket, in the async context of whoever opened the connection, which with keep-alive was another
 * request's or nobody's: a body parser that goes on when the body has ended, or a stream that goes on after `drain`, would lose the tenant. This makes them
 * run in the scope of this call. Other contexts of the application (tracing, loggers) stay as they are.
 */
export function keepContextIn(emitter: Emitter): void {
  const scope = currentScope();
  if (!scope) return;
  const { emit } = emitter;
  emitter.emit = (event, ...values) => inScope(scope, () => Reflect.apply(emit, emitter, [event, ...values]));
}

/**
 * A body that is read in the scope of this call: servers read it after the handler has returned, and a generator between two chunks runs in the
 * context of whoever asks for the next one.
 */
export function keepContextOf(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const scope = currentScope();
  if (!scope) return body;
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      pull: (controller) =>
        inScope(scope, async () => {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        }),
      cancel: (reason) => inScope(scope, () => reader.cancel(reason)),
    },
    { highWaterMark: 0 },
  );
}
