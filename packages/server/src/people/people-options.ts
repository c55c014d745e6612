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

/** What is wrong with the options, a line each, naming the option and never its value. */
export function peopleProblems({ secret, baseUrl, trustedOrigins = [] }: PeopleOptions): string[] {
  const short = Buffer.byteLength(secret) < secretBytesMin;
  return [
    ...(short ? [`people.secret: needs at least ${secretBytesMin} bytes; make one with \`openssl rand -base64 48\``] : []),
    ...(httpUrl(baseUrl) ? [] : ['people.baseUrl: not of the form https://host:port']),
    ...(trustedOrigins.every(httpUrl) ? [] : ['people.trustedOrigins: not of the form https://host:port']),
  ];
}

/**
 * The origins that may use the session cookie, and whether it is sent over TLS only.
 *
 * @throws TypeError with what `peopleProblems` finds
 */
export function readPeopleOptions(options: PeopleOptions): { readonly origins: ReadonlySet<string>; readonly secureCookies: boolean } {
  const problems = peopleProblems(options);
  const base = httpUrl(options.baseUrl);
  if (problems.length > 0 || !base) throw new TypeError(problems.join('; '));
  const origins = [base, ...(options.trustedOrigins ?? []).map((origin) => new URL(origin))];
  // A browser keeps a secure cookie of http://localhost too, but not all do; elsewhere plain HTTP gets no cookie at all.
  const loopback = base.protocol === 'http:' && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(base.hostname);
  return { origins: new Set(origins.map(({ origin }) => origin)), secureCookies: !loopback };
}

function httpUrl(text: string): URL | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url?.protocol === 'http:' || url?.protocol === 'https:' ? url : undefined;
}
