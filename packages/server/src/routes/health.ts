import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { ServerOptions } from '../plugin.ts';
import { problem } from '../problem.ts';

const healthTimeoutMs = 2_000;

/** Path → name of the operation. Load balancers know the first. */
const paths = { '/health': 'getHealth', '/api/health': 'getApiHealth' };

/** Live: the process answers. Ready: it can do work, which takes the database. */
const healthSchema = z.object({ status: z.literal('ok'), live: z.literal(true), ready: z.literal(true), database: z.literal('ok') });

export function registerHealth(instance: FastifyInstance, { database }: ServerOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  for (const [url, operationId] of Object.entries(paths)) {
    const schema = { operationId, summary: 'Whether the server and its database answer', tags: ['server'], response: { 200: healthSchema } };
    app.get(url, { config: { access: 'public', counted: false }, schema }, async () => {
      const late = Promise.withResolvers<never>();
      const timer = setTimeout(() => late.reject(problem('database_unavailable')), healthTimeoutMs);
      try {
        await Promise.race([late.promise, database.pool.query('select 1')]);
      } catch (cause) {
        throw problem('database_unavailable', { cause });
      } finally {
        clearTimeout(timer);
      }
      return { status: 'ok' as const, live: true as const, ready: true as const, database: 'ok' as const };
    });
  }
}
