import {
  consumptions,
  runningMsDefault,
  runningStatements,
  serverStatements,
  slowStatements,
  tenantSessions,
  tenantUsage,
  topConsumers,
  topLimit,
  usageHours,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { tenantId, tenantParams, text, time } from '../schemas.ts';
import { tenantOf } from '../tenant-of.ts';

const tags = ['usage'];
const runningMsMax = 3_600_000;
const slowHoursMax = 720;

const hours = z.coerce.number().int().min(1).max(usageHours.max).default(usageHours.default).describe('Over how many hours, the current one included');
const milliseconds = z.number().nullable();
const share = z.number().min(0).max(1).nullable();

export const figures = z.object({
  calls: z.int(),
  errors: z.int().describe('Answered with a status of 500 or above'),
  errorRate: share.describe('Errors by calls, 0 to 1; null without calls'),
  averageMs: milliseconds,
  p50Ms: milliseconds,
  p95Ms: milliseconds,
  p99Ms: milliseconds,
});

const usageSchema = z.object({
  tenantId: z.string(),
  name: z.string(),
  status: z.string(),
  periodStart: time.describe('First instant of the month that apiCalls counts'),
  apiCalls: z.int(),
  requests: figures.extend({ hours: z.int() }),
  activeUsers: z.object({ day: z.int(), week: z.int(), month: z.int() }),
  rows: z.record(z.string(), z.int()).describe('Table → rows'),
  storageBytes: z.int().nullable(),
  measuredAt: time.nullable().describe('When rows and bytes were surveyed; what a quota counts is exact at any time'),
  connections: z.int().describe('Transactions in progress'),
  hourly: z.array(figures.extend({ hour: time })).describe('Hours with calls, oldest first'),
});

const topSchema = z.object({
  by: z.enum(consumptions),
  hours: z.int().nullable().describe('Null for a measure of now'),
  total: z.number().describe('Of all tenants'),
  items: z.array(z.object({ tenantId: z.string(), name: z.string(), value: z.number(), share: z.number().min(0).max(1) })),
});

const sessionSchema = z.object({
  tenantId: z.string(),
  name: z.string(),
  pid: z.int(),
  role: z.string(),
  application: z.string(),
  state: z.string().nullable().describe('Null where the service role may not see it'),
  transactionMs: milliseconds,
  statementMs: milliseconds,
  waiting: z.string().nullable(),
  statement: z.string().nullable().describe('Without its values'),
});

const slowSchema = z.object({
  tenantId: z.string().nullable().describe('Null where it belongs to none'),
  hour: time,
  fingerprint: z.string(),
  statement: z.string().describe('Without its values'),
  calls: z.int(),
  failures: z.int(),
  averageMs: z.number(),
  maxMs: z.number(),
  lastAt: time,
});

const slowKey = z.object({ maxMs: z.number(), tenantId: text(200).nullable(), hour: time, fingerprint: text(64) });

const serverStatement = z.object({ statement: z.string(), calls: z.int(), averageMs: z.number(), maxMs: z.number() });

/** What tenants use, who uses most, and whose sessions and statements are at work. */
export function registerUsage(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.get(
    '/api/admin/tenants/:id/usage',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags,
        operationId: 'getTenantUsage',
        summary: 'What a tenant uses',
        params: tenantParams,
        querystring: z.strictObject({ hours }),
        response: { 200: usageSchema },
      },
    },
    (request) => tenantUsage(request.operation(), request.params.id, { hours: request.query.hours }),
  );

  app.get(
    '/api/tenants/usage',
    {
      config: { access: 'tenant_admin', tenant: 'query', scope: 'usage:read' },
      schema: {
        tags,
        operationId: 'getOwnUsage',
        summary: 'What the own tenant uses',
        querystring: z.strictObject({ hours, tenantId: tenantId.optional() }),
        response: { 200: usageSchema },
      },
    },
    (request) => tenantUsage(request.operation(), tenantOf(request), { hours: request.query.hours }),
  );

  app.get(
    '/api/admin/top',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'getTopConsumers',
        summary: 'The tenants that use most',
        querystring: z.strictObject({
          by: z.enum(consumptions).default('calls').describe('time: milliseconds spent on answers; connections: transactions in progress'),
          limit: z.coerce.number().int().min(1).max(topLimit.max).default(topLimit.default),
          hours,
        }),
        response: { 200: topSchema },
      },
    },
    (request) => topConsumers(request.operation(), request.query),
  );

  app.get(
    '/api/admin/connections',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listConnections',
        summary: 'Transactions in progress, by tenant',
        querystring: z.strictObject({ tenantId: tenantId.optional() }),
        response: { 200: z.object({ items: z.array(sessionSchema) }) },
      },
    },
    async (request) => ({ items: await tenantSessions(request.operation(), { tenant: request.query.tenantId }) }),
  );

  app.get(
    '/api/admin/slow-queries',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listSlowQueries',
        summary: 'Slow statements by tenant: recorded ones, those running now, and the slowest of the server',
        querystring: z.strictObject({
          ...pageQuery.shape,
          tenantId: tenantId.optional(),
          hours: z.coerce.number().int().min(1).max(slowHoursMax).default(usageHours.default),
          runningMs: z.coerce.number().int().min(0).max(runningMsMax).default(runningMsDefault).describe('Running for at least as long'),
        }),
        response: {
          200: pageSchema(slowSchema).extend({
            running: z.array(sessionSchema),
            server: z
              .array(serverStatement)
              .nullable()
              .describe('From pg_stat_statements, whoever sent them; null where that is not installed, or a tenant is asked for'),
          }),
        },
      },
    },
    async (request) => {
      const { limit, cursor, tenantId: tenant, hours: over, runningMs } = request.query;
      const operation = request.operation();
      const after = decodeCursor(slowKey, cursor);
      const [recorded, running, server] = await Promise.all([
        slowStatements(operation, { tenant, hours: over, limit: limit + 1, after }),
        runningStatements(operation, { tenant, runningMs }),
        tenant === undefined ? serverStatements(operation) : null,
      ]);
      const page = pageOf(recorded, limit, (last) => ({ maxMs: last.maxMs, tenantId: last.tenantId, hour: last.hour, fingerprint: last.fingerprint }));
      return { ...page, running, server };
    },
  );
}
