import {
  awaitOperation,
  type Durable,
  deleteTenant,
  engineErrors,
  eraseTenant,
  listCertificates,
  listOperations,
  PartywallError,
  readCertificate,
  readOperation,
  verifyCertificate,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { optionalBody, reason, tenantId, tenantParams, text } from '../schemas.ts';
import { certificateAnswer, certificateSchema, operationAnswer, operationSchema, tenantAnswer, tenantSchema } from './tenants-schemas.ts';

const tags = ['tenants'];
/** A small tenant is gone in this time, and whoever asked sees the certificate at once. */
const erasureWaitMs = 5_000;

const deleteBody = optionalBody(
  z.strictObject({
    hardDelete: z.boolean().default(false).describe('Erase for good, which cannot be undone'),
    force: z.boolean().default(false).describe('Erase although the retention has not ended; never under a legal hold'),
    reason: reason.optional(),
  }),
);

const deleted = z.object({ tenant: tenantSchema, changed: z.boolean(), endedSessions: z.int() });
const operationKey = z.object({ at: z.int(), id: z.uuid() });
const erased = z.object({ operation: operationSchema, certificate: certificateSchema });

/** Soft and hard deletion, the certificates of the latter, and the operations that take time. */
export function registerTenantDeletion(instance: FastifyInstance, durable: Durable): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.post(
    '/api/admin/tenants/:id/delete',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'deleteTenant',
        summary: 'Delete a tenant: softly, or for good',
        description:
          'Softly: the tenant is kept out and can be restored while its retention lasts. `hardDelete`: erased for good, after the retention or with `force`; ' +
          '200 with the certificate where it is gone within seconds, 202 with the operation to ask for where it takes longer, 409 where it stopped.',
        params: tenantParams,
        body: deleteBody,
        response: { 200: z.union([erased, deleted]), 202: z.object({ operation: operationSchema }) },
      },
    },
    async (request, reply) => {
      const operation = request.operation();
      const { hardDelete, force, ...why } = request.body;
      const input = { tenant: request.params.id, ...why };
      if (!hardDelete) {
        const { tenant, changed, ended } = await deleteTenant(operation, input);
        return reply.code(200).send({ tenant: tenantAnswer(tenant), changed, endedSessions: ended });
      }
      const { id } = await eraseTenant(operation, durable, { ...input, force }).catch(asRefusal);
      const now = await awaitOperation(operation, id, { timeoutMs: erasureWaitMs });
      if (now.state === 'failed') {
        throw new PartywallError('erasure_refused', now.error ?? 'the erasure failed', {
          extra: { operationId: id },
          hint: 'the tenant stays kept out; mend what the message names, then ask again',
        });
      }
      if (now.state === 'running') return reply.code(202).send({ operation: operationAnswer(now) });
      const certificate = await readCertificate(operation, request.params.id);
      return reply.code(200).send({ operation: operationAnswer(now), certificate: certificateAnswer(certificate) });
    },
  );

  app.get(
    '/api/admin/certificates',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listCertificates',
        summary: 'Certificates of erasure, latest first',
        querystring: pageQuery,
        response: { 200: pageSchema(certificateSchema) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const page = pageOf(
        await listCertificates(request.operation(), { limit, before: decodeCursor(z.int().positive(), cursor) }),
        limit,
        ({ body }) => body.number,
      );
      return { items: page.items.map(certificateAnswer), nextCursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/certificates/:tenantId',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'getCertificate',
        summary: 'The certificate of an erased tenant, and whether it holds',
        params: z.strictObject({ tenantId }),
        response: {
          200: z.object({
            certificate: certificateSchema,
            valid: z.boolean(),
            problem: z.string().nullable().describe('Why it does not hold'),
            publicKey: z.string().nullable().describe('PEM; null where the keyring lacks the key'),
          }),
        },
      },
    },
    async (request) => {
      const certificate = await readCertificate(request.operation(), request.params.tenantId);
      return { certificate: certificateAnswer(certificate), ...(await verifyCertificate(request.operation(), certificate)) };
    },
  );

  app.get(
    '/api/admin/operations',
    {
      config: { access: 'super_admin' },
      schema: {
        tags: ['operations'],
        operationId: 'listOperations',
        summary: 'Operations that take time, latest first',
        querystring: z.strictObject({ ...pageQuery.shape, state: z.enum(['running', 'done', 'failed']).optional(), tenant: tenantId.optional() }),
        response: { 200: pageSchema(operationSchema) },
      },
    },
    async (request) => {
      const { limit, cursor, ...filters } = request.query;
      const after = decodeCursor(operationKey, cursor);
      const page = pageOf(await listOperations(request.operation(), { ...filters, limit, ...(after && { after }) }), limit, (last) => last.cursor);
      return { items: page.items.map(operationAnswer), nextCursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/operations/:id',
    {
      config: { access: 'super_admin' },
      schema: {
        tags: ['operations'],
        operationId: 'getOperation',
        summary: 'How far an operation is',
        params: z.strictObject({ id: text(100).min(1) }),
        response: { 200: operationSchema },
      },
    },
    async (request) => operationAnswer(await readOperation(request.operation().database.pool, request.params.id)),
  );
}

/** What keeps the backups from being erased (keyring, escrow, archive) is told to whoever asked; nothing has happened then. */
function asRefusal(error: unknown): never {
  if (!(error instanceof PartywallError) || 'status' in engineErrors[error.code]) throw error;
  throw new PartywallError('erasure_refused', error.message, { cause: error, hint: error.hint });
}
