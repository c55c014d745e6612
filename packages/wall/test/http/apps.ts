import { once } from 'node:events';
import http, { type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import { type ServerType, serve } from '@hono/node-server';
import express, { type Response as ExpressResponse } from 'express';
import Fastify from 'fastify';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import type pg from 'pg';
import { expressTenants } from '../../src/http/express.ts';
import { fastifyTenants } from '../../src/http/fastify.ts';
import { honoTenants } from '../../src/http/hono.ts';
import { webTenants } from '../../src/http/web.ts';
import { current, type GuardOptions, tryCurrent } from '../../src/index.ts';

/** The same small application under each framework. */
export interface App {
  readonly url: string;
  close(): Promise<void>;
}

export interface Work {
  readonly pool: pg.Pool;
  /** Told by `/slow` that it has begun, and what it saw after the client had gone away. */
  readonly onBegun: () => void;
  readonly onLate: (seen: unknown) => void;
}

export const chunks = 5;

const itemsSql = 'select id from items order by id';

async function items(pool: pg.Pool): Promise<number[]> {
  const { rows } = await pool.query<{ id: number }>(itemsSql);
  return rows.map(({ id }) => id);
}

/** A chunk for each query, so that the context is needed between them. */
async function* lines(pool: pg.Pool): AsyncGenerator<string> {
  for (let chunk = 0; chunk < chunks; chunk += 1) {
    const [first] = await items(pool);
    yield `${current().tenant} ${first}\n`;
  }
}

async function* broken(pool: pg.Pool): AsyncGenerator<string> {
  yield* lines(pool);
  throw new Error('a secret of the stream');
}

async function* bytes(source: AsyncGenerator<string>): AsyncGenerator<Uint8Array> {
  for await (const line of source) yield new TextEncoder().encode(line);
}

/** Writes a row of another tenant, which the wall refuses. */
function cross(pool: pg.Pool): Promise<unknown> {
  return pool.query("insert into items (id, tenant_id, body) values (9999, '00000000-0000-0000-0000-000000000060', 'x')");
}

function late({ pool, onLate }: Work): void {
  items(pool).then(
    (ids) => onLate({ tenant: tryCurrent()?.tenant, first: ids[0] }),
    (error: unknown) => onLate(error),
  );
}

async function listening(server: Server): Promise<App> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: urlOf(server), close: () => closed(server) };
}

function urlOf(server: Server | ServerType): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // it listens on TCP
}

async function closed(server: Server | ServerType): Promise<void> {
  const done = new Promise((resolve) => server.close(resolve));
  if ('closeAllConnections' in server) server.closeAllConnections();
  await done;
}

export async function expressApp(options: GuardOptions, work: Work): Promise<App> {
  const { pool } = work;
  const { enter, problems } = expressTenants(options);
  const app = express();
  app.use(enter);
  app.use(express.json());
  app.get('/health', (_, response) => void response.json({ context: tryCurrent() ?? null }));
  app.get('/items', async (_, response) => void response.json(await items(pool)));
  app.get('/context', (_, response) => void response.json(current()));
  app.get('/cached', (_, response) => void response.set('cache-control', 'private, max-age=60').json({}));
  app.post('/parsed', async (request, response) => void response.json({ body: request.body, items: await items(pool) }));
  app.post('/events', (request, response) => {
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
    });
    request.on('end', () => void items(pool).then((found) => response.json({ length, items: found }), response.destroy.bind(response)));
    work.onBegun();
  });
  app.get('/stream', (_, response) => void pipeline(Readable.from(lines(pool)), response, () => undefined));
  app.get('/sse', (request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    sse(pool, response, () => request.destroyed).catch(response.destroy.bind(response));
  });
  app.get('/throws/sync', () => {
    throw new Error('a secret of the handler');
  });
  app.get('/throws/async', async () => {
    await items(pool);
    throw new Error('a secret of the handler');
  });
  app.get('/throws/cross', async () => void (await cross(pool)));
  app.get('/throws/stream', (_, response) => void pipeline(Readable.from(broken(pool)), response, () => undefined));
  app.get('/slow', (_, response) => {
    response.on('close', () => late(work));
    work.onBegun();
  });
  app.use(problems);
  app.use((_error: unknown, _request: unknown, response: ExpressResponse, _next: unknown) => void response.status(500).json({ own: true }));
  return listening(http.createServer(app));
}

