import type { Relation } from '../catalog/catalog.ts';
import { compact, snake, stemOf } from './words.ts';

/**
 * People sign in once and may belong to several tenants, so the tables that say who they are (users, credentials, sessions)
 * are the platform's; what says where they belong (memberships, invitations, API keys) is scoped.
 */

const personWords = new Set(['user', 'person', 'admin', 'superuser', 'staff', 'login', 'identity']);
const signInColumns = new Set(
  'email emailaddress primaryemail username login loginname password passwordhash passworddigest encryptedpassword hashedpassword passwordencrypted emailverified emailverifiedat'.split(
    ' ',
  ),
);

/** A table of people who sign in: called so, with what one signs in by. */
export function isPeopleTable(relation: Relation): boolean {
  const last = stemOf(relation.name).at(-1) ?? '';
  if (!personWords.has(last) && !last.endsWith('user')) return false;
  return relation.columns.some(({ name }) => signInColumns.has(compact(name)));
}

const signInNames =
  /^(?:(?:user|auth|admin|account|login|better_auth|next_auth|member|email|phone)_)*(?:sessions?|session_tokens?|django_session|accounts?|passkeys?|authenticators?|verifications?|verification_tokens?|verification_codes?|password_resets?|password_reset_tokens?|refresh_tokens?|remember_tokens?|magic_links?|one_time_tokens?|one_time_passwords?|otps?|otp_codes?|mfa_factors?|mfa_challenges?|two_factors?|totps?|recovery_codes?|backup_codes?|webauthn_credentials?|web_authn_credentials?|credentials?|identities|identity|devices?|email_verifications?|confirmations?|login_attempts?|login_tokens?|trusted_devices?|oauth_accounts?|social_accounts?|sso_identities|personal_access_tokens_sign_in)$/;

const secretWords = [
  'token',
  'secret',
  'password',
  'credential',
  'public_key',
  'code',
  'sid',
  'sess',
  'session',
  'expire',
  'expires',
  'challenge',
  'provider',
  'payload',
  'fingerprint',
  'otp',
];

/** Sign-in tables beside people: sessions, passkeys, verification codes. Read before any tenant is known. */
export function isSignInTable(relation: Relation): boolean {
  if (!signInNames.test(snake(relation.name))) return false;
  return relation.columns.some(({ name }) => secretWords.some((word) => `_${snake(name)}_`.includes(`_${word}_`)));
}
