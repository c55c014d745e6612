import { type Actor, appendAudit, appendDenial, type Operation } from '@partywall/engine';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { problem } from '../problem.ts';
import { authHeaders, refusal, setCookies } from './auth-call.ts';
import { inTransaction } from './better-auth.ts';
import { throughPasswordGate } from './password-gate.ts';
import type { People } from './people.ts';
import { signSessionToken } from './session-token.ts';
import { countAttempt, forgiveAttempt } from './sign-in-throttle.ts';

export interface SignIn {
  readonly email: string;
  readonly password: string;
  readonly rememberMe?: boolean | undefined;
}

export interface SignedIn {
  /** To be sent as `Authorization: Bearer`. */
  readonly token: string;
  readonly user: { readonly id: string; readonly name: string; readonly email: string };
}

/**
 * Signs a person in. Whether there is no such account or the password is wrong cannot be told from the answer, nor from the work: both hash
 * once and write one record.
 *
 * @throws Problem sign_in_refused, too_many_requests
 */
export async function signIn(request: FastifyRequest, reply: FastifyReply, people: People, { email, password, rememberMe }: SignIn): Promise<SignedIn> {
  const { auth, database, secret } = people;
  await throttled(request, reply, people, email);
  const headers = authHeaders(request, people);
  headers.delete('cookie'); // whoever was signed in before is of no concern
  const body = { email, password, ...(rememberMe !== undefined && { rememberMe }) };
  const signedIn = await throughPasswordGate(() =>
    inTransaction(database.pool, async (client) => {
      const answer = await auth.api.signInEmail({ body, headers, returnHeaders: true });
      const { user } = answer.response;
      await appendAudit(client, operationOf(request, people, { kind: 'user', id: user.id, name: user.name }), { tenant: null, action: 'sign_in' });
      return answer;
    }),
  ).catch((error: unknown) => refuse(request, people, email, error));
  await forgiveAttempt(database.pool, { account: email, address: request.ip });
  setCookies(reply, signedIn.headers);
  const { token, user } = signedIn.response;
  return { token: signSessionToken(token, secret), user: { id: user.id, name: user.name, email: user.email } };
}

/**
 * Counts an attempt at a password, wherever one is asked for.
 *
 * @throws Problem too_many_requests
 */
export async function throttled(request: FastifyRequest, reply: FastifyReply, people: People, account: string): Promise<void> {
  const { waitSeconds, first } = await countAttempt(people.database.pool, { account, address: request.ip });
  if (waitSeconds === undefined) return;
  if (first) await recordRefusal(request, people, account, 'throttled');
  reply.header('retry-after', String(waitSeconds));
  throw problem('too_many_requests');
}

async function refuse(request: FastifyRequest, people: People, email: string, error: unknown): Promise<never> {
  try {
    return refusal(error);
  } catch (refused) {
    if (refused === error) throw error;
    await recordRefusal(request, people, email, 'credentials');
    throw problem('sign_in_refused', { cause: error });
  }
}

/** Whom the attempt was aimed at is recorded, existing or not; what was tried is not. */
export function recordRefusal(request: FastifyRequest, people: People, email: string, why: 'credentials' | 'throttled'): Promise<string> {
  const operation = operationOf(request, people, { kind: 'system', id: 'sign-in' });
  return appendDenial(operation, { tenant: null, action: 'sign_in.refused', target: `email:${email.toLowerCase()}`, details: { why } });
}

/** What a request does that nobody in particular makes. */
export function operationOf(request: FastifyRequest, people: People, actor: Actor): Operation {
  return { database: people.database, actor: { ...actor, address: request.ip }, requestId: request.id };
}
