import { secretBytesMin } from './session-token.ts';

/** A message to one person. Rejects where it could not be handed over. */
export type SendMail = (mail: { readonly to: string; readonly subject: string; readonly text: string }) => Promise<void>;

/** What sign-in needs to know about where the server runs. */
export interface PeopleOptions {
  /** At least 32 bytes, the same for all processes; whoever knows it and the database can be anybody. Changing it ends every session. */
  readonly secret: string;
  /** How people reach the server: `https://partywall.example.com`. Links and cookies are made for it. */
  readonly baseUrl: string;
  /** Other origins whose pages may use the session cookie. */
  readonly trustedOrigins?: readonly string[];
  /** Sends invitations. Without it the answer to whoever invites holds the link. */
  readonly mail?: SendMail;
}

/** Shortest and longest password, in characters. Length is what counts; the upper bound keeps hashing bounded. */
export const passwordLength = { min: 10, max: 128 } as const;

/**
 * The origins that may use the session cookie, and whether it is sent over TLS only.
 *
 * @throws TypeError naming the option that will not do; never its value
 */
export function readPeopleOptions(options: PeopleOptions): { readonly origins: ReadonlySet<string>; readonly secureCookies: boolean } {
  if (Buffer.byteLength(options.secret) < secretBytesMin) {
    throw new TypeError(`people.secret: needs at least ${secretBytesMin} bytes; make one with \`openssl rand -base64 48\``);
  }
  const base = httpUrl('people.baseUrl', options.baseUrl);
  const origins = [base, ...(options.trustedOrigins ?? []).map((origin) => httpUrl('people.trustedOrigins', origin))];
  // A browser keeps a secure cookie of http://localhost too, but not all do; elsewhere plain HTTP gets no cookie at all.
  const loopback = base.protocol === 'http:' && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(base.hostname);
  return { origins: new Set(origins.map(({ origin }) => origin)), secureCookies: !loopback };
}

function httpUrl(option: string, text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new TypeError(`${option}: not of the form https://host:port`);
}