async function sse(pool: pg.Pool, response: http.ServerResponse, gone: () => boolean): Promise<void> {
  for await (const line of lines(pool)) {
    if (gone()) return;
    response.write(`data: ${line}\n`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  response.end();
}

export async function fastifyApp(options: GuardOptions, work: Work): Promise<App> {
  const { pool } = work;
  const app = Fastify();
  app.setErrorHandler((_error, _request, reply) => reply.code(500).send({ own: true }));
  await app.register(fastifyTenants(options));
  app.addContentTypeParser('text/plain', (_request, payload, done) => done(null, payload));
  app.get('/health', async () => ({ context: tryCurrent() ?? null }));
  app.get('/items', async () => items(pool));
  app.get('/context', async () => current());
  app.get('/cached', (_, reply) => reply.header('cache-control', 'private, max-age=60').send({}));
  app.post('/parsed', async (request) => ({ body: request.body, items: await items(pool) }));
  app.post('/events', (request, reply) => {
    let length = 0;
    request.raw.on('data', (chunk: Buffer) => {
      length += chunk.length;
    });
    request.raw.on('end', () => void items(pool).then((found) => reply.send({ length, items: found }), reply.send.bind(reply)));
    work.onBegun();
  });
  app.get('/stream', (_, reply) => reply.send(Readable.from(lines(pool))));
  app.get('/sse', (request, reply) => {
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' });
    sse(pool, reply.raw, () => request.raw.destroyed).catch(reply.raw.destroy.bind(reply.raw));
  });
  app.get('/throws/sync', () => {
    throw new Error('a secret of the handler');
  });
  app.get('/throws/async', async () => {
    await items(pool);
    throw new Error('a secret of the handler');
  });
  app.get('/throws/cross', () => cross(pool));
  app.get('/throws/stream', (_, reply) => reply.send(Readable.from(broken(pool))));
  app.get('/slow', (_, reply) => {
    reply.raw.on('close', () => late(work));
    work.onBegun();
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  return { url: urlOf(app.server), close: () => app.close() };
}

export async function honoApp(options: GuardOptions, work: Work): Promise<App> {
  const { pool } = work;
  const app = new Hono();
  app.onError((_error, c) => c.json({ own: true }, 500));
  app.use(honoTenants(options));
  app.get('/health', (c) => c.json({ context: tryCurrent() ?? null }));
  app.get('/items', async (c) => c.json(await items(pool)));
  app.get('/context', (c) => c.json(current()));
  app.get('/cached', (c) => c.json({}, 200, { 'cache-control': 'private, max-age=60' }));
  app.post('/parsed', async (c) => c.json({ body: await c.req.json(), items: await items(pool) }));
  app.post('/events', async (c) => c.json({ length: await lengthOf(c.req.raw, work), items: await items(pool) }));
  app.get('/stream', (c) => c.body(ReadableStream.from(bytes(lines(pool)))));
  app.get('/sse', (c) =>
    streamSSE(c, async (stream) => {
      for await (const line of lines(pool)) await stream.writeSSE({ data: line.trimEnd() });
    }),
  );
  app.get('/throws/sync', () => {
    throw new Error('a secret of the handler');
  });
  app.get('/throws/async', async () => {
    await items(pool);
    throw new Error('a secret of the handler');
  });
  app.get('/throws/cross', async (c) => c.json(await cross(pool)));
  app.get('/throws/stream', (c) => c.body(ReadableStream.from(bytes(broken(pool)))));
  app.get('/slow', (c) => c.body(endless(work)));
  return fetching(app.fetch);
}

/** Route handlers as Next.js calls them, a function for each method of a path, on a bare server. */
export async function webApp(options: GuardOptions, work: Work): Promise<App> {
  const { pool } = work;
  const peers = new WeakMap<Request, string | undefined>();
  const withTenant = webTenants({ ...options, addressOf: (request) => peers.get(request) });
  const routes: Readonly<Record<string, (request: Request) => Promise<Response>>> = {
    '/health': withTenant(() => Response.json({ context: tryCurrent() ?? null })),
    '/items': withTenant(async () => Response.json(await items(pool))),
    '/context': withTenant(() => Response.json(current())),
    '/cached': withTenant(() => Response.json({}, { headers: { 'cache-control': 'private, max-age=60' } })),
    '/parsed': withTenant(async (request) => Response.json({ body: await request.json(), items: await items(pool) })),
    '/events': withTenant(async (request) => Response.json({ length: await lengthOf(request, work), items: await items(pool) })),
    '/stream': withTenant(() => new Response(ReadableStream.from(bytes(lines(pool))))),
    '/sse': withTenant(() => new Response(events(pool), { headers: { 'content-type': 'text/event-stream' } })),
    '/throws/sync': withTenant(() => {
      throw new Error('a secret of the handler');
    }),
    '/throws/async': withTenant(async () => {
      await items(pool);
      throw new Error('a secret of the handler');
    }),
    '/throws/cross': withTenant(async () => Response.json(await cross(pool))),
    '/throws/stream': withTenant(() => new Response(ReadableStream.from(bytes(broken(pool))))),
    '/slow': withTenant(() => new Response(endless(work))),
  };
  const missing = withTenant(() => new Response(null, { status: 404 }));
  return fetching(async (request, { incoming }) => {
    peers.set(request, incoming.socket.remoteAddress);
    try {
      return await (routes[new URL(request.url).pathname] ?? missing)(request);
    } catch {
      return Response.json({ own: true }, { status: 500 });
    }
  });
}

/** A body that only its reader ends. */
function endless(work: Work): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(new TextEncoder().encode('begun'));
      work.onBegun();
    },
    cancel: () => late(work),
  });
}

/** Between its chunks it goes on from a timer. */
function events(pool: pg.Pool): ReadableStream<Uint8Array> {
  const source = lines(pool);
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const { done, value } = await source.next();
      if (done) controller.close();
      else controller.enqueue(new TextEncoder().encode(`data: ${value}\n`));
    },
  });
}

async function lengthOf(request: Request, { onBegun }: Work): Promise<number> {
  let length = 0;
  onBegun();
  if (request.body) for await (const chunk of request.body) length += chunk.length;
  return length;
}

async function fetching(fetch: (request: Request, env: { readonly incoming: http.IncomingMessage }) => Response | Promise<Response>): Promise<App> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const server = serve({ fetch: (request, env) => fetch(request, env as { incoming: http.IncomingMessage }), port: 0, hostname: '127.0.0.1' }, () => resolve());
  await promise;
  return { url: urlOf(server), close: () => closed(server) };
}
