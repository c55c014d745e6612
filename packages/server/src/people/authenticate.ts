import { hash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { type Credential, credentialOf } from './credential.ts';
import type { People } from './people.ts';
import type { Principal } from './principal.ts';
import type { Known } from './principal-cache.ts';
import { findApiKey, findSession } from './principal-sql.ts';
import { openSessionToken } from './session-token.ts';

/**
 * Whoever the request says it comes from, when that holds. A credential that was seen before costs one SHA-256 of it; else its signature is
 * checked and one row is read.
 */
export async function authenticate(request: Pick<FastifyRequest, 'headers'>, people: People): Promise<Principal | undefined> {
  const credential = credentialOf(request.headers, people.cookieName);
  if (!credential) return undefined;
  const { cache } = people;
  // The way it came is part of what is remembered: the same token is exempt from the check of origins as bearer, and not as cookie.
  const remembered = `${credential.byCookie ? 'c' : 'h'}${hash('sha256', credential.value, 'base64')}`;
  const cached = cache.get(remembered);
  if (cached) return cached;
  const mark = cache.mark();
  const known = await find(people, credential);
  if (!known) return undefined;
  cache.set(remembered, known, mark);
  return known.principal;
}

async function find({ database, secret }: People, { kind, value, byCookie }: Credential): Promise<Known | undefined> {
  // As the API key plugin hashes them.
  if (kind === 'api_key') return findApiKey(database.pool, hash('sha256', value, 'base64url'));
  const token = openSessionToken(value, secret);
  return token === undefined ? undefined : findSession(database.pool, token, byCookie);
}
