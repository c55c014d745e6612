import type { Works } from '../durable/work.ts';
import { eraseKind } from './erase/erase.ts';
import { eraseWork } from './erase/erase-work.ts';

/** Everything that can take time and needs no archive, by the kind of its operation. */
export const works: Works = { [eraseKind]: eraseWork() };
