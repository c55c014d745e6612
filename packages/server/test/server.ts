import { randomUUID } from 'node:crypto';
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';
import { afterAll } from 'vitest';
import { type ControlFixture, controlDatabase } from '../../../test/support/control-database.ts';
import { boundedServer, partywall, type ServerOptions, signSessionToken } from '../src/index.ts';

/** A server over a control database, and people to ask it as. */
export interface ServerFixture extends ControlFixture {
  readonly server: FastifyInstance;
  /** Makes a person with a session and returns the headers of a request of theirs. */
  person(of: { superAdmin?: boolean; memberships?: Readonly<Record<string, 'admin' | 'member'>> }): Promise<{ id: string; headers: { authorization: string } }>;
}

const secret = 'a secret of the tests, thirty-two bytes and more';

/** What sign-in is told where a test says nothing else. */
export const people = { secret, baseUrl: 'http://localhost:5000' };

interface FixtureOptions extends Partial<ServerOptions> {
  readonly fastify?: FastifyServerOptions;
  /** Runs before the control plane is there: for hooks that see all of its routes. */
  readonly before?: (app: FastifyInstance) => void;
}

/** `routes` adds an application's own routes beside the control plane's. */
export async function serverFixture(
  routes: (app: FastifyInstance, fixture: ControlFixture) => void = () => undefined,
  { fastify, before, ...changes }: FixtureOptions = {},
): Promise<ServerFixture> {
  const fixture = await controlDatabase();
  const server: FastifyInstance = Fastify({ ...boundedServer, ...fastify });
  before?.(server);
  await server.register(partywall, {
    database: fixture.control,
    people,
    limits: { requestsPerMinute: 1_000_000, attemptsPerMinute: 1_000_000 },
    ...changes,
  });
  routes(server, fixture);
  await server.ready();
  afterAll(() => server.close());
  const { query } = fixture.database;
  return {
    ...fixture,
    server,
    person: async ({ superAdmin = false, memberships = {} }) => {
      const id = randomUUID();
      const token = randomUUID();
      await query(`insert into partywall_people."user" ("id", "name", "email", "emailVerified", "superAdmin") values ($1, $2, $3, true, $4)`, [
        id,
        `Person ${id.slice(0, 4)}`,
        `${id}@people.example`,
        superAdmin,
      ]);
      await query(
        `insert into partywall_people."session" ("id", "expiresAt", "token", "updatedAt", "userId") values ($1, now() + interval '1 hour', $2, now(), $3)`,
        [randomUUID(), token, id],
      );
      for (const [tenant, role] of Object.entries(memberships)) {
        await query(`insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, $1, $1, now()) on conflict do nothing`, [
          tenant,
        ]);
        await query(`insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ($1, $2, $3, $4, now())`, [
          randomUUID(),
          tenant,
          id,
          role,
        ]);
      }
      return { id, headers: { authorization: `Bearer ${signSessionToken(token, secret)}` } };
    },
  };
}
