import { changePlan, deletePlan, listPlans, planTiers, putPlan, type StoredPlan, showPlan } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { problem } from '../problem.ts';
import { filledText, reason, tenantParams, time } from '../schemas.ts';
import { quotaName, quotaSchema, quotaView } from './quota-schema.ts';

const tags = ['plans'];
const limitedMax = 50;
const rateMax = 1_000_000;
const daysMax = 36_500;

const planName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,39}$/)
  .describe('Lower-case letters, digits, - and _');

const written = {
  title: filledText(100),
  tier: z.enum(planTiers).describe('Recovery and retention promise'),
  limits: z
    .record(quotaName, z.int().min(0))
    .refine((limits) => Object.keys(limits).length <= limitedMax, `at most ${limitedMax} limits`)
    .describe('Quota → limit; a quota that is not named has none'),
  requestsPerMinute: z.int().min(1).max(rateMax).nullable().default(null).describe('Null: no limit'),
  retentionDays: z.int().min(0).max(daysMax).describe('How long a cancelled or deleted tenant can be restored'),
  auditRetentionDays: z.int().min(1).max(daysMax),
};

const planSchema = z.object({
  name: z.string(),
  title: z.string(),
  tier: z.enum(planTiers),
  limits: z.record(z.string(), z.number()),
  requestsPerMinute: z.int().nullable(),
  retentionDays: z.int(),
  auditRetentionDays: z.int(),
  changedAt: time,
  tenants: z.int().describe('How many are on it'),
});

const planParams = z.strictObject({ name: planName });

/** Plans, and which one a tenant is on. */
export function registerPlans(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.get(
    '/api/admin/plans',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listPlans',
        summary: 'All plans, which are few enough for one page',
        response: { 200: z.object({ items: z.array(planSchema), nextCursor: z.null() }) },
      },
    },
    async (request) => ({ items: (await listPlans(request.operation())).map(planView), nextCursor: null }),
  );

  app.get(
    '/api/admin/plans/:name',
    {
      config: { access: 'super_admin' },
      schema: { tags, operationId: 'getPlan', summary: 'A plan', params: planParams, response: { 200: planSchema } },
    },
    async (request) => {
      const plan = await showPlan(request.operation(), request.params.name);
      if (!plan) throw problem('not_found');
      return planView(plan);
    },
  );

  app.put(
    '/api/admin/plans/:name',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'putPlan',
        summary: 'Add a plan, or replace it for all tenants that are on it',
        params: planParams,
        body: z.strictObject(written),
        response: { 200: planSchema, 201: planSchema },
      },
    },
    async (request, reply) => {
      const { plan, created } = await putPlan(request.operation(), { name: request.params.name, ...request.body });
      return reply.code(created ? 201 : 200).send(planView(plan));
    },
  );

  app.delete(
    '/api/admin/plans/:name',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'deletePlan',
        summary: 'Delete a plan that no tenant is on',
        params: planParams,
        querystring: z.strictObject({ reason: reason.optional() }),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      if (!(await deletePlan(request.operation(), { ...request.params, ...request.query }))) throw problem('not_found');
      return reply.code(204).send(null);
    },
  );

  app.post(
    '/api/admin/tenants/:id/plan',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags,
        operationId: 'changeTenantPlan',
        summary: 'Put a tenant on another plan',
        params: tenantParams,
        body: z.strictObject({ plan: planName, reason: reason.optional() }),
        response: {
          200: z.object({
            tenantId: z.string(),
            before: z.string(),
            after: z.string(),
            exceeded: z.array(quotaSchema).describe('What the tenant has more of than the plan allows: it stays, and cannot grow'),
          }),
        },
      },
    },
    async (request) => {
      const { before, after, exceeded } = await changePlan(request.operation(), { tenant: request.params.id, ...request.body });
      return { tenantId: request.params.id, before, after, exceeded: exceeded.map(quotaView) };
    },
  );
}

function planView(plan: StoredPlan): z.input<typeof planSchema> {
  return { ...plan, limits: { ...plan.limits }, changedAt: plan.changedAt.toISOString() };
}
