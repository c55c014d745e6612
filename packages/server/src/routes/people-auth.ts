import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { authHeaders, changeOwn, refusal, setCookies } from '../people/auth-call.ts';
import { inTransaction } from '../people/better-auth.ts';
import { refuseForeignPage } from '../people/origin.ts';
import { throughPasswordGate } from '../people/password-gate.ts';
import type { People } from '../people/people.ts';
import { passwordLength } from '../people/people-options.ts';
import { signSessionToken } from '../people/session-token.ts';
import { recordRefusal, signIn, throttled } from '../people/sign-in.ts';
import { forgiveAttempt } from '../people/sign-in-throttle.ts';
import { Problem, problem } from '../problem.ts';
import { optionalBody, tenantId, text, time } from '../schemas.ts';

const tags = ['sign-in'];
const token = text(512).min(1);
/** What may be a password of somebody; what may become one is bounded from below too. */
const password = text(passwordLength.max).min(1);

const userSchema = z.object({ id: z.string(), name: z.string(), email: z.string() });
const signedInSchema = z.object({ token: z.string().describe('For `Authorization: Bearer`; a browser uses the cookie'), user: userSchema });
const sessionSchema = z.object({
  id: z.string(),
  token: z.string().describe('Names the session to /api/auth/revoke-session; it is no credential'),
  expiresAt: time,
  createdAt: time,
  ipAddress: z.string().nullable(),
  userAgent: z.string().nullable(),
  activeOrganizationId: z.string().nullable(),
});
const organizationSchema = z.object({ id: z.string(), name: z.string(), slug: z.string() });
const doneSchema = z.object({ success: z.literal(true) });

/**
 * Better Auth's routes, as far as they are there: those of a person's own sign-in. Who belongs to a tenant is for `/api/tenants/...`; whatever
 * else Better Auth could answer under `/api/auth` is not found, because nothing here passes a request on to it.
 */
