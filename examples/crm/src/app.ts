import { boundedServer, partywall, type ServerOptions } from '@partywall/server';
import fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';
import type pg from 'pg';
import { registerCustomers } from './customers.ts';

export interface AppOptions {
  /** A walled pool. With a plain one every tenant sees every row, as before the wall. */
  readonly pool: pg.Pool;
  /** The control plane that the application is mounted beside: sign-in, admission, accounting and `/api/admin`. */
  readonly server: ServerOptions;
  readonly logger?: FastifyServerOptions['logger'];
}

/** The CRM's HTTP interface. The caller listens, closes it, and ends the pools. */
export async function createApp({ pool, server, logger }: AppOptions): Promise<FastifyInstance> {
  const app = fastify({ ...boundedServer, logger: logger ?? false, forceCloseConnections: true });
  await app.register(partywall, server);
  // An idle connection that the server ends is reported here; without a listener it would end the process.
  const lostConnection = (error: Error) => app.log.warn({ reason: error.message }, 'an idle database connection was lost');
  pool.on('error', lostConnection);
  app.addHook('onClose', async () => {
    pool.off('error', lostConnection);
  });
  registerCustomers(app, pool);
  return app;
}
