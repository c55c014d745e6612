import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { accept } from '../people/accept.ts';
import { findMe } from '../people/me.ts';
import type { People } from '../people/people.ts';
import { passwordLength } from '../people/people-options.ts';
import { filledText, text } from '../schemas.ts';

const tags = ['people'];
const roleSchema = z.enum(['admin', 'member']);

const meSchema = z.object({
  id: z.string(),
  name: z.string(),
  email: z.string(),
  superAdmin: z.boolean(),
  activeTenant: z.string().nullable().describe('The tenant that this session has chosen'),
  memberships: z.array(z.object({ tenantId: z.string(), name: z.string(), role: roleSchema, status: z.string() })),
});

const acceptedSchema = z.object({ userId: z.string(), email: z.string(), tenantId: z.string(), tenantName: z.string(), role: roleSchema });

/** Who asks, and how one becomes somebody. */
export function registerMe(instance: FastifyInstance, people: People): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.get(
    '/api/me',
    {
      config: { access: 'signed_in', counted: false },
      schema: { tags, operationId: 'getMe', summary: 'Who you are, and the tenants you belong to', response: { 200: meSchema } },
    },
    async (request) => {
      const me = await findMe(people.database.pool, request.operation().actor.id);
      return { ...me, memberships: [...me.memberships], activeTenant: request.principal?.activeTenant ?? null };
    },
  );

  app.post(
    '/api/invitations/accept',
    {
      config: { access: 'public', counted: false, idempotent: false, guessable: true },
      schema: {
        tags,
        operationId: 'acceptInvitation',
        summary: 'Accept an invitation: as yourself when you have an account, else with a name and a password for a new one',
        body: z.strictObject({
          token: text(512).min(1),
          name: filledText(200).optional(),
          password: text(passwordLength.max).min(passwordLength.min).optional(),
        }),
        response: { 200: acceptedSchema },
      },
    },
    async (request, reply) => {
      const { user, invitation } = await accept(request, reply, people, request.body);
      const { email, tenant, tenantName, role } = invitation;
      return { userId: user, email, tenantId: tenant, tenantName, role };
    },
  );
}
