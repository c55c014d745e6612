import pg from 'pg';
import { applyWall } from '../../src/wall/apply.ts';
import { rollbackWall } from '../../src/wall/rollback.ts';
import type { Roles } from './databases.ts';
import { fixtureModel } from './fixture.ts';

/**
 * A run that ends itself by SIGKILL at its nth statement after the first step began, before or after the server has answered.
 * Arguments: what to run as JSON.
 */
export interface KilledRun {
  readonly url: string;
  readonly roles: Roles;
  readonly operation: 'expand' | 'contract' | 'expanded' | 'nothing';
  readonly statement: number;
  readonly answered: boolean;
}

const { url, roles, operation, statement, answered }: KilledRun = JSON.parse(process.argv[2] ?? '{}');
const model = fixtureModel(roles);
let left = Number.POSITIVE_INFINITY;
const began = () => {
  if (left === Number.POSITIVE_INFINITY) left = statement;
};

const send = pg.Client.prototype.query;
pg.Client.prototype.query = async function (this: pg.Client, ...given: Parameters<typeof send>) {
  left -= 1;
  if (left < 0 && !answered) process.kill(process.pid, 'SIGKILL');
  const result = await send.apply(this, given);
  if (left < 0) process.kill(process.pid, 'SIGKILL');
  return result;
} as typeof send; // the engine calls it in this form only

if (operation === 'expand' || operation === 'contract') {
  await applyWall({ url, model, phase: operation, skipGate: true, onProgress: (event) => event.kind === 'step' && began() });
} else {
  await rollbackWall({ url, model, to: operation, onProgress: began });
}
