import { hash } from 'node:crypto';
import type { ControlDatabase } from '@partywall/engine';
import { type Auth, createAuth } from './better-auth.ts';
import { listen } from './listen.ts';
import { type PeopleOptions, readPeopleOptions, type SendMail } from './people-options.ts';
import { type PrincipalCache, principalCache } from './principal-cache.ts';

/** Sign-in at work: what the server keeps while it runs. */
export interface People {
  readonly database: ControlDatabase;
  readonly auth: Auth;
  readonly secret: string;
  readonly baseUrl: string;
  readonly mail: SendMail | undefined;
  /** Origins whose pages may use the session cookie. */
  readonly origins: ReadonlySet<string>;
  readonly cookieName: string;
  readonly cache: PrincipalCache;
  close(): Promise<void>;
}

/**
 * Starts what sign-in needs. Close it when the server stops: it listens on a connection of its own.
 *
 * @throws TypeError for a secret that is too short, or a URL that is none
 */
export async function createPeople(database: ControlDatabase, options: PeopleOptions): Promise<People> {
  const { origins, secureCookies } = readPeopleOptions(options);
  const auth = createAuth(database.pool, options, secureCookies);
  const { authCookies } = await auth.$context;
  const now = (): number => performance.now();
  const cache = principalCache(now, () => database.clock().getTime());
  const listener = await listen(database.pool, cache, now);
  return {
    database,
    auth,
    secret: options.secret,
    baseUrl: options.baseUrl.replace(/\/+$/, ''),
    mail: options.mail,
    origins,
    cookieName: authCookies.sessionToken.name,
    cache,
    close: () => listener.close(),
  };
}

/** Makes this process look a person up anew, at once; the other processes hear it from the database. */
export function forgetPerson(people: People, id: string): void {
  people.cache.forget(hash('sha256', `user:${id}`));
}

/** The same for an API key. */
export function forgetApiKey(people: People, id: string): void {
  people.cache.forget(hash('sha256', `key:${id}`));
}
