import { attemptKinds, listAttempts, listBlocks, sqlState } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { problem } from '../problem.ts';
import { text, time } from '../schemas.ts';

/** Blocked sources that are shown: as many as the database blocks by itself at a time. */
const blocksMax = 1_000;

const attemptSchema = z.object({
  id: z.string(),
  at: time,
  lastAt: time,
  times: z.number().describe('Attempts that the record stands for'),
  kind: z
    .enum(attemptKinds)
    .describe('A tenant or a unit was named, a row was written; more: counted past what is told one by one; gone: their records gave way to later ones'),
  source: z.string().nullable().describe('Address or network'),
  route: z.string().nullable(),
  actor: z.string().nullable(),
  tenant: z.string().nullable().describe('Of the credential'),
  claimed: z.string().nullable().describe('What was named; no more than a claim'),
  requestId: z.string().nullable(),
});

const blockSchema = z.object({
  source: z.string(),
  blockedAt: time,
  until: time,
  active: z.boolean(),
  attempts: z.number(),
  blockedBy: z.string().nullable().describe('Operator; null where the threshold was passed'),
  reason: z.string().nullable(),
});

const filters = {
  source: text(60).min(1).optional().describe('Address, or network such as 198.51.100.0/24'),
  tenantId: text(200).min(1).optional().describe('Tenant of the credential'),
  from: time.optional(),
};
const cursorKey = z.strictObject({ at: z.string().regex(/^\d{1,18}$/), id: z.string().regex(/^\d{1,18}$/) });

/** Attempts on other tenants that the application's middlewares recorded, for whoever looks into them. */
export function registerAttempts(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    '/api/admin/attempts',
    {
      config: { access: 'super_admin' },
      schema: {
        tags: ['audit'],
        operationId: 'listAttempts',
        summary: 'Attempts on other tenants, and the sources that are blocked because of them',
        querystring: z.strictObject({ ...pageQuery.shape, ...filters }),
        response: { 200: pageSchema(attemptSchema).extend({ blocks: z.array(blockSchema).describe('Sources that are blocked now; on the first page only') }) },
      },
    },
    async (request) => {
      const { limit, cursor, source, tenantId: tenant, from } = request.query;
      const operation = request.operation();
      const after = decodeCursor(cursorKey, cursor);
      try {
        const found = await listAttempts(operation, { source, tenant, from, limit: limit + 1, after });
        const blocks = after ? [] : await listBlocks(operation, { limit: blocksMax });
        return { ...pageOf(found, limit, (last) => last.cursor), blocks };
      } catch (cause) {
        if (source === undefined || sqlState(cause)?.startsWith('22') !== true) throw cause;
        throw problem('invalid_request', { cause, fields: [{ field: 'querystring/source', message: 'is neither an address nor a network' }] });
      }
    },
  );
}
