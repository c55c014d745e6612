import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Answer } from '../http/problem.ts';
import { headerOf } from '../http/request.ts';
import { responseOf } from '../http/web.ts';
import type { WebhookHandler, Webhooks } from './receive.ts';

export { createWebhooks, type WebhookHandler, type WebhookMessage, type WebhookOptions, type Webhooks } from './receive.ts';
export { hmacSignature, type SignatureScheme, signWebhook } from './signature.ts';

type Request = IncomingMessage & { readonly body?: unknown };

/**
 * For Express 5. Before `expressTenants`, or below one of its `public` paths, and before body parsers other than `express.raw`.
 *
 * @example app.post('/webhooks/payment', expressWebhook(payments, async (message) => recordPayment(message.json())));
 */
export function expressWebhook(
  webhooks: Webhooks,
  handler: WebhookHandler,
): (request: Request, response: ServerResponse, next: (error?: unknown) => void) => void {
  return (request, response, next) => {
    received(webhooks, request, handler).then((answer) => {
      if (response.headersSent || response.destroyed) return;
      response.writeHead(answer.status, { ...answer.headers });
      response.end(answer.body);
    }, next);
  };
}

interface FastifyReply {
  code(status: number): unknown;
  header(name: string, value: string): unknown;
  serializer(serialize: (body: string) => string): unknown;
  send(body: string): unknown;
}
interface FastifyInstance {
  removeAllContentTypeParsers(): void;
  addContentTypeParser(type: string, parser: () => Promise<undefined>): unknown;
  route(options: { method: 'POST'; url: string; handler: (request: { readonly raw: IncomingMessage }, reply: FastifyReply) => Promise<unknown> }): unknown;
}

/**
 * A Fastify 5 plugin with one route, whose body no parser touches. Where `fastifyTenants` is registered, the path is one of its `public` ones.
 *
 * @example await app.register(fastifyWebhook(payments, { path: '/webhooks/payment', handler }));
 */
export function fastifyWebhook(
  webhooks: Webhooks,
  { path, handler }: { readonly path: string; readonly handler: WebhookHandler },
): (instance: FastifyInstance, given: unknown, done: () => void) => void {
  return (instance, _, done) => {
    instance.removeAllContentTypeParsers();
    instance.addContentTypeParser('*', async () => undefined);
    const receive = async ({ raw }: { readonly raw: IncomingMessage }, reply: FastifyReply): Promise<unknown> => {
      const { status, headers, body } = await received(webhooks, raw, handler);
      reply.code(status);
      for (const [name, value] of Object.entries(headers)) reply.header(name, value);
      reply.serializer((text) => text);
      reply.send(body);
      return reply;
    };
    instance.route({ method: 'POST', url: path, handler: receive });
    done();
  };
}

/**
 * For handlers from a Web `Request`: Hono, Next.js.
 *
 * @example
 * app.post('/webhooks/payment', (c) => payment(c.req.raw)); // const payment = webWebhook(payments, handler)
 */
export function webWebhook(webhooks: Webhooks, handler: WebhookHandler): (request: globalThis.Request) => Promise<Response> {
  return async (request) => {
    if (request.bodyUsed) throw parsedAlready();
    const header = (name: string): string | null => request.headers.get(name);
    const body = request.body ? await read(request.body, webhooks.bodyBytesMax) : Buffer.alloc(0);
    return responseOf(body ? await webhooks.receive({ header, body }, handler) : webhooks.tooLarge(header));
  };
}

async function received(webhooks: Webhooks, request: Request, handler: WebhookHandler): Promise<Answer> {
  const header = (name: string): string | null => headerOf(request.headers, name);
  const raw = request.body instanceof Uint8Array ? Buffer.from(request.body) : undefined;
  if (!raw && request.readableDidRead) throw parsedAlready();
  const body = raw ?? (await read(request.iterator({ destroyOnReturn: false }), webhooks.bodyBytesMax));
  return body ? webhooks.receive({ header, body }, handler) : webhooks.tooLarge(header);
}

/** The bytes; undefined where there are too many, of which no more is read. */
async function read(chunks: AsyncIterable<Uint8Array>, most: number): Promise<Buffer | undefined> {
  const kept: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    length += chunk.length;
    if (length > most) return undefined;
    kept.push(chunk);
  }
  return Buffer.concat(kept);
}

function parsedAlready(): TypeError {
  return new TypeError('receiving a webhook: its body was read by something else, and the signature is of the exact bytes; mount it before body parsers');
}
