import { typeorm } from '../src/typeorm.ts';
import { conformance } from './conformance.ts';

conformance(typeorm);
