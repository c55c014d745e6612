import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { type FastifyInstance, type FastifyServerOptions, LogController } from 'fastify';

/** What clients may call their requests: it is written to logs and into the audit log as it came. */
const requestIdPattern = /^[A-Za-z0-9._-]{1,128}$/;

/** The id that the client gave in `X-Request-Id`, where it is well-formed; else a new one. */
export function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && requestIdPattern.test(given) ? given : randomUUID();
}

/**
 * Fields that hold secrets wherever somebody logs a request, its body or an options object. The server's own lines hold none of them: they
 * are made of the route's pattern, ids and figures, never of a URL, a header or a body.
 */
const secretFields = [
  'authorization',
  'cookie',
  'set-cookie',
  'x-api-key',
  'password',
  'adminPassword',
  'newPassword',
  'currentPassword',
  'token',
  'secret',
  'key',
];

/** Settings of Fastify's logger: JSON lines for a collector, secrets replaced, request lines written by the plugin alone. */
export function structuredLogs(level: string, stream?: { write(line: string): void }): FastifyServerOptions {
  const paths = secretFields.flatMap((field) => [`["${field}"]`, `*["${field}"]`, `*.*["${field}"]`]);
  return {
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    logger: {
      level,
      redact: { paths, censor: '[secret]' },
      // The default one logs the URL, whose query may hold a token.
      serializers: { req: ({ id, method }: { id: string; method: string }) => ({ id, method }) },
      ...(stream && { stream }),
    },
  };
}

/** One line for each request, and its id in the answer. */
export function registerLogging(app: FastifyInstance): void {
  app.setGenReqId(requestIdOf);
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  app.addHook('onResponse', async (request, reply) => {
    const { principal, tenant, routeOptions } = request;
    request.log.info(
      {
        method: request.method,
        route: routeOptions.url ?? null,
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime * 10) / 10,
        tenant,
        principal: principal && `${principal.kind}:${principal.id}`,
        address: request.ip,
      },
      'request',
    );
  });
}
