import { once } from 'node:events';
import { Readable } from 'node:stream';
import { exportDocument, exportTenant, importTenant } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { clientGone } from '../client-gone.ts';
import type { ServerOptions } from '../plugin.ts';
import { problem } from '../problem.ts';
import { tenantId, time } from '../schemas.ts';

/** A tenant of any size, over any line. */
const handlerTimeout = 12 * 3_600_000;
/** A client that neither takes nor sends anything for so long is gone; it holds a snapshot or a transaction. */
const stallTimeoutMs = 120_000;

const tags = ['tenants'];

const changeSchema = z.object({ table: z.string(), inserted: z.int(), updated: z.int(), deleted: z.int(), unchanged: z.int() });
const reportSchema = z.object({
  tenant: z.string(),
  exportedAt: time,
  applied: z.boolean().describe('False for a dry run'),
  tables: z.array(changeSchema).describe('Rows by what was done with them, or would be'),
  corrected: z.int().describe('Further changes that put right what triggers and cascades had changed'),
  triggers: z.array(z.string()).describe('Triggers of the application that fire: `schema.table: name (function)`'),
  sha256: z.string().describe('Hash of the tenant’s content, as in the trailer of the export'),
  hashEqual: z.boolean().nullable().describe('Whether the rows, read again after the change, hash to the same; null for a dry run'),
});

/** Export and restore of one tenant as JSON, streamed past the limit of bodies. */
export function registerTransfer(instance: FastifyInstance, _options: ServerOptions): void {
  // Without the types of its answer, which is a stream of it.
  instance.get(
    '/api/tenants/export',
    {
      config: { access: 'tenant_admin', tenant: 'query' },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'exportTenant',
        summary: 'Export everything of a tenant as JSON',
        description: 'Streamed. A document without a trailer was cut short; the connection ends with it.',
        querystring: z.strictObject({ tenantId: tenantId.optional() }),
        response: { 200: exportDocument.describe('See docs/formats/tenant-export.md') },
      },
    },
    async (request, reply) => {
      if (request.tenant === null) throw problem('not_found');
      const operation = { ...request.operation(), signal: clientGone(reply) };
      const document = Readable.from(exportTenant(operation, { tenant: request.tenant }), { objectMode: false });
      // What can be refused fails before the first piece, and still has a status.
      await once(document, 'readable');
      reply.raw.setTimeout(stallTimeoutMs, () => {
        if (reply.raw.writableNeedDrain) reply.raw.destroy();
      });
      return reply.type('application/json').header('content-disposition', 'attachment; filename="tenant-export.json"').send(document);
    },
  );
  instance.register(async (streamed) => registerRestore(streamed));
}

/** In a scope of its own, in which a body is handed on as it arrives. */
function registerRestore(instance: FastifyInstance): void {
  instance.removeAllContentTypeParsers();
  instance.addContentTypeParser('application/json', (_request, payload, done) => done(null, payload));
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.post(
    '/api/admin/tenants/restore',
    {
      config: { access: 'super_admin', tenant: 'none', idempotent: false },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'importTenant',
        summary: 'Restore a tenant from its export',
        description: 'Changes only what differs, in one transaction. The tenant must be there; nobody enters it meanwhile.',
        querystring: z.strictObject({ dryRun: z.enum(['true', 'false']).optional().describe('true: only say what would change') }),
        body: z.unknown().describe('An export: docs/formats/tenant-export.md. Of any size'),
        response: { 200: reportSchema },
      },
    },
    async (request, reply) => {
      const { body } = request;
      if (!(body instanceof Readable)) throw problem('invalid_request', { fields: [{ field: 'body', message: 'is an export of a tenant' }] });
      reply.raw.setTimeout(stallTimeoutMs, () => {
        if (!body.readableEnded) reply.raw.destroy();
      });
      try {
        const report = await importTenant({ ...request.operation(), signal: clientGone(reply) }, { source: body, dryRun: request.query.dryRun === 'true' });
        return { ...report, tables: [...report.tables], triggers: [...report.triggers] };
      } catch (error) {
        // The rest of what was refused is not read to its end.
        if (!body.readableEnded) reply.header('connection', 'close');
        throw error;
      }
    },
  );
}
