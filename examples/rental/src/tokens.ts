import type { Verify } from '@partywall/wall';
import { jwtBearer } from '@partywall/wall/jwt';
import { SignJWT } from 'jose';
import type { DemoTenant } from './demo-tenants.ts';

const issuer = 'https://login.rental.example';
const audience = 'rental';
const algorithm = 'HS256';

/** A token as the company's sign-in would issue it. */
export function tokenFor({ id, user }: DemoTenant, secret: string): Promise<string> {
  return new SignJWT({ tenant: id })
    .setProtectedHeader({ alg: algorithm })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject(user.email)
    .setExpirationTime('12h')
    .sign(Buffer.from(secret));
}

export function tokenVerifier(secret: string): Verify {
  return jwtBearer({ issuer, audience, algorithms: [algorithm], key: new Uint8Array(Buffer.from(secret)) });
}
