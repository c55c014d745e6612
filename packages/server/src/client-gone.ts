import type { FastifyReply } from 'fastify';

/**
 * Aborts when the client goes before it has the whole answer. Fastify's own `request.signal` is no use here: a request is closed as soon as its
 * body has been read to the end, and that aborts it.
 */
export function clientGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort();
  });
  return gone.signal;
}
