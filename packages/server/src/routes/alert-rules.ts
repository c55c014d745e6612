import {
  type AlertOverride,
  alertName,
  deleteAlertOverride,
  deleteAlertRule,
  listAlertOverrides,
  listAlertRules,
  metricNames,
  setAlertOverride,
  setAlertRule,
  showAlertRule,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { filledText, tenantId, text } from '../schemas.ts';

const tags = ['alerts'];

const threshold = z.number().positive().max(1e9);
const minutes = z.int().min(0).max(1_440);

const ruleShape = {
  title: filledText(200),
  metric: z.enum(metricNames),
  quota: text(40).min(1).nullable().describe('Of metric quota: which; null for each that has no rule of its own'),
  warning: threshold.describe('Per cent, or milliseconds'),
  critical: threshold,
  windowMinutes: minutes.min(1).describe('How far back metrics of requests look'),
  minCalls: z.int().min(0).max(1e9).describe('Fewer requests in the window say nothing'),
  forMinutes: minutes.describe('How long the value must be over a threshold before the alert opens'),
  clearMinutes: minutes.describe('How long it must be below before the alert is resolved'),
  enabled: z.boolean(),
};

const ruleSchema = z.object({ name: alertName, ...ruleShape });

const ruleBody = z.strictObject({
  ...ruleShape,
  quota: ruleShape.quota.default(null),
  windowMinutes: ruleShape.windowMinutes.default(5),
  minCalls: ruleShape.minCalls.default(20),
  forMinutes: ruleShape.forMinutes.default(0),
  clearMinutes: ruleShape.clearMinutes.default(5),
  enabled: z.boolean().default(true),
});

const overrideSchema = z.object({
  rule: alertName,
  tenantId: z.string(),
  warning: z.number().nullable().describe('Null: as the rule says'),
  critical: z.number().nullable(),
  enabled: z.boolean().nullable(),
});

const overrideBody = z.strictObject({
  warning: threshold.nullable().default(null),
  critical: threshold.nullable().default(null),
  enabled: z.boolean().nullable().default(null),
});

const ruleParams = z.strictObject({ name: alertName });
const overrideParams = z.strictObject({ name: alertName, tenantId });

/** Alert rules, and what holds for single tenants instead. */
export function registerAlertRules(instance: FastifyInstance): void {
  registerRules(instance);
  registerOverrides(instance);
}

function registerRules(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const config = { access: 'super_admin' } as const;
  app.get(
    '/api/admin/alert-rules',
    {
      config,
      schema: {
        tags,
        operationId: 'listAlertRules',
        summary: 'Alert rules: at most a hundred, on one page',
        response: { 200: pageSchema(ruleSchema) },
      },
    },
    async (request) => ({ items: await listAlertRules(request.operation()), nextCursor: null }),
  );
  app.get(
    '/api/admin/alert-rules/:name',
    { config, schema: { tags, operationId: 'getAlertRule', summary: 'One alert rule', params: ruleParams, response: { 200: ruleSchema } } },
    async (request) => showAlertRule(request.operation(), request.params.name),
  );
  app.put(
    '/api/admin/alert-rules/:name',
    {
      config,
      schema: {
        tags,
        operationId: 'setAlertRule',
        summary: 'Add an alert rule, or replace it',
        params: ruleParams,
        body: ruleBody,
        response: { 200: ruleSchema, 201: ruleSchema },
      },
    },
    async (request, reply) => {
      const { rule, created } = await setAlertRule(request.operation(), { ...request.body, name: request.params.name });
      return reply.code(created ? 201 : 200).send(rule);
    },
  );
  app.delete(
    '/api/admin/alert-rules/:name',
    {
      config,
      schema: {
        tags,
        operationId: 'deleteAlertRule',
        summary: 'Remove an alert rule; its alerts end with the next evaluation',
        params: ruleParams,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await deleteAlertRule(request.operation(), request.params.name);
      return reply.code(204).send(null);
    },
  );
}

function registerOverrides(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const config = { access: 'super_admin' } as const;
  app.get(
    '/api/admin/alert-rules/:name/tenants',
    {
      config,
      schema: {
        tags,
        operationId: 'listAlertOverrides',
        summary: 'Tenants for which other thresholds hold',
        params: ruleParams,
        querystring: pageQuery,
        response: { 200: pageSchema(overrideSchema) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const after = decodeCursor(z.string(), cursor);
      const overrides = await listAlertOverrides(request.operation(), { rule: request.params.name, after, limit: limit + 1 });
      return pageOf(overrides.map(toAnswer), limit, (last) => last.tenantId);
    },
  );
  app.put(
    '/api/admin/alert-rules/:name/tenants/:tenantId',
    {
      config,
      schema: {
        tags,
        operationId: 'setAlertOverride',
        summary: 'Set other thresholds for one tenant',
        params: overrideParams,
        body: overrideBody,
        response: { 200: overrideSchema },
      },
    },
    async (request) => {
      const { name, tenantId: tenant } = request.params;
      return toAnswer(await setAlertOverride(request.operation(), { ...request.body, rule: name, tenant }));
    },
  );
  app.delete(
    '/api/admin/alert-rules/:name/tenants/:tenantId',
    {
      config,
      schema: {
        tags,
        operationId: 'deleteAlertOverride',
        summary: 'Put a tenant back under the rule as it is',
        params: overrideParams,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await deleteAlertOverride(request.operation(), { rule: request.params.name, tenant: request.params.tenantId });
      return reply.code(204).send(null);
    },
  );
}

function toAnswer({ tenant, ...override }: AlertOverride): z.input<typeof overrideSchema> {
  return { ...override, tenantId: tenant };
}
