import { createHmac, timingSafeEqual } from 'node:crypto';

/**
 * What stands between a row of the session table and a session: the token as it is handed out carries an HMAC of the row's token under the
 * server's secret, so that whoever reads the database, or a dump of it, can sign in as nobody. `<token>.<signature>`, Better Auth's own form
 * for cookies; bearer tokens have it too.
 */

/** Shortest secret that is accepted, in bytes. */
export const secretBytesMin = 32;

/** The token to hand out for a session's row. */
export function signSessionToken(token: string, secret: string): string {
  return `${token}.${mac(token, secret).toString('base64url')}`;
}

/** Better Auth's form of the same, as a cookie's value. */
export function sessionCookieValue(token: string, secret: string): string {
  return encodeURIComponent(`${token}.${mac(token, secret).toString('base64')}`);
}

/** The token of the row, or undefined where the signature does not hold. Either alphabet of base64 will do. */
export function openSessionToken(signed: string, secret: string): string | undefined {
  return open(signed, (token) => mac(token, secret));
}

/** What an invitation is accepted with: its id is seen by the tenant's admins, the signature by nobody but whom the invitation was sent to. */
export function signInvitation(id: string, secret: string): string {
  return `${id}.${mac(invitationPurpose + id, secret).toString('base64url')}`;
}

/** The id of the invitation, or undefined where the signature does not hold. */
export function openInvitation(signed: string, secret: string): string | undefined {
  return open(signed, (id) => mac(invitationPurpose + id, secret));
}

const invitationPurpose = 'partywall:invitation:';

function open(signed: string, macOf: (content: string) => Buffer): string | undefined {
  const end = signed.lastIndexOf('.');
  if (end < 1) return undefined;
  const content = signed.slice(0, end);
  const signature = Buffer.from(signed.slice(end + 1), 'base64');
  const expected = macOf(content);
  return signature.length === expected.length && timingSafeEqual(signature, expected) ? content : undefined;
}

function mac(content: string, secret: string): Buffer {
  return createHmac('sha256', secret).update(content).digest();
}
