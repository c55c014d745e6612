import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { cancelInvitation, type Invitation, invite, listInvitations } from '../people/invitations.ts';
import { listMembers, type Member, removeMember, setMemberRole } from '../people/members.ts';
import { forgetPerson, type People } from '../people/people.ts';
import { optionalBody, tenantId, text, time } from '../schemas.ts';
import { tenantOf } from '../tenant-of.ts';

const tags = ['people'];
const roleSchema = z.enum(['admin', 'member']);
const idSchema = text(200).min(1);
/** Which tenant, where it is not the session's own. */
const tenantQuery = z.strictObject({ tenantId: tenantId.optional() });
const listQuery = z.strictObject({ ...pageQuery.shape, ...tenantQuery.shape });

const memberSchema = z.object({ userId: z.string(), email: z.string(), name: z.string(), role: roleSchema, since: time });
const invitationSchema = z.object({ id: z.string(), email: z.string(), role: roleSchema, expiresAt: time, createdAt: time });
const sentSchema = invitationSchema.extend({
  link: z.string().nullable().describe('To be passed on to the invited person; null where mail is configured and brings it to them'),
});

/** Who belongs to a tenant: its admins say, and a member may leave. */
export function registerTenantPeople(instance: FastifyInstance, people: People): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const { pool } = people.database;
  const admin = { config: { access: 'tenant_admin', tenant: 'query' } } as const;

  app.get(
    '/api/tenants/members',
    {
      ...admin,
      schema: { tags, operationId: 'listMembers', summary: 'Members of a tenant', querystring: listQuery, response: { 200: pageSchema(memberSchema) } },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const after = decodeCursor(idSchema, cursor);
      return pageOf((await listMembers(pool, tenantOf(request), { limit, after })).map(memberOf), limit, ({ email }) => email);
    },
  );

  app.patch(
    '/api/tenants/members/:user',
    {
      ...admin,
      schema: {
        tags,
        operationId: 'setMemberRole',
        summary: 'Give a member another role',
        params: z.strictObject({ user: idSchema }),
        querystring: tenantQuery,
        body: z.strictObject({ role: roleSchema }),
        response: { 200: memberSchema },
      },
    },
    async (request) => {
      const { user } = request.params;
      const member = await setMemberRole(request.operation(), tenantOf(request), user, request.body.role);
      forgetPerson(people, user);
      return memberOf(member);
    },
  );

  app.delete(
    '/api/tenants/members/:user',
    {
      ...admin,
      schema: {
        tags,
        operationId: 'removeMember',
        summary: 'End a membership',
        params: z.strictObject({ user: idSchema }),
        querystring: tenantQuery,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const { user } = request.params;
      await removeMember(request.operation(), tenantOf(request), user);
      forgetPerson(people, user);
      return reply.code(204).send(null);
    },
  );

  app.post(
    '/api/tenants/leave',
    {
      config: { access: 'member', tenant: 'query', whileSuspended: true },
      schema: {
        tags,
        operationId: 'leaveTenant',
        summary: 'End your own membership',
        querystring: tenantQuery,
        body: optionalBody(z.strictObject({})),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const operation = request.operation();
      await removeMember(operation, tenantOf(request), operation.actor.id);
      forgetPerson(people, operation.actor.id);
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/api/tenants/invitations',
    {
      ...admin,
      schema: { tags, operationId: 'listInvitations', summary: 'Open invitations', querystring: listQuery, response: { 200: pageSchema(invitationSchema) } },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const after = decodeCursor(idSchema, cursor);
      return pageOf((await listInvitations(pool, tenantOf(request), { limit, after })).map(invitationOf), limit, ({ id }) => id);
    },
  );

  app.post(
    '/api/tenants/invitations',
    {
      ...admin,
      // The answer may hold the link, which is shown once and not kept for a retry; inviting twice is one invitation anyway.
      config: { ...admin.config, idempotent: false },
      schema: {
        tags,
        operationId: 'invite',
        summary: 'Invite somebody, or send their open invitation again',
        querystring: tenantQuery,
        body: z.strictObject({ email: z.email().max(254), role: roleSchema.default('member') }),
        response: { 201: sentSchema },
      },
    },
    async (request, reply) => {
      const { link, ...invitation } = await invite(request.operation(), people, { tenant: tenantOf(request), ...request.body });
      return reply.code(201).send({ ...invitationOf(invitation), link });
    },
  );

  app.delete(
    '/api/tenants/invitations/:invitation',
    {
      ...admin,
      schema: {
        tags,
        operationId: 'cancelInvitation',
        summary: 'Withdraw an invitation',
        params: z.strictObject({ invitation: idSchema }),
        querystring: tenantQuery,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await cancelInvitation(request.operation(), tenantOf(request), request.params.invitation);
      return reply.code(204).send(null);
    },
  );
}

function memberOf({ since, ...member }: Member): z.input<typeof memberSchema> {
  return { ...member, since: since.toISOString() };
}

function invitationOf({ expiresAt, createdAt, ...invitation }: Invitation): z.input<typeof invitationSchema> {
  return { ...invitation, expiresAt: expiresAt.toISOString(), createdAt: createdAt.toISOString() };
}
