import {
  type Alert,
  acknowledgeAlert,
  countOpenAlerts,
  evaluateAlerts,
  listAlerts,
  metricNames,
  metricUnits,
  refreshAlerts,
  severities,
  systemUsage,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { DeliveryOptions } from '../delivery/deliver.ts';
import { registerDelivery } from '../delivery/register-delivery.ts';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import type { ServerOptions } from '../plugin.ts';
import { problem } from '../problem.ts';
import { flag, optionalBody, tenantId, text, time } from '../schemas.ts';
import { registerAlertChannels } from './alert-channels.ts';
import { registerAlertRules } from './alert-rules.ts';

const tags = ['alerts'];

const ofTenant = z.object({
  id: z.uuid(),
  rule: z.string(),
  title: z.string(),
  metric: z.enum(metricNames),
  unit: z.enum(metricUnits),
  quota: z.string().nullable().describe('The quota, where it is about one'),
  status: z.enum(['open', 'resolved']),
  severity: z.enum(severities).describe('The worst that it has been'),
  value: z.number().describe('The last value that was over a threshold'),
  threshold: z.number(),
  message: z.string(),
  details: z.record(z.string(), z.unknown()).describe('What the value is made of: used and limit, calls and errors'),
  openedAt: time,
  escalatedAt: time.nullable(),
  resolvedAt: time.nullable(),
  resolution: z.enum(['cleared', 'tenant_inactive', 'rule_off']).nullable(),
  acknowledgedAt: time.nullable(),
});

/** What only operators see: whose it is, and who looks after it. */
const alertSchema = ofTenant.extend({
  tenantId: z.string().nullable().describe('Null: the system as a whole'),
  tenantName: z.string().nullable(),
  acknowledgedBy: z.string().nullable(),
  note: z.string().nullable(),
});

const countsSchema = z.object({ warning: z.int(), critical: z.int(), acknowledged: z.int() });

const metricsSchema = z.object({
  tenants: z.object({ total: z.int(), byStatus: z.record(z.string(), z.int()) }),
  requests: z
    .object({
      calls: z.number(),
      errors: z.number(),
      errorRate: z.number().nullable(),
      p50Ms: z.number().nullable(),
      p95Ms: z.number().nullable(),
      p99Ms: z.number().nullable(),
    })
    .describe('Of all tenants in the last hour; errorRate from 0 to 1'),
  activeUsers: z.int().describe('People with a request today, in UTC'),
  connections: z.object({ used: z.int(), max: z.int() }),
  databaseBytes: z.number(),
});

const filters = {
  status: z.enum(['open', 'resolved', 'all']).default('open'),
  severity: z.enum(severities).optional(),
};
const evaluatedAt = time.nullable().describe('When all alerts were last evaluated; a list sees to it that it is no longer ago than a minute');
const cursorKey = z.strictObject({ openedAt: time, id: z.uuid() });
const idParams = z.strictObject({ id: z.uuid() });

/** Alerts, their rules and their channels; and their delivery, while the server runs. */
export function registerAlerts(instance: FastifyInstance, { database, people, delivery }: ServerOptions): void {
  const how: DeliveryOptions = { mail: people.mail, ...delivery };
  registerLists(instance);
  registerActions(instance);
  registerAlertRules(instance);
  registerAlertChannels(instance, database, how);
  registerDelivery(instance, database, how);
}

function registerLists(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    '/api/admin/alerts',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listAlerts',
        summary: 'Alerts of all tenants and of the system, with its metrics',
        querystring: z.strictObject({ ...pageQuery.shape, ...filters, tenantId: tenantId.optional(), acknowledged: flag.optional() }),
        response: {
          200: pageSchema(alertSchema).extend({
            evaluatedAt,
            open: countsSchema.describe('Open alerts, whatever the filter'),
            metrics: metricsSchema.nullable().describe('Of the whole system; on the first page only'),
          }),
        },
      },
    },
    async (request) => {
      const { limit, cursor, tenantId: tenant, ...filter } = request.query;
      const operation = request.operation();
      const after = decodeCursor(cursorKey, cursor);
      const evaluated = await refreshAlerts(operation);
      const [alerts, open, metrics] = await Promise.all([
        listAlerts(operation, { ...filter, tenant, limit: limit + 1, after }),
        countOpenAlerts(operation),
        after ? null : systemMetrics(operation),
      ]);
      return { ...pageOf(alerts, limit, keyOf), evaluatedAt: evaluated, open, metrics };
    },
  );

  app.get(
    '/api/tenants/alerts',
    {
      config: { access: 'tenant_admin', tenant: 'query' },
      schema: {
        tags,
        operationId: 'listTenantAlerts',
        summary: 'Alerts of the own tenant',
        querystring: z.strictObject({ ...pageQuery.shape, ...filters, tenantId: tenantId.optional() }),
        response: { 200: pageSchema(ofTenant).extend({ evaluatedAt, open: countsSchema }) },
      },
    },
    async (request) => {
      const { tenant } = request;
      if (tenant === null) throw problem('not_found');
      const { limit, cursor, status, severity } = request.query;
      const operation = request.operation();
      const after = decodeCursor(cursorKey, cursor);
      const evaluated = await refreshAlerts(operation);
      const [alerts, open] = await Promise.all([
        listAlerts(operation, { status, severity, tenant, limit: limit + 1, after }),
        countOpenAlerts(operation, tenant),
      ]);
      return { ...pageOf(alerts, limit, keyOf), evaluatedAt: evaluated, open };
    },
  );
}

function registerActions(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.post(
    '/api/admin/alerts/evaluate',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'evaluateAlerts',
        summary: 'Evaluate the rules now, for all tenants or for one',
        body: optionalBody(z.strictObject({ tenantId: tenantId.optional() })),
        response: {
          200: z.object({
            evaluatedAt: time,
            opened: z.int(),
            escalated: z.int(),
            resolved: z.int(),
            kept: z.int().describe('Open alerts that go on'),
            deliveries: z.int().describe('Messages to channels that are on their way'),
          }),
        },
      },
    },
    async (request) => evaluateAlerts(request.operation(), { tenant: request.body.tenantId }),
  );

  app.post(
    '/api/admin/alerts/:id/acknowledge',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'acknowledgeAlert',
        summary: 'Say that somebody looks after an open alert; the first one counts',
        params: idParams,
        body: optionalBody(z.strictObject({ note: text(1_000).optional() })),
        response: { 200: alertSchema },
      },
    },
    async (request) => acknowledgeAlert(request.operation(), { id: request.params.id, note: request.body.note }),
  );
}

function keyOf({ openedAt, id }: Alert): z.input<typeof cursorKey> {
  return { openedAt, id };
}

async function systemMetrics(operation: Parameters<typeof systemUsage>[0]): Promise<z.input<typeof metricsSchema>> {
  const { tenants, requests, activeUsers, connections, database } = await systemUsage(operation);
  return {
    tenants: { total: tenants.total, byStatus: { ...tenants.byStatus } },
    requests: requests.hour,
    activeUsers,
    connections,
    databaseBytes: database.bytes,
  };
}
