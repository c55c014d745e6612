import { jwtVerify, SignJWT } from 'jose';
import { z } from 'zod';

/** Who a request acts for, as its token says. */
export interface Identity {
  readonly tenant: string;
  readonly user: string;
  readonly role: Role;
}

export const roles = ['admin', 'member', 'viewer'] as const;
export type Role = (typeof roles)[number];

const issuer = 'urn:partywall:example:crm';
const audience = 'urn:partywall:example:crm:api';
const algorithm = 'HS256';
const lifetimeSeconds = 3600;
/** RFC 7518, section 3.2: an HS256 key has at least as many bits as the hash. */
const secretBytesMin = 32;

const claims = z.object({ sub: z.guid(), tenant: z.guid(), role: z.enum(roles) });

/** The signing key. A short secret is an error here and not a weak token later. */
export function signingKey(secret: string): Uint8Array {
  const key = new TextEncoder().encode(secret);
  if (key.length < secretBytesMin) throw new RangeError(`reading the token secret: ${key.length} bytes, at least ${secretBytesMin} are needed`);
  return key;
}

/** A bearer token for one user of one tenant; it expires after an hour unless told otherwise. */
export async function issueToken(identity: Identity, options: { readonly secret: string; readonly expiresInSeconds?: number }): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ tenant: identity.tenant, role: identity.role })
    .setProtectedHeader({ alg: algorithm })
    .setSubject(identity.user)
    .setIssuer(issuer)
    .setAudience(audience)
    .setIssuedAt(now)
    .setExpirationTime(now + (options.expiresInSeconds ?? lifetimeSeconds))
    .sign(signingKey(options.secret));
}

/** The identity in a token; throws for every token that `issueToken` would not have issued with this key, or that has expired. */
export async function verifyToken(token: string, key: Uint8Array): Promise<Identity> {
  const { payload } = await jwtVerify(token, key, { algorithms: [algorithm], issuer, audience, requiredClaims: ['exp', 'sub'] });
  const { sub, tenant, role } = claims.parse(payload);
  return { user: sub, tenant, role };
}
