import { drizzleOrm } from '../src/drizzle.ts';
import { conformance } from './conformance.ts';

await conformance(drizzleOrm);
