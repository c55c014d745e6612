import { randomUUID } from 'node:crypto';
import { run, system } from '@partywall/wall';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify';
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod';
import type pg from 'pg';
import { registerCustomers } from './customers.ts';
import { problemOf } from './failures.ts';
import { Problem } from './problem.ts';
import { type Identity, signingKey, verifyToken } from './tokens.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the token check of the routes that need a token. */
    identity: Identity | null;
  }
}

export interface AppOptions {
  /** A walled pool. With a plain one every tenant sees every row, as before the wall. */
  readonly pool: pg.Pool;
  /** Signs and checks tokens; at least 32 bytes. */
  readonly secret: string;
  readonly logger?: FastifyServerOptions['logger'];
}

const bodyBytesMax = 64 * 1024;
const requestTimeoutMs = 30_000;
const healthTimeoutMs = 2_000;

/** The CRM's HTTP interface. The caller listens, closes it, and ends the pool. */
export function createApp({ pool, secret, logger }: AppOptions): FastifyInstance {
  const key = signingKey(secret);
  const app = fastify({
    logger: logger ?? false,
    bodyLimit: bodyBytesMax,
    requestTimeout: requestTimeoutMs,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    genReqId: () => randomUUID(),
    frameworkErrors: (error, request, reply) => fail(error, request, reply),
  });
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(fail);
  app.setNotFoundHandler((request, reply) => fail(new Problem('not_found'), request, reply));
  app.decorateRequest('identity', null);
  app.addHook('onSend', async (request, reply) => {
    reply.headers({ 'x-request-id': request.id, 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' });
  });

  // An idle connection that the server ends is reported here; without a listener it would end the process.
  const lostConnection = (error: Error) => app.log.warn({ reason: error.message }, 'an idle database connection was lost');
  pool.on('error', lostConnection);
  app.addHook('onClose', async () => {
    pool.off('error', lostConnection);
  });

  app.get('/api/health', async () => {
    await reachable(pool);
    return { status: 'ok', database: 'ok' };
  });
  app.register(
    async (walled) => {
      requireToken(walled, key);
      registerCustomers(walled, pool);
    },
    { prefix: '/api' },
  );
  return app;
}

/**
 * Every route added to `scope` after this call needs a token and runs in its tenant's context. The handler is wrapped and not
 * the hooks' `done`: `run` then sees the handler's promise, so a lazy one starts inside, and what follows the reply has no tenant.
 */
function requireToken(scope: FastifyInstance, key: Uint8Array): void {
  scope.addHook('onRequest', async (request) => {
    const [, token] = /^Bearer ([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
    if (token === undefined) throw new Problem('unauthorized');
    request.identity = await verifyToken(token, key).catch((cause: unknown) => {
      throw new Problem('unauthorized', { cause });
    });
    if (request.identity.role === 'viewer' && request.method !== 'GET') throw new Problem('role_forbidden');
  });
  scope.addHook('onRoute', (route) => {
    const { handler } = route;
    route.handler = function (request, reply) {
      if (request.identity === null) throw new Problem('unauthorized');
      const { tenant, user } = request.identity;
      return run({ tenant, user, requestId: request.id }, () => handler.call(this, request, reply));
    };
  });
}

async function reachable(pool: pg.Pool): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Problem('database_unavailable')), healthTimeoutMs);
  try {
    await Promise.race([late.promise, system('health check', () => pool.query('select 1'))]);
  } catch (cause) {
    throw new Problem('database_unavailable', { cause });
  } finally {
    clearTimeout(timer);
  }
}

function fail(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const problem = problemOf(error);
  if (problem.status >= 500) request.log.error({ failure: summary(problem.cause ?? problem) }, 'the request failed');
  if (problem.code === 'unauthorized') reply.header('www-authenticate', 'Bearer');
  if (problem.code === 'try_again') reply.header('retry-after', '1');
  reply.code(problem.status).type('application/problem+json').serializer(JSON.stringify).send(problem.body(request.id));
}

/** Chosen fields and not the error itself: a database error carries rows in `detail`, a connection error its options. */
function summary(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  return { name: error.name, message: error.message, code: 'code' in error ? error.code : undefined, stack: error.stack };
}