export function registerAuth(instance: FastifyInstance, people: People): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const { auth, database, secret } = people;
  const own = { config: { access: 'signed_in', counted: false, idempotent: false } } as const;

  app.post(
    '/api/auth/sign-in/email',
    {
      config: { access: 'public', counted: false, idempotent: false, guessable: true },
      schema: {
        tags,
        operationId: 'signIn',
        summary: 'Sign in with e-mail address and password',
        body: z.strictObject({ email: z.email().max(254), password, rememberMe: z.boolean().optional() }),
        response: { 200: signedInSchema },
      },
    },
    (request, reply) => {
      refuseForeignPage(request, people.origins);
      return signIn(request, reply, people, request.body);
    },
  );

  app.post(
    '/api/auth/sign-out',
    { ...own, schema: { tags, operationId: 'signOut', summary: 'End this session', body: optionalBody(z.strictObject({})), response: { 200: doneSchema } } },
    async (request, reply) => {
      await changeOwn(request, reply, people, { tenant: null, action: 'sign_out' }, (headers) => auth.api.signOut({ headers, returnHeaders: true }));
      return { success: true as const };
    },
  );

  app.get(
    '/api/auth/get-session',
    {
      config: { access: 'public', counted: false },
      schema: {
        tags,
        operationId: 'getSession',
        summary: 'This session, prolonged if it is due; null without one',
        response: { 200: z.object({ session: sessionSchema.omit({ token: true }), user: userSchema }).nullable() },
      },
    },
    async (request, reply) => {
      const answer = await inTransaction(database.pool, () => auth.api.getSession({ headers: authHeaders(request, people), returnHeaders: true }));
      setCookies(reply, answer.headers);
      const found = answer.response;
      return found && { session: sessionOf(found.session), user: found.user };
    },
  );

  app.get(
    '/api/auth/list-sessions',
    { ...own, schema: { tags, operationId: 'listSessions', summary: 'The sessions of the person who asks', response: { 200: z.array(sessionSchema) } } },
    async (request) => {
      const sessions = await auth.api.listSessions({ headers: authHeaders(request, people) }).catch(refusal);
      return sessions.map(sessionOf);
    },
  );

  app.post(
    '/api/auth/revoke-session',
    {
      ...own,
      schema: { tags, operationId: 'revokeSession', summary: 'End one of your sessions', body: z.strictObject({ token }), response: { 200: doneSchema } },
    },
    async (request, reply) => {
      const { body } = request;
      await changeOwn(request, reply, people, { tenant: null, action: 'session.revoke' }, (headers) =>
        auth.api.revokeSession({ headers, body, returnHeaders: true }),
      );
      return { success: true as const };
    },
  );

  app.post(
    '/api/auth/revoke-other-sessions',
    {
      ...own,
      schema: {
        tags,
        operationId: 'revokeOtherSessions',
        summary: 'End all of your sessions but this one',
        body: optionalBody(z.strictObject({})),
        response: { 200: doneSchema },
      },
    },
    async (request, reply) => {
      await changeOwn(request, reply, people, { tenant: null, action: 'session.revoke_others' }, (headers) =>
        auth.api.revokeOtherSessions({ headers, returnHeaders: true }),
      );
      return { success: true as const };
    },
  );

  app.post(
    '/api/auth/change-password',
    {
      config: { ...own.config, guessable: true },
      schema: {
        tags,
        operationId: 'changePassword',
        summary: 'Change your password; every other session ends, and this one goes on under a new token',
        body: z.strictObject({ currentPassword: password, newPassword: text(passwordLength.max).min(passwordLength.min) }),
        response: { 200: signedInSchema },
      },
    },
    async (request, reply) => {
      const { rows } = await database.pool.query<{ email: string }>('select "email" from partywall_people."user" where "id" = $1', [
        request.operation().actor.id,
      ]);
      const account = rows[0]?.email ?? '';
      await throttled(request, reply, people, account);
      const body = { ...request.body, revokeOtherSessions: true };
      const changed = await throughPasswordGate(() =>
        changeOwn(request, reply, people, { tenant: null, action: 'password.change' }, (headers) =>
          auth.api.changePassword({ headers, body, returnHeaders: true }),
        ),
      ).catch(async (error: unknown) => {
        if (error instanceof Problem && error.status === 400) await recordRefusal(request, people, account, 'credentials');
        throw error;
      });
      await forgiveAttempt(database.pool, { account, address: request.ip });
      return { token: signSessionToken(changed.token ?? '', secret), user: changed.user };
    },
  );

  app.get(
    '/api/auth/organization/list',
    { ...own, schema: { tags, operationId: 'listOrganizations', summary: 'The tenants you belong to', response: { 200: z.array(organizationSchema) } } },
    (request) => auth.api.listOrganizations({ headers: authHeaders(request, people) }).catch(refusal),
  );

  app.post(
    '/api/auth/organization/set-active',
    {
      ...own,
      schema: {
        tags,
        operationId: 'setActiveOrganization',
        summary: 'Choose the tenant that this session acts on; null for none',
        body: z.strictObject({ organizationId: tenantId.nullable() }),
        response: { 200: organizationSchema.nullable() },
      },
    },
    async (request, reply) => {
      const { organizationId } = request.body;
      if (organizationId !== null && !request.principal?.memberships.has(organizationId)) {
        await app.denials.recordForeign(request.operation(), organizationId, 'session.set_active');
        throw problem('not_found');
      }
      const entry = { tenant: organizationId, action: 'session.set_active' };
      return changeOwn(request, reply, people, entry, (headers) => auth.api.setActiveOrganization({ headers, body: { organizationId }, returnHeaders: true }));
    },
  );
}

interface SessionRow {
  readonly id: string;
  readonly token: string;
  readonly expiresAt: Date;
  readonly createdAt: Date;
  readonly ipAddress?: string | null | undefined;
  readonly userAgent?: string | null | undefined;
  readonly activeOrganizationId?: unknown;
}

function sessionOf(session: SessionRow): z.input<typeof sessionSchema> {
  const { id, token: name, activeOrganizationId: active } = session;
  return {
    id,
    token: name,
    expiresAt: session.expiresAt.toISOString(),
    createdAt: session.createdAt.toISOString(),
    ipAddress: session.ipAddress ?? null,
    userAgent: session.userAgent ?? null,
    activeOrganizationId: typeof active === 'string' ? active : null,
  };
}
