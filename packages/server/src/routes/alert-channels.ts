import {
  alertName,
  type ControlDatabase,
  channelChange,
  channelConfig,
  channelKinds,
  deleteAlertChannel,
  enqueueTest,
  listAlertChannels,
  listDeliveries,
  setAlertChannel,
  severities,
  showAlertChannel,
  showDelivery,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type DeliveryOptions, deliverDue } from '../delivery/deliver.ts';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { time } from '../schemas.ts';

const tags = ['alerts'];

const channelSchema = z.object({
  name: alertName,
  kind: z.enum(channelKinds),
  severities: z.array(z.enum(severities)),
  rules: z.array(z.string()).nullable().describe('Null: all'),
  tenants: z.array(z.string()).nullable().describe('Null: all, and the system as a whole'),
  enabled: z.boolean(),
  shown: z.string().describe('Origin of the address, or the recipients; the rest of a target is never shown'),
  changedAt: time,
});

const deliverySchema = z.object({
  id: z.uuid().describe('The `Idempotency-Key` of the message'),
  channel: z.string(),
  alertId: z.uuid().nullable(),
  event: z.enum(['opened', 'escalated', 'resolved', 'digest', 'test']),
  status: z.enum(['waiting', 'delivered', 'failed']),
  attempts: z.int(),
  failure: z.string().nullable().describe('Why the last attempt failed'),
  createdAt: time,
  dueAt: time.nullable().describe('When it is tried next, while it waits'),
  finishedAt: time.nullable(),
});

const params = z.strictObject({ name: alertName });

/** Where alerts are told, and what became of the messages. */
export function registerAlertChannels(instance: FastifyInstance, database: ControlDatabase, how: DeliveryOptions): void {
  registerChannels(instance);
  registerDeliveries(instance, database, how);
}

function registerChannels(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const config = { access: 'super_admin' } as const;
  app.get(
    '/api/admin/alert-channels',
    {
      config,
      schema: {
        tags,
        operationId: 'listAlertChannels',
        summary: 'Channels that alerts are told on: at most fifty, on one page',
        response: { 200: pageSchema(channelSchema) },
      },
    },
    async (request) => ({ items: (await listAlertChannels(request.operation())).map(toAnswer), nextCursor: null }),
  );
  app.get(
    '/api/admin/alert-channels/:name',
    { config, schema: { tags, operationId: 'getAlertChannel', summary: 'One channel', params, response: { 200: channelSchema } } },
    async (request) => toAnswer(await showAlertChannel(request.operation(), request.params.name)),
  );
  app.put(
    '/api/admin/alert-channels/:name',
    {
      config,
      schema: {
        tags,
        operationId: 'setAlertChannel',
        summary: 'Add a channel, or change it; a target that is left out stays as it is',
        params,
        body: channelConfig,
        response: { 200: channelSchema, 201: channelSchema },
      },
    },
    async (request, reply) => {
      const { channel, created } = await setAlertChannel(request.operation(), channelChange(request.params.name, request.body));
      return reply.code(created ? 201 : 200).send(toAnswer(channel));
    },
  );
  app.delete(
    '/api/admin/alert-channels/:name',
    {
      config,
      schema: {
        tags,
        operationId: 'deleteAlertChannel',
        summary: 'Remove a channel, with what is on its way through it',
        params,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await deleteAlertChannel(request.operation(), request.params.name);
      return reply.code(204).send(null);
    },
  );
}

function registerDeliveries(instance: FastifyInstance, database: ControlDatabase, how: DeliveryOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const config = { access: 'super_admin' } as const;
  app.post(
    '/api/admin/alert-channels/:name/test',
    {
      config,
      schema: {
        tags,
        operationId: 'testAlertChannel',
        summary: 'Send a test message now, also through a channel that is switched off',
        params,
        response: { 200: deliverySchema },
      },
    },
    async (request) => {
      const id = await enqueueTest(request.operation(), request.params.name);
      await deliverDue(database, how, { id });
      return showDelivery(database, id);
    },
  );
  app.get(
    '/api/admin/alert-deliveries',
    {
      config,
      schema: {
        tags,
        operationId: 'listAlertDeliveries',
        summary: 'Messages to channels, latest first, with what became of them',
        querystring: z.strictObject({ ...pageQuery.shape, channel: alertName.optional(), status: deliverySchema.shape.status.optional() }),
        response: { 200: pageSchema(deliverySchema) },
      },
    },
    async (request) => {
      const { limit, cursor, channel, status } = request.query;
      const before = decodeCursor(z.string().regex(/^\d{1,18}$/), cursor);
      return pageOf(await listDeliveries(request.operation(), { channel, status, before, limit: limit + 1 }), limit, ({ seq }) => seq);
    },
  );
}

/** Lists of a schema are writable, those of the engine are not. */
function toAnswer({ severities: wanted, rules, tenants, ...channel }: Awaited<ReturnType<typeof showAlertChannel>>): z.input<typeof channelSchema> {
  return { ...channel, severities: [...wanted], rules: rules && [...rules], tenants: tenants && [...tenants] };
}
