import { createHash, timingSafeEqual } from 'node:crypto';
import { type ControlDatabase, systemUsage } from '@partywall/engine';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Registry } from 'prom-client';
import { z } from 'zod';
import type { Accounting } from '../account.ts';
import { problem } from '../problem.ts';
import { databaseMetrics } from './metrics-registry.ts';
import { figures } from './usage.ts';

export interface MetricsOptions {
  readonly database: ControlDatabase;
  readonly accounting: Accounting;
  readonly registry: Registry;
  /** Bearer token that `/metrics` takes; without one it answers on the loopback interface alone. */
  readonly metricsToken?: string | undefined;
}

const counted = z.record(z.string(), z.int());
const ratio = z.number().nullable();

const metricsSchema = z.object({
  tenants: z.object({ total: z.int(), byStatus: counted }),
  requests: z.object({ hour: figures, day: figures }),
  activeUsers: z.int().describe('People with a request today'),
  connections: z.object({
    used: z.int().describe('Of the whole server'),
    max: z.int(),
    byRole: z.array(
      z.object({
        role: z.string(),
        state: z.string().describe('`hidden` where the service role may not see it'),
        connections: z.int(),
        limit: z.int().nullable().describe('Connections that the role may have'),
      }),
    ),
  }),
  database: z.object({
    bytes: z.int(),
    cacheHitRatio: ratio,
    deadlocks: z.int(),
    rollbackRatio: ratio,
    oldestTransactionSeconds: z.number().nullable(),
  }),
  process: z.object({
    uptimeSeconds: z.number(),
    rssBytes: z.int(),
    heapUsedBytes: z.int(),
    heapTotalBytes: z.int(),
    cpuSeconds: z.number().describe('User and system, since the start'),
    eventLoopDelayP99Ms: z.number(),
    unattributedRequests: z.int(),
  }),
});

const loopback = /^(?:::1|(?:::ffff:)?127\.\d+\.\d+\.\d+)$/;

/** The system as a whole: for people with access, and for Prometheus. */
export function registerMetrics(instance: FastifyInstance, { database, accounting, registry, metricsToken }: MetricsOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const refresh = databaseMetrics(registry, database, accounting);

  app.get(
    '/api/admin/metrics',
    {
      config: { access: 'super_admin' },
      schema: { tags: ['usage'], operationId: 'getMetrics', summary: 'Metrics of the whole system', response: { 200: metricsSchema } },
    },
    async (request) => ({ ...(await systemUsage(request.operation())), process: processResources(accounting) }),
  );

  app.get(
    '/metrics',
    {
      config: { access: 'public', counted: false },
      schema: { tags: ['usage'], operationId: 'scrapeMetrics', summary: 'Metrics for Prometheus', response: { 200: z.string() } },
    },
    async (request, reply) => {
      if (!mayScrape(request, metricsToken)) throw problem('unauthorized');
      await refresh();
      return reply
        .type(registry.contentType)
        .serializer(String)
        .send(await registry.metrics());
    },
  );
}

/** With a token, whoever has it; without, a process of this machine, and no proxy on behalf of another. */
function mayScrape({ headers, socket }: FastifyRequest, token: string | undefined): boolean {
  if (token === undefined) {
    return loopback.test(socket.remoteAddress ?? '') && headers['x-forwarded-for'] === undefined && headers['forwarded'] === undefined;
  }
  const [, given = ''] = /^Bearer (.+)$/i.exec(headers.authorization ?? '') ?? [];
  // Of equal length, whatever was given, so that the time tells nothing.
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

function processResources({ meter, eventLoopDelay }: Accounting): z.output<typeof metricsSchema>['process'] {
  const memory = process.memoryUsage();
  const cpu = process.cpuUsage();
  return {
    uptimeSeconds: process.uptime(),
    rssBytes: memory.rss,
    heapUsedBytes: memory.heapUsed,
    heapTotalBytes: memory.heapTotal,
    cpuSeconds: (cpu.user + cpu.system) / 1_000_000,
    eventLoopDelayP99Ms: eventLoopDelay.percentile(99) / 1_000_000,
    unattributedRequests: meter.unattributed,
  };
}
