import { CallLeases, type ControlDatabase } from '@partywall/engine';
import { QuotaExceededError } from '@partywall/wall';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { problem } from './problem.ts';

/** Holds admitted requests to the rate and the API calls of their tenant. */
export interface Meter {
  /** Tells the database what this process has counted, so that what is read next includes it. */
  report(): Promise<void>;
}

/**
 * Counts each request that was admitted for a tenant, and refuses it with 429 or 403 where there are too many; call it after admission's hook is
 * added. Not counted: routes that say so, and super-admins, who act on a tenant and not for it.
 */
export function registerMeter(app: FastifyInstance, database: ControlDatabase): Meter {
  const leases = new CallLeases(database, {
    onError: (error) => app.log.error({ err: error }, 'API calls could not be reported; they go with the next report'),
  });
  app.addHook('onRequest', (request, reply) => count(request, reply, leases));
  app.addHook('onClose', () => leases.close());
  return { report: () => leases.report() };
}

async function count(request: FastifyRequest, reply: FastifyReply, leases: CallLeases): Promise<void> {
  const { tenant, principal } = request;
  if (tenant === null || principal?.superAdmin || request.routeOptions.config.counted === false) return;
  const taken = leases.take(tenant);
  // Waits only where this process holds no calls of the tenant.
  const verdict = taken instanceof Promise ? await taken : taken;
  switch (verdict.kind) {
    case 'admitted':
      return;
    case 'too_fast':
      reply.header('retry-after', String(Math.ceil(verdict.retryAfterMs / 1_000)));
      throw problem('too_many_requests');
    case 'used_up': {
      const { limit, usage, reset } = verdict;
      throw new QuotaExceededError({ message: `the quota api_calls of ${limit} is exceeded`, quota: 'api_calls', limit, usage, requested: 1, reset });
    }
  }
}
