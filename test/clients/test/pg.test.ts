import { plainPg } from '../src/pg.ts';
import { conformance } from './conformance.ts';

conformance(plainPg);
