import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { type ApiKey, createApiKey, deleteApiKey, listApiKeys } from '../people/api-keys.ts';
import { forgetApiKey, type People } from '../people/people.ts';
import { filledText, tenantId, text, time } from '../schemas.ts';
import { tenantOf } from '../tenant-of.ts';

const tags = ['people'];
const idSchema = text(200).min(1);
const scopesMax = 50;
const scopeSchema = z.string().regex(/^[a-z][a-z0-9_-]{0,39}:(read|write)$/, '<resource>:read or <resource>:write');

const keySchema = z.object({
  id: z.string(),
  name: z.string(),
  start: z.string().describe('First characters of the key, to tell keys apart by'),
  scopes: z.array(z.string()),
  expiresAt: time.nullable(),
  createdAt: time,
});

/** A tenant's API keys: for programs, which act as a member of the tenant within the key's scopes. */
export function registerApiKeys(instance: FastifyInstance, people: People): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const { pool } = people.database;
  const config = { access: 'tenant_admin', tenant: 'query' } as const;
  const tenantQuery = z.strictObject({ tenantId: tenantId.optional() });

  app.get(
    '/api/tenants/api-keys',
    {
      config,
      schema: {
        tags,
        operationId: 'listApiKeys',
        summary: "A tenant's API keys, without the keys themselves",
        querystring: z.strictObject({ ...pageQuery.shape, ...tenantQuery.shape }),
        response: { 200: pageSchema(keySchema) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const after = decodeCursor(idSchema, cursor);
      return pageOf((await listApiKeys(pool, tenantOf(request), { limit, after })).map(keyOf), limit, ({ id }) => id);
    },
  );

  app.post(
    '/api/tenants/api-keys',
    {
      // The answer holds the key, which is nowhere else: not with an idempotency key either.
      config: { ...config, idempotent: false },
      schema: {
        tags,
        operationId: 'createApiKey',
        summary: 'Make an API key; this answer is the only one that holds it',
        querystring: tenantQuery,
        body: z.strictObject({ name: filledText(100), scopes: z.array(scopeSchema).min(1).max(scopesMax), expiresAt: time.optional() }),
        response: { 201: keySchema.extend({ key: z.string() }) },
      },
    },
    async (request, reply) => {
      const { key, ...made } = await createApiKey(request.operation(), { tenant: tenantOf(request), expiresAt: undefined, ...request.body });
      return reply.code(201).send({ ...keyOf(made), key });
    },
  );

  app.delete(
    '/api/tenants/api-keys/:key',
    {
      config,
      schema: {
        tags,
        operationId: 'deleteApiKey',
        summary: 'Delete an API key, which ends it at once',
        params: z.strictObject({ key: idSchema }),
        querystring: tenantQuery,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await deleteApiKey(request.operation(), tenantOf(request), request.params.key);
      forgetApiKey(people, request.params.key);
      return reply.code(204).send(null);
    },
  );
}

function keyOf({ expiresAt, createdAt, scopes, ...key }: ApiKey): z.input<typeof keySchema> {
  return { ...key, scopes: [...scopes], expiresAt: expiresAt?.toISOString() ?? null, createdAt: createdAt.toISOString() };
}
