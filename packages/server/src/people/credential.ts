import type { IncomingHttpHeaders } from 'node:http';

/** What a request says to be known by. */
export interface Credential {
  readonly kind: 'session' | 'api_key';
  /** As it was presented. */
  readonly value: string;
  /** True where it is a cookie, which a foreign page can make a browser send. */
  readonly byCookie: boolean;
}

/** What API keys begin with, so that they are told from sessions, and found by scanners of leaked secrets. */
export const apiKeyPrefix = 'pwk_';

/** Longer ones are nobody's. */
const charactersMax = 512;

/**
 * The credential of a request: `Authorization: Bearer`, else `X-API-Key`, else the session cookie. One that was given explicitly and is not
 * good does not fall back to the next: what is exempt from the check of origins must not be admitted by a cookie.
 */
export function credentialOf(headers: IncomingHttpHeaders, cookieName: string): Credential | undefined {
  const { authorization, cookie } = headers;
  if (authorization !== undefined) {
    const value = /^Bearer ([\w.~+/=%-]+)$/i.exec(authorization)?.[1];
    if (value === undefined) return undefined;
    return credential(value.startsWith(apiKeyPrefix) ? 'api_key' : 'session', value, false);
  }
  const key = headers['x-api-key'];
  if (key !== undefined) return typeof key === 'string' ? credential('api_key', key, false) : undefined;
  const value = cookie === undefined ? undefined : cookieValue(cookie, cookieName);
  return value === undefined ? undefined : credential('session', value, true);
}

function credential(kind: Credential['kind'], value: string, byCookie: boolean): Credential | undefined {
  return value.length <= charactersMax ? { kind, value, byCookie } : undefined;
}

/** The first cookie of that name. Values are percent-encoded. */
function cookieValue(header: string, name: string): string | undefined {
  for (const part of header.split(';')) {
    const at = part.indexOf('=');
    if (at === -1 || part.slice(0, at).trim() !== name) continue;
    try {
      return decodeURIComponent(part.slice(at + 1).trim());
    } catch {
      return undefined; // not what this server sets, so nobody's session
    }
  }
  return undefined;
}
