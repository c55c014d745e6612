import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type ControlDatabase, RequestMeter, type SlowQueryLog } from '@partywall/engine';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Counter, Histogram, type Registry } from 'prom-client';

/** What this process knows about itself. */
export interface Accounting {
  readonly meter: RequestMeter;
  readonly eventLoopDelay: ReturnType<typeof monitorEventLoopDelay>;
}

export interface AccountingOptions {
  readonly database: ControlDatabase;
  readonly slowQueries?: SlowQueryLog | undefined;
  /** Takes what this process counted since it started. */
  readonly registry: Registry;
}

const eventLoopResolutionMs = 20;
/** Upper bounds for Prometheus, in seconds: the engine's, of which the last is open. */
const bucketsSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5];

/**
 * Counts every request from its arrival until its answer is sent, or its client has gone: its own routes and those of the application it is
 * mounted in, but not those with `config.counted: false`. A request counts for the tenant it was admitted to; one that was refused for nobody, so
 * that an outsider's attempts are not a tenant's errors. A person is active in a tenant they belong to: an operator or a key is not.
 */
export function registerAccounting(app: FastifyInstance, { database, slowQueries, registry }: AccountingOptions): Accounting {
  const lost = (error: unknown): void => app.log.warn({ reason: error instanceof Error ? error.message : String(error) }, 'usage could not be written');
  const meter = new RequestMeter(database, { onFailure: lost });
  const eventLoopDelay = monitorEventLoopDelay({ resolution: eventLoopResolutionMs });
  const durations = new Histogram({
    name: 'partywall_request_duration_seconds',
    help: 'Time from the arrival of a request to the end of its answer',
    buckets: bucketsSeconds,
    registers: [registry],
  });
  const errors = new Counter({ name: 'partywall_request_errors_total', help: 'Requests answered with a status of 500 or above', registers: [registry] });

  app.addHook('onRequest', (request, reply, done) => {
    if (request.routeOptions.config.counted !== false) countAtItsEnd(request, reply);
    done();
  });
  app.addHook('onReady', async () => {
    eventLoopDelay.enable();
    meter.start();
    slowQueries?.start();
  });
  app.addHook('onClose', async () => {
    eventLoopDelay.disable();
    // The database may be what is failing: the rest of the server still closes.
    await meter.stop().catch(lost);
    await slowQueries?.stop().catch(lost);
  });
  return { meter, eventLoopDelay };

  function countAtItsEnd(request: FastifyRequest, reply: FastifyReply): void {
    const begun = performance.now();
    let counted = false;
    const count = (): void => {
      if (counted) return;
      counted = true;
      const milliseconds = performance.now() - begun;
      const failed = reply.statusCode >= 500;
      meter.count({ tenant: request.tenant, user: activePerson(request), milliseconds, failed });
      durations.observe(milliseconds / 1000);
      if (failed) errors.inc();
    };
    // An answer whose client has gone is never finished.
    reply.raw.once('finish', count).once('close', count);
  }
}

function activePerson({ principal, tenant }: FastifyRequest): string | undefined {
  return tenant !== null && principal?.kind === 'user' && principal.memberships.has(tenant) ? principal.id : undefined;
}
