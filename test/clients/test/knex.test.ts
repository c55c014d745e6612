import { knex } from '../src/knex.ts';
import { conformance } from './conformance.ts';

conformance(knex);
