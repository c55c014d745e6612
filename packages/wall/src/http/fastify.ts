import type { IncomingMessage, ServerResponse } from 'node:http';
import { run, type TenantContext } from '../context.ts';
import { createGuard, type GuardOptions } from './guard.ts';
import { keepContextIn } from './keep-context.ts';
import type { Answer } from './problem.ts';
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
interface Instance {
  addHook(name: 'onRequest', hook: (request: Request, reply: Reply, done: (error?: Error) => void) => void): unknown;
  setErrorHandler(handler: (error: Error, request: Request, reply: Reply) => Promise<unknown>): unknown;
  readonly errorHandler: (error: Error, request: never, reply: never) => unknown;
}

/**
 * A Fastify 5 plugin. Its hook comes before body parsers and before hooks that are added later; errors of the wall are answered, all others go to the error
 * handler that was set before it was registered.
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
        contexts.set(raw, admission.context);
        await run(admission.context, () => {
          keepContextIn(raw);
          keepContextIn(reply.raw);
          go();
        });
      };
      admit().catch(go);
    });
    const { errorHandler } = instance;
    instance.setErrorHandler(async (error, request, reply) => {
      const answer = await guard.answerTo(error, factsOf(request.raw), contexts.get(request.raw));
      // Its type is that of the instance, which is the framework's to know.
      if (!answer) return Reflect.apply(errorHandler, instance, [error, request, reply]);
      send(reply, answer);
      return reply;
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
