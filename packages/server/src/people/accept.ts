import type { FastifyReply, FastifyRequest } from 'fastify';
import { problem } from '../problem.ts';
import { authenticate } from './authenticate.ts';
import { acceptInvitation, findInvitation, type HeldInvitation } from './invitations.ts';
import { refuseForeignOrigin } from './origin.ts';
import { throughPasswordGate } from './password-gate.ts';
import { forgetPerson, type People } from './people.ts';
import { throttled } from './sign-in.ts';

/** What is sent with an invitation's token. Name and password are for whoever has no account yet. */
export interface Acceptance {
  readonly token: string;
  readonly name?: string | undefined;
  readonly password?: string | undefined;
}

/**
 * Makes whoever holds an invitation's token a member. The address has no account: it gets one, with the given name and password. It has one:
 * the request must be that person's own, so that whoever passes a link on cannot use it in their place.
 *
 * @throws Problem not_found, unauthorized (the address has an account: sign in first), invalid_request, too_many_requests, conflict
 */
export async function accept(
  request: FastifyRequest,
  reply: FastifyReply,
  people: People,
  { token, name, password }: Acceptance,
): Promise<{ readonly user: string; readonly invitation: HeldInvitation }> {
  const held = await findInvitation(people.database.pool, token, people.secret);
  const actorOf = (user: string) => ({ actor: { kind: 'user' as const, id: user, name: held.email, address: request.ip }, requestId: request.id });
  if (held.user !== undefined) {
    const principal = await authenticate(request, people);
    if (principal?.byCookie) refuseForeignOrigin(request, people.origins);
    if (principal?.kind !== 'user' || principal.id !== held.user) throw problem('unauthorized');
    const accepted = await acceptInvitation(people, token, { user: held.user }, actorOf);
    forgetPerson(people, held.user);
    return accepted;
  }
  if (name === undefined || password === undefined) {
    const missing = [...(name === undefined ? ['name'] : []), ...(password === undefined ? ['password'] : [])];
    throw problem('invalid_request', { fields: missing.map((field) => ({ field: `body/${field}`, message: 'is needed for a new account' })) });
  }
  await throttled(request, reply, people, held.email);
  return throughPasswordGate(() => acceptInvitation(people, token, { name, password }, actorOf));
}
