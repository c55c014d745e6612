import { drizzleOrm } from '../src/drizzle.ts';
import { conformance } from './conformance.ts';

conformance(drizzleOrm);
