import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import express from 'express';
import Fastify from 'fastify';
import { Hono } from 'hono';
import { expressWebhook, fastifyWebhook, type WebhookHandler, type Webhooks, webWebhook } from '../../src/webhooks/webhooks.ts';

/** An application with a webhook at `/hook`, and JSON bodies elsewhere. */
export interface WebhookApp {
  readonly url: string;
  close(): Promise<void>;
}

export type StartWebhook = (webhooks: Webhooks, handler: WebhookHandler) => Promise<WebhookApp>;

export const frameworks: Readonly<Record<string, StartWebhook>> = {
  express: async (webhooks, handler) => {
    const app = express();
    app.post('/hook', expressWebhook(webhooks, handler));
    app.use(express.json());
    app.post('/parsed', expressWebhook(webhooks, handler));
    app.post('/raw', (request, response) => void response.json(request.body));
    app.use((_error: unknown, _request: unknown, response: express.Response, _next: unknown) => void response.status(500).json({ own: true }));
    return listening(http.createServer(app));
  },
  'express after express.raw': async (webhooks, handler) => {
    const app = express();
    app.post('/hook', express.raw({ type: () => true }), expressWebhook(webhooks, handler));
    app.use((_error: unknown, _request: unknown, response: express.Response, _next: unknown) => void response.status(500).json({ own: true }));
    return listening(http.createServer(app));
  },
  fastify: async (webhooks, handler) => {
    const app = Fastify();
    app.setErrorHandler((_error, _request, reply) => reply.code(500).send({ own: true }));
    await app.register(fastifyWebhook(webhooks, { path: '/hook', handler }));
    app.post('/raw', async (request) => request.body);
    await app.listen({ port: 0, host: '127.0.0.1' });
    return { url: urlOf(app.server.address()), close: () => app.close() };
  },
  hono: async (webhooks, handler) => {
    const app = new Hono();
    app.onError((_error, c) => c.json({ own: true }, 500));
    const receive = webWebhook(webhooks, handler);
    app.post('/hook', (c) => receive(c.req.raw));
    app.post('/parsed', async (c) => {
      await c.req.json();
      return receive(c.req.raw);
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () => resolve());
    await promise;
    return { url: urlOf(server.address()), close: async () => void server.close() };
  },
};

async function listening(server: http.Server): Promise<WebhookApp> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: urlOf(server.address()),
    close: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

function urlOf(address: AddressInfo | string | null): string {
  if (address === null || typeof address === 'string') throw new TypeError('listening on TCP');
  return `http://127.0.0.1:${address.port}`;
}
