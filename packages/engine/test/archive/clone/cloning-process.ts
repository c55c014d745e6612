import { deserialize } from 'node:v8';
import pg from 'pg';
import { cloneTenant, controlPool, liveSource, type Operation, type TenancyModel } from '../../../src/index.ts';

/** A process that clones a tenant and ends itself by SIGKILL at a statement. */
export interface CloningProcess {
  readonly service: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly keyring: string;
  readonly tenant: string;
  /** `sent`: dies after the statement is on its way. */
  readonly kill: { readonly statement: number; readonly sent: boolean };
}

const given: CloningProcess = JSON.parse(process.argv[2] ?? '{}');
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const database = { pool: controlPool(given.service, { purpose: 'cloning process' }), model, clock: () => new Date(), keyring: given.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };

let left = given.kill.statement;
const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  left -= 1;
  if (left > 0) return send.apply(this, parts);
  if (given.kill.sent) send.apply(this, parts);
  process.kill(process.pid, 'SIGKILL');
} as typeof send; // a process that is killed returns nothing

await cloneTenant(operation, await liveSource(operation, given.tenant), { name: 'Clone' });
process.exit(0);
