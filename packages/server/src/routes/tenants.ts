import {
  cancelTenant,
  holdTenant,
  listTenants,
  provisionTenant,
  reactivateTenant,
  restoreTenant,
  showTenant,
  suspendTenant,
  type TenantCursor,
  tenantOrders,
  tenantStatuses,
  unholdTenant,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { hashPassword } from '../people/better-auth.ts';
import { passwordLength } from '../people/people-options.ts';
import { filledText, optionalBody, reason, tenantParams, text, time } from '../schemas.ts';
import { tenantAnswer, tenantFields, tenantSchema } from './tenants-schemas.ts';

const tags = ['tenants'];
const nameCharactersMax = 200;
const emailCharactersMax = 254;

const email = text(emailCharactersMax).pipe(z.email());

const provisionBody = z.strictObject({
  name: filledText(nameCharactersMax),
  contactEmail: email,
  adminName: filledText(nameCharactersMax),
  adminEmail: email,
  adminPassword: text(passwordLength.max).min(passwordLength.min).describe('Not looked at where the person can sign in already'),
  plan: text(40).min(1).default('free'),
});

const provisioned = z.object({ tenant: tenantSchema, created: z.boolean().describe('False where the same request made it before') });

const transitioned = z.object({
  tenant: tenantSchema,
  changed: z.boolean().describe('False where it was so already'),
  endedSessions: z.int().describe('Sessions that were inside the tenant and did not leave by themselves'),
});

const reasonBody = optionalBody(z.strictObject({ reason: reason.optional() }));

const cursorKeys = {
  created: z.object({ at: z.int(), id: text(300) }),
  name: z.object({ at: text(300), id: text(300) }),
};

/** The life of tenants; how they are deleted is in tenants-delete.ts. */
export function registerTenants(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.post(
    '/api/admin/tenants/provision',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'provisionTenant',
        summary: 'Make a tenant with its first admin and its plan',
        description: 'All or nothing. The same request again finds the tenant that the first one made and answers 200.',
        body: provisionBody,
        response: { 200: provisioned, 201: provisioned },
      },
    },
    async (request, reply) => {
      const { adminPassword, ...asked } = request.body;
      const { tenant, created } = await provisionTenant(request.operation(), { ...asked, hashPassword: () => hashPassword(adminPassword) });
      return reply.code(created ? 201 : 200).send({ tenant: tenantAnswer(tenant), created });
    },
  );

  app.get(
    '/api/admin/tenants',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listTenants',
        summary: 'List and search tenants',
        querystring: z.strictObject({
          ...pageQuery.shape,
          search: text(nameCharactersMax).min(1).optional().describe('Part of the name or contact address, or the beginning of the key'),
          status: z.enum(tenantStatuses).optional(),
          plan: text(40).optional(),
          sort: z.enum(tenantOrders).default('created').describe('created: latest first'),
        }),
        response: { 200: pageSchema(tenantSchema) },
      },
    },
    async (request) => {
      const { limit, cursor, sort, ...filters } = request.query;
      const after = decodeCursor<z.ZodType<TenantCursor>>(cursorKeys[sort], cursor);
      const rows = await listTenants(request.operation(), { ...filters, limit, order: sort, ...(after && { after }) });
      const page = pageOf(rows, limit, (last) => last.cursor);
      return { items: page.items.map(tenantAnswer), nextCursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/tenants/:id',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'getTenant',
        summary: 'Show a tenant',
        params: tenantParams,
        response: {
          200: z.object({
            ...tenantFields,
            wall: z.object({ state: z.string(), placement: z.string().nullable() }).nullable().describe('What the database says, which keeps it in or out'),
          }),
        },
      },
    },
    async (request) => {
      const tenant = await showTenant(request.operation(), request.params.id);
      return { ...tenantAnswer(tenant), wall: tenant.wall };
    },
  );

  const transitions = {
    suspend: { act: suspendTenant, summary: 'Keep a tenant out at once: sessions, API keys, jobs and raw SQL' },
    reactivate: { act: reactivateTenant, summary: 'Let a suspended tenant in again, or a cancelled one that is still retained' },
    cancel: { act: cancelTenant, summary: 'End a subscription; the tenant is kept out and retained as long as its plan says' },
    restore: { act: restoreTenant, summary: 'Bring back a tenant that was softly deleted and is still retained' },
  };
  for (const [name, { act, summary }] of Object.entries(transitions)) {
    app.post(
      `/api/admin/tenants/:id/${name}`,
      {
        config: { access: 'super_admin' },
        schema: { tags, operationId: `${name}Tenant`, summary, params: tenantParams, body: reasonBody, response: { 200: transitioned } },
      },
      async (request) => {
        const { tenant, changed, ended } = await act(request.operation(), { tenant: request.params.id, reason: request.body.reason });
        return { tenant: tenantAnswer(tenant), changed, endedSessions: ended };
      },
    );
  }

  const hold = z.object({ tenant: tenantSchema, since: time.nullable() });
  app.put(
    '/api/admin/tenants/:id/legal-hold',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'holdTenant',
        summary: 'Keep a tenant from being deleted, until the hold is lifted',
        params: tenantParams,
        body: z.strictObject({ reason: reason.regex(/\S/, 'is empty') }),
        response: { 200: hold },
      },
    },
    async (request) => {
      const tenant = await holdTenant(request.operation(), { tenant: request.params.id, reason: request.body.reason });
      return { tenant: tenantAnswer(tenant), since: tenant.hold?.since.toISOString() ?? null };
    },
  );
  app.delete(
    '/api/admin/tenants/:id/legal-hold',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'unholdTenant',
        summary: 'Lift a legal hold',
        params: tenantParams,
        body: z.strictObject({ reason: reason.regex(/\S/, 'is empty') }),
        response: { 200: hold },
      },
    },
    async (request) => {
      const tenant = await unholdTenant(request.operation(), { tenant: request.params.id, reason: request.body.reason });
      return { tenant: tenantAnswer(tenant), since: tenant.hold?.since.toISOString() ?? null };
    },
  );
}
