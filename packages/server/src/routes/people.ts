import type { FastifyInstance } from 'fastify';
import type { People } from '../people/people.ts';
import { registerApiKeys } from './people-api-keys.ts';
import { registerAuth } from './people-auth.ts';
import { registerMe } from './people-me.ts';
import { registerTenantPeople } from './people-tenant.ts';

/** The routes of sign-in and of who belongs to a tenant. */
export function registerPeople(app: FastifyInstance, people: People): void {
  registerAuth(app, people);
  registerMe(app, people);
  registerTenantPeople(app, people);
  registerApiKeys(app, people);
}
