import { type CryptoKey, createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify, type KeyObject } from 'jose';
import { provenTenant, provenUnit } from './proof.ts';
import type { Identity, Verify } from './request.ts';

export interface JwtOptions {
  readonly issuer: string | readonly string[];
  readonly audience: string | readonly string[];
  /** Exactly these are accepted: `['ES256']`. Those with a shared secret (HS256, ...) cannot stand beside those with a public key. */
  readonly algorithms: readonly string[];
  /** The public key or the secret; or where the issuer publishes its keys: `new URL('https://login.example.com/.well-known/jwks.json')`. */
  readonly key: CryptoKey | KeyObject | Uint8Array | URL | JWTVerifyGetKey;
  /** Seconds that the clocks may differ. Default: 0. */
  readonly clockToleranceSeconds?: number;
  /**
   * Names of the claims; the tenant's may hold one key or a list. Defaults: `tenant`, `sub`, and none. A token without the unit's claim, or with null, holds for the
   * whole tenant; one whose claim is no single key proves nothing.
   */
  readonly claims?: { readonly tenant?: string; readonly user?: string; readonly unit?: string };
}

const tokenCharactersMax = 8_192;
const clockToleranceSecondsMax = 300;
const sharedSecret = /^HS\d+$/;

/**
 * Bearer tokens. What is no token of this issuer for this audience, was signed otherwise or has expired, proves nothing; where the issuer's keys cannot be
 * fetched it throws, because nobody can tell.
 *
 * @throws TypeError for options that would accept a forged token
 * @example jwtBearer({ issuer: 'https://login.example.com', audience: 'crm', algorithms: ['ES256'], key: new URL('https://login.example.com/jwks.json') })
 */
export function jwtBearer(options: JwtOptions): Verify {
  refuseOpenDoors(options);
  const { issuer, audience, algorithms, key, clockToleranceSeconds = 0, claims } = options;
  const getKey: JWTVerifyGetKey = key instanceof URL ? createRemoteJWKSet(key) : typeof key === 'function' ? key : async () => key;
  const checks = {
    issuer: [issuer].flat(),
    audience: [audience].flat(),
    algorithms: [...algorithms],
    clockTolerance: clockToleranceSeconds,
    requiredClaims: ['exp'],
  };
  return async (request) => {
    const token = /^Bearer +([\w.~+/-]+=*)$/i.exec(request.header('authorization') ?? '')?.[1];
    if (token === undefined || token.length > tokenCharactersMax) return null;
    try {
      const { payload } = await jwtVerify(token, getKey, checks);
      return identityOf(payload, claims);
    } catch (error) {
      if (provesNothing(error)) return null;
      throw error;
    }
  };
}

/** The usual holes: no signature at all, a public key that is taken for a secret, a token of anybody for anybody. */
function refuseOpenDoors({ issuer, audience, algorithms, key, clockToleranceSeconds = 0 }: JwtOptions): void {
  const secret = algorithms.filter((name) => sharedSecret.test(name));
  if (algorithms.length === 0 || algorithms.some((name) => name.toLowerCase() === 'none')) {
    throw new TypeError(`jwtBearer: algorithms ${JSON.stringify(algorithms)} would accept tokens that nobody signed`);
  }
  if (secret.length > 0 && (secret.length < algorithms.length || key instanceof URL)) {
    throw new TypeError(`jwtBearer: ${secret.join(', ')} beside public keys would accept tokens that are signed with a public key`);
  }
  if (secret.length === 0 && key instanceof Uint8Array) throw new TypeError('jwtBearer: the key is a secret, and the algorithms take a public key');
  if ([issuer].flat().length === 0 || [audience].flat().length === 0) throw new TypeError('jwtBearer: issuer and audience have to be named');
  if (!(clockToleranceSeconds >= 0 && clockToleranceSeconds <= clockToleranceSecondsMax)) {
    throw new TypeError(`jwtBearer: clockToleranceSeconds ${clockToleranceSeconds} is not between 0 and ${clockToleranceSecondsMax}`);
  }
}

/** Errors that say something of the token, and not of the way to the keys. */
function provesNothing(error: unknown): boolean {
  return [
    errors.JWTExpired,
    errors.JWTClaimValidationFailed,
    errors.JWTInvalid,
    errors.JWSInvalid,
    errors.JWSSignatureVerificationFailed,
    errors.JOSEAlgNotAllowed,
    errors.JOSENotSupported,
    errors.JWKSNoMatchingKey,
    errors.JWKSMultipleMatchingKeys,
  ].some((kind) => error instanceof kind);
}

function identityOf(payload: JWTPayload, { tenant = 'tenant', user = 'sub', unit }: NonNullable<JwtOptions['claims']> = {}): Identity | null {
  const tenants = [payload[tenant]].flat().filter(isId).map(provenTenant);
  const who = payload[user];
  const where = unit === undefined ? undefined : (payload[unit] ?? undefined);
  // Bound to something that cannot be read: taken for unbound it would hold for the whole tenant.
  if (where !== undefined && !isId(where)) return null;
  return { tenants, ...(isId(who) && { user: who }), ...(where !== undefined && { unit: provenUnit(where) }) };
}

function isId(value: unknown): value is string | number {
  return (typeof value === 'string' && value !== '') || (typeof value === 'number' && Number.isSafeInteger(value));
}
