import type { FastifyInstance } from 'fastify';
import type { People } from '../people/people.ts';

/** The routes of sign-in and of who belongs to a tenant. */
export function registerPeople(_app: FastifyInstance, _people: People): void {}
