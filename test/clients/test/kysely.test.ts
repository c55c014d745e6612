import { kysely } from '../src/kysely.ts';
import { conformance } from './conformance.ts';

conformance(kysely);
