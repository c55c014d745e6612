import { AsyncLocalStorage } from 'node:async_hooks';
import { apiKey } from '@better-auth/api-key';
import { transaction } from '@partywall/engine';
import { betterAuth } from 'better-auth';
import { hashPassword as hash } from 'better-auth/crypto';
import { organization } from 'better-auth/plugins';
import { PostgresDialect, type PostgresPoolClient } from 'kysely';
import type pg from 'pg';
import { type PeopleOptions, passwordLength } from './people-options.ts';

/**
 * Better Auth, behind this module alone: passwords, sessions, cookies. None of its routes is mounted: the server calls the few functions it
 * uses, so that a route that a later version brings is not there. Its tables come from a numbered migration, which a test compares with what
 * it would create itself.
 */

const sessionSeconds = 7 * 24 * 60 * 60;
/** A session that is used is prolonged once a day. */
const prolongSeconds = 24 * 60 * 60;

const schemaName = 'partywall_people';

/** A statement of Better Auth's inside `inTransaction` runs on that transaction's connection, and on one of the pool elsewhere. */
const currentClient = new AsyncLocalStorage<pg.PoolClient>();

/** Runs `work` in one transaction, which Better Auth's statements take part in. */
export function inTransaction<Result>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
  return transaction(pool, (client) => currentClient.run(client, () => work(client)));
}

/** A hash that sign-in accepts, for accounts that are made elsewhere: `account.password`. */
export function hashPassword(password: string): Promise<string> {
  return hash(password);
}

export type Auth = ReturnType<typeof createAuth>;

export function createAuth(pool: pg.Pool, options: PeopleOptions, secureCookies: boolean) {
  return betterAuth({
    secret: options.secret,
    baseURL: options.baseUrl,
    database: { dialect: new PostgresDialect({ pool: joiningPool(pool) }), type: 'postgres', schemaName, transaction: false },
    telemetry: { enabled: false },
    logger: { disabled: true },
    // Sign-in is throttled by account and by address in the database, over all processes.
    rateLimit: { enabled: false },
    emailAndPassword: {
      enabled: true,
      disableSignUp: true,
      minPasswordLength: passwordLength.min,
      maxPasswordLength: passwordLength.max,
    },
    session: { expiresIn: sessionSeconds, updateAge: prolongSeconds, freshAge: 0 },
    user: { additionalFields: { superAdmin: { type: 'boolean', input: false, defaultValue: false } } },
    advanced: {
      cookiePrefix: 'partywall',
      useSecureCookies: secureCookies,
      defaultCookieAttributes: { httpOnly: true, sameSite: 'lax', path: '/' },
      ipAddress: { ipAddressHeaders: [addressHeader] },
      database: { validateSchema: false },
    },
    plugins: [
      organization({ allowUserToCreateOrganization: false, disableOrganizationDeletion: true }),
      apiKey({ references: 'organization', enableSessionForAPIKeys: false }),
    ],
  });
}

/** Where Better Auth is told the address that Fastify found out. */
export const addressHeader = 'x-partywall-address';

function joiningPool(pool: pg.Pool): { connect(): Promise<PostgresPoolClient>; end(): Promise<void>; options: object } {
  const borrowed = (client: pg.PoolClient, release: (destroy?: boolean) => void): PostgresPoolClient => {
    const query: unknown = client.query.bind(client);
    // Kysely calls it with text and values, whose promise is what it expects; cursors are not configured.
    return { query: query as PostgresPoolClient['query'], release };
  };
  return {
    connect: async () => {
      const joined = currentClient.getStore();
      if (joined) return borrowed(joined, () => undefined);
      const own = await pool.connect();
      return borrowed(own, (destroy) => own.release(destroy));
    },
    // The pool is not Better Auth's to end.
    end: async () => undefined,
    options: {},
  };
}
