import type { IncomingMessage, ServerResponse } from 'node:http';
import { run, type TenantContext } from '../context.ts';
import { createGuard, type GuardOptions } from './guard.ts';
import { keepContextIn } from './keep-context.ts';
import { type Answer, tenantCacheControl } from './problem.ts';
import { headerOf, pathOf, type RequestFacts } from './request.ts';
import { requestIdHeader } from './request-id.ts';

/** The parts of Fastify that are used. */
interface Request {
  readonly raw: IncomingMessage;
}
interface Reply {
  readonly raw: ServerResponse;
  readonly sent: boolean;
  code(status: number): unknown;
  header(name: string, value: string): unknown;
  serializer(serialize: (body: string) => string): unknown;
  send(body: string): unknown;
}
type ErrorHandler = (this: never, error: never, request: never, reply: never) => unknown;
interface Instance {
  addHook(name: 'onRequest', hook: (request: Request, reply: Reply, done: (error?: Error) => void) => void): unknown;
  addHook(name: 'onRoute', hook: (route: { errorHandler?: ErrorHandler }) => void): unknown;
}

/**
 * A Fastify 5 plugin, to be awaited before routes are added. Its hook comes before body parsers and before hooks that are added later; errors of the wall are
 * answered, all others go to the error handler of the route and its scope.
 *
 * @example
 * await app.register(fastifyTenants({ verify: jwtBearer({ ... }), public: ['/health'] }));
 * app.get('/invoices', async () => (await pool.query('select * from invoices')).rows);
 */
export function fastifyTenants(options: GuardOptions): (instance: Instance, given: unknown, done: () => void) => void {
  const guard = createGuard(options);
  const contexts = new WeakMap<IncomingMessage, TenantContext>();

  const plugin = (instance: Instance, _given: unknown, done: () => void): void => {
    instance.addHook('onRequest', ({ raw }, reply, go) => {
      const admit = async (): Promise<void> => {
        const admission = await guard.admit(factsOf(raw));
        if (admission.kind === 'refused') return send(reply, admission.answer);
        reply.header(requestIdHeader, admission.requestId);
        if (admission.kind === 'public') return go();
        reply.header('cache-control', tenantCacheControl);
        contexts.set(raw, admission.context);
        await run(admission.context, () => {
          keepContextIn(raw);
          keepContextIn(reply.raw);
          go();
        });
      };
      admit().catch(go);
    });
    instance.addHook('onRoute', (route) => {
      const { errorHandler } = route;
      route.errorHandler = async function (this: unknown, error: unknown, request: Request, reply: Reply) {
        const answer = await guard.answerTo(error, factsOf(request.raw), contexts.get(request.raw));
        // What a route's own handler throws goes to that of its scope.
        if (!answer && errorHandler) return Reflect.apply(errorHandler, this, [error, request, reply]);
        if (!answer) throw error;
        send(reply, answer);
        return reply;
      };
    });
    done();
  };
  // What the plugin adds holds for the instance that it is registered in, as with fastify-plugin.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true, [Symbol.for('fastify.display-name')]: 'partywall-tenants' });
}

function factsOf(request: IncomingMessage): RequestFacts {
  return {
    method: request.method ?? 'GET',
    path: pathOf(request.url ?? '/'),
    address: request.socket.remoteAddress,
    header: (name) => headerOf(request.headers, name),
  };
}

function send(reply: Reply, { status, headers, body }: Answer): void {
  if (reply.sent) return;
  reply.code(status);
  for (const [name, value] of Object.entries(headers)) reply.header(name, value);
  reply.serializer((text) => text);
  reply.send(body);
}
