import { kysely } from '../src/kysely.ts';
import { conformance } from './conformance.ts';

await conformance(kysely);
