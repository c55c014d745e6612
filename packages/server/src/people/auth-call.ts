import { type AuditEntry, appendAudit } from '@partywall/engine';
import { isAPIError } from 'better-auth/api';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { problem, type ServerErrorCode } from '../problem.ts';
import { addressHeader, inTransaction } from './better-auth.ts';
import { credentialOf } from './credential.ts';
import { forgetPerson, type People } from './people.ts';
import { openSessionToken, sessionCookieValue } from './session-token.ts';

/** What a function of Better Auth answers when it is asked for its headers too. */
export interface AuthAnswer<Response> {
  readonly headers: Headers;
  readonly response: Response;
}

/** The headers that Better Auth sees: who the session is, and where the request comes from. Nothing else of the request reaches it. */
export function authHeaders(request: FastifyRequest, people: People): Headers {
  const headers = new Headers({ [addressHeader]: request.ip });
  const agent = request.headers['user-agent'];
  if (agent !== undefined) headers.set('user-agent', agent.slice(0, agentCharactersMax));
  const credential = credentialOf(request.headers, people.cookieName);
  const token = credential?.kind === 'session' ? openSessionToken(credential.value, people.secret) : undefined;
  if (token !== undefined) headers.set('cookie', `${people.cookieName}=${sessionCookieValue(token, people.secret)}`);
  return headers;
}

const agentCharactersMax = 300;

/**
 * Runs a function of Better Auth that changes something of the signed-in person, and writes the audit record in the same transaction. The
 * cookies that it sets go to the reply.
 */
export async function changeOwn<Response>(
  request: FastifyRequest,
  reply: FastifyReply,
  people: People,
  entry: AuditEntry,
  call: (headers: Headers) => Promise<AuthAnswer<Response>>,
): Promise<Response> {
  const operation = request.operation();
  const { headers, response } = await inTransaction(people.database.pool, async (client) => {
    const answer = await call(authHeaders(request, people)).catch(refusal);
    await appendAudit(client, operation, entry);
    return answer;
  });
  forgetPerson(people, operation.actor.id);
  setCookies(reply, headers);
  return response;
}

export function setCookies(reply: FastifyReply, headers: Headers): void {
  const cookies = headers.getSetCookie();
  if (cookies.length > 0) reply.header('set-cookie', cookies);
}

const byStatus: Readonly<Record<number, ServerErrorCode>> = { 401: 'unauthorized', 403: 'forbidden', 404: 'not_found' };

/** Better Auth's refusal as a problem of this server; its own sentences stay inside. */
export function refusal(error: unknown): never {
  if (!isAPIError(error) || error.statusCode >= 500) throw error;
  throw problem(byStatus[error.statusCode] ?? 'invalid_request', { cause: error });
}
