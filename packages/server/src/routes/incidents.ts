import { appendAudit, readTenant, recordNote, tenantContacts } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { SendMail } from '../people/people-options.ts';
import { problem } from '../problem.ts';
import { filledText, tenantId, tenantParams } from '../schemas.ts';

const noteBody = z.strictObject({
  tenantId: tenantId.optional().describe('The tenant it is about; without one it goes to the log of the platform'),
  note: filledText(4_000),
});
const noticeBody = z.strictObject({ subject: filledText(200).regex(/^[^\r\n]*$/, 'is one line'), text: filledText(20_000) });

/** The end of an incident: the tenant is told, and what was found is on record. */
export function registerIncidents(instance: FastifyInstance, mail: SendMail | undefined): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.post(
    '/api/audit-logs',
    {
      config: { access: 'super_admin' },
      schema: {
        tags: ['audit'],
        operationId: 'recordNote',
        summary: 'Write a note into the audit log',
        body: noteBody,
        response: { 201: z.object({ tenantId: z.string().nullable(), seq: z.string() }) },
      },
    },
    async (request, reply) => {
      const { tenantId: tenant, note } = request.body;
      const operation = request.operation();
      if (tenant !== undefined) await readTenant(operation.database.pool, tenant);
      const seq = await recordNote(operation, { tenant: tenant ?? null, note });
      return reply.code(201).send({ tenantId: tenant ?? null, seq });
    },
  );

  app.post(
    '/api/admin/tenants/:id/notify',
    {
      config: { access: 'super_admin', tenant: 'path' },
      schema: {
        tags: ['tenants'],
        operationId: 'notifyTenant',
        summary: 'Write to the contact and the admins of a tenant',
        params: tenantParams,
        body: noticeBody,
        response: { 200: z.object({ recipients: z.int().describe('Addresses that the mail server took it for') }) },
      },
    },
    async (request) => {
      if (!mail) throw problem('mail_unavailable');
      const { id: tenant } = request.params;
      const { subject, text } = request.body;
      const operation = request.operation();
      const contacts = await tenantContacts(operation, tenant);
      // One message each: nobody learns the addresses of the others.
      const results = await Promise.allSettled(contacts.map((to) => mail({ to, subject, text })));
      const recipients = results.filter(({ status }) => status === 'fulfilled').length;
      await appendAudit(operation.database.pool, operation, {
        tenant,
        action: 'tenant.notify',
        reason: subject,
        details: { contacts: contacts.length, recipients },
      });
      if (recipients < contacts.length) request.log.warn({ tenant, failed: contacts.length - recipients }, 'a notice could not be handed over');
      if (recipients === 0 && contacts.length > 0) throw problem('mail_unavailable');
      return { recipients };
    },
  );
}
