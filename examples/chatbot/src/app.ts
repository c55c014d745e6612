import { boundedServer, partywall, type ServerOptions } from '@partywall/server';
import fastify, { type FastifyInstance } from 'fastify';
import type pg from 'pg';
import { registerChat } from './chat.ts';
import { registerUploads } from './uploads.ts';

export interface AppOptions {
  /** A walled pool. */
  readonly pool: pg.Pool;
  /** The control plane that the application is mounted beside. */
  readonly server: ServerOptions;
  /** Folder of uploaded files, one below it for each tenant. */
  readonly uploads: string;
}

/** The chatbot's HTTP interface. The caller listens, closes it, and ends the pools. */
export async function createApp({ pool, server, uploads }: AppOptions): Promise<FastifyInstance> {
  const app = fastify({ ...boundedServer, logger: false, forceCloseConnections: true });
  await app.register(partywall, server);
  // An idle connection that the server ends is reported here; without a listener it would end the process.
  pool.on('error', () => undefined);
  registerChat(app, pool);
  registerUploads(app, pool, uploads);
  return app;
}
