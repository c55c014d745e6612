import { increaseQuota, type RateLimit, removeRateLimit, revokeIncrease, setRateLimit, showQuotas, type TenantQuotas } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Meter } from '../meter.ts';
import { problem } from '../problem.ts';
import { reason, tenantId, tenantParams, time } from '../schemas.ts';
import { tenantOf } from '../tenant-of.ts';
import { quotaName, quotaSchema, quotaView } from './quota-schema.ts';

const tags = ['quotas'];
const rateMax = 1_000_000;

const end = z.iso.datetime({ offset: true }).transform((text) => new Date(text));

const rateSchema = z.object({
  requestsPerMinute: z.int().nullable().describe('In force now, for each process of the server; null: no limit'),
  override: z
    .object({ requestsPerMinute: z.int(), until: time.nullable().describe('Null: until it is removed'), reason: z.string().nullable(), createdAt: time })
    .nullable(),
});

const quotasSchema = z.object({ tenantId: z.string(), plan: z.string(), quotas: z.array(quotaSchema), rateLimit: rateSchema });

/** What tenants use of their quotas, and exceptions from their plans. */
export function registerQuotas(instance: FastifyInstance, meter: Meter): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.get(
    '/api/tenants/quotas',
    {
      // A tenant that has used up its calls must be able to see that.
      config: { access: 'tenant_admin', tenant: 'query', scope: 'quotas:read', counted: false },
      schema: {
        tags,
        operationId: 'getOwnQuotas',
        summary: 'What the own tenant uses of its quotas',
        querystring: z.strictObject({ tenantId: tenantId.optional() }),
        response: { 200: quotasSchema },
      },
    },
    async (request) => {
      await meter.report();
      return quotasView(await showQuotas(request.operation(), tenantOf(request)));
    },
  );

  app.get(
    '/api/admin/tenants/:id/quotas',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags,
        operationId: 'getTenantQuotas',
        summary: 'What a tenant uses of its quotas',
        params: tenantParams,
        response: { 200: quotasSchema },
      },
    },
    async (request) => {
      await meter.report();
      return quotasView(await showQuotas(request.operation(), request.params.id));
    },
  );

  app.post(
    '/api/admin/tenants/:id/quotas',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags,
        operationId: 'increaseQuota',
        summary: 'Give a tenant a higher limit until a date',
        params: tenantParams,
        body: z.strictObject({
          quota: quotaName,
          limit: z.int().min(0).describe('The whole limit, not what is added to it'),
          until: end.describe('The limit of the plan is in force again from then on'),
          reason: reason.optional(),
        }),
        response: { 200: quotaSchema },
      },
    },
    async (request) => quotaView(await increaseQuota(request.operation(), { tenant: request.params.id, ...request.body })),
  );

  app.delete(
    '/api/admin/tenants/:id/quotas/:quota',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags,
        operationId: 'revokeIncrease',
        summary: 'End a temporary increase now',
        params: tenantParams.extend({ quota: quotaName }),
        querystring: z.strictObject({ reason: reason.optional() }),
        response: { 200: quotaSchema },
      },
    },
    async (request) => {
      const { id: tenant, quota } = request.params;
      const state = await revokeIncrease(request.operation(), { tenant, quota, ...request.query });
      if (!state) throw problem('not_found');
      return quotaView(state);
    },
  );

  app.post(
    '/api/admin/tenants/:id/rate-limit',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags,
        operationId: 'setRateLimit',
        summary: 'Give a tenant a rate of its own',
        params: tenantParams,
        body: z.strictObject({ requestsPerMinute: z.int().min(1).max(rateMax), until: end.optional(), reason: reason.optional() }),
        response: { 200: rateSchema },
      },
    },
    async (request) => {
      const rate = await setRateLimit(request.operation(), { tenant: request.params.id, ...request.body });
      // This process holds it at once, the others with their next report.
      await meter.report();
      return rateView(rate);
    },
  );

  app.delete(
    '/api/admin/tenants/:id/rate-limit',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags,
        operationId: 'removeRateLimit',
        summary: "Take a tenant's own rate away",
        params: tenantParams,
        querystring: z.strictObject({ reason: reason.optional() }),
        response: { 200: rateSchema },
      },
    },
    async (request) => {
      const rate = await removeRateLimit(request.operation(), { tenant: request.params.id, ...request.query });
      if (!rate) throw problem('not_found');
      await meter.report();
      return rateView(rate);
    },
  );
}

function quotasView({ tenant, plan, quotas, rateLimit }: TenantQuotas): z.input<typeof quotasSchema> {
  return { tenantId: tenant, plan, quotas: quotas.map(quotaView), rateLimit: rateView(rateLimit) };
}

function rateView({ requestsPerMinute, override }: RateLimit): z.input<typeof rateSchema> {
  if (!override) return { requestsPerMinute, override };
  const { until, createdAt } = override;
  return { requestsPerMinute, override: { ...override, until: until?.toISOString() ?? null, createdAt: createdAt.toISOString() } };
}
