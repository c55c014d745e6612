import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyServerOptions, HTTPMethods } from 'fastify';
import { problem, problemOf } from './problem.ts';

/** How much one network address may ask of one process, whoever it is. */
export interface LimitOptions {
  /** Requests of one address in a minute. Behind a proxy, `trustProxy` of Fastify makes the address that of the client. */
  readonly requestsPerMinute?: number;
  /** The same for routes where a password or a code can be guessed. */
  readonly attemptsPerMinute?: number;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** True: a password or a code can be guessed here, so an address gets few attempts. */
    guessable?: boolean;
  }
}

const requestsPerMinuteDefault = 3_000;
const attemptsPerMinuteDefault = 20;
const windowMs = 60_000;
/** Addresses that a process remembers; the one that asked longest ago is forgotten first. */
const addressesMax = 20_000;

export const bodyBytesMax = 1_048_576;
/** Time to receive a request: a whole import. Other routes end what trickles in with their `handlerTimeout`, imports with one for a stall. */
const receiveTimeoutMs = 43_200_000;
/** Time a handler has. Statements of the control plane end after 30 s by themselves. */
const handlerTimeoutMs = 60_000;
const parameterCharactersMax = 500;

/** Settings of a Fastify server that the plugin counts on and cannot change once there is one. */
export const boundedServer = {
  bodyLimit: bodyBytesMax,
  requestTimeout: receiveTimeoutMs,
  handlerTimeout: handlerTimeoutMs,
  routerOptions: { maxParamLength: parameterCharactersMax },
  // A URL that cannot be decoded reaches no hook.
  frameworkErrors: (error, request, reply) => {
    const answer = problemOf(error);
    reply.hijack();
    reply.raw.writeHead(answer.status, { 'content-type': 'application/problem+json', 'x-content-type-options': 'nosniff', 'x-request-id': request.id });
    reply.raw.end(JSON.stringify(answer.body(request.id)));
  },
} satisfies FastifyServerOptions;

/** What every request meets first: security headers, a limit for its address, and a narrow door for bodies. */
export async function registerLimits(app: FastifyInstance, { requestsPerMinute, attemptsPerMinute }: LimitOptions = {}): Promise<void> {
  await app.register(helmet, {
    // Answers are data. Pages that the server or its application serves say for themselves what they may load.
    contentSecurityPolicy: { useDefaults: false, directives: { 'default-src': ["'none'"], 'frame-ancestors': ["'none'"] } },
    referrerPolicy: { policy: 'no-referrer' },
  });
  await app.register(rateLimit, { global: false, cache: addressesMax });
  const general = app.createRateLimit({ max: requestsPerMinute ?? requestsPerMinuteDefault, timeWindow: windowMs });
  const attempts = app.createRateLimit({ max: attemptsPerMinute ?? attemptsPerMinuteDefault, timeWindow: windowMs });
  app.addHook('onRequest', async (request, reply) => {
    // Before anybody is known, because finding out who asks is what costs; after the headers, which refusals need too.
    const taken = [await general(request), ...(request.routeOptions.config.guessable ? [await attempts(request)] : [])];
    for (const one of taken) {
      if (one.isAllowed || !one.isExceeded) continue;
      reply.header('retry-after', String(one.ttlInSeconds));
      throw problem('too_many_requests');
    }
    // Answers differ by who asks: no cache keeps them.
    reply.header('cache-control', 'no-store');
  });
  narrowBodies(app);
  answerUnknownRoutes(app);
}

/** JSON is what routes take, and text is not: a form of another site can send text without asking. */
function narrowBodies(app: FastifyInstance): void {
  app.removeContentTypeParser('text/plain');
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    // Clients send the content type with an empty body too. Whether it may be missing is what the route's schema says.
    if (body === '') done(null, undefined);
    else parse(request, String(body), done);
  });
}

/** 405 where the path is known with another method, 404 elsewhere. */
function answerUnknownRoutes(app: FastifyInstance): void {
  const known: { readonly segments: readonly string[]; readonly methods: readonly HTTPMethods[] }[] = [];
  app.addHook('onRoute', ({ url, method }) => {
    known.push({ segments: url.split('/'), methods: [method].flat() });
  });
  app.setNotFoundHandler((request, reply) => {
    const path = (request.url.split('?', 1)[0] ?? '').split('/');
    const allowed = known.filter(({ segments }) => leadsTo(segments, path)).flatMap(({ methods }) => methods);
    if (allowed.length === 0) throw problem('not_found');
    reply.header('allow', [...new Set(allowed)].join(', '));
    throw problem('method_not_allowed');
  });
}

function leadsTo(segments: readonly string[], path: readonly string[]): boolean {
  const open = segments.indexOf('*');
  const fixed = open === -1 ? segments : segments.slice(0, open);
  if (open === -1 ? path.length !== segments.length : path.length < segments.length) return false;
  return fixed.every((segment, place) => (segment.startsWith(':') ? path[place] !== '' : segment === path[place]));
}
