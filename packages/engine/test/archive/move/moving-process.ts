import { deserialize } from 'node:v8';
import pg from 'pg';
import {
  awaitOperation,
  controlPool,
  finishMove,
  inProcess,
  moveKind,
  moveTenant,
  moveWork,
  type Operation,
  placementsOf,
  type TenancyModel,
} from '../../../src/index.ts';

/** A process that moves a tenant and ends itself by SIGKILL at a statement, of whichever database. */
export interface MovingProcess {
  readonly service: string;
  readonly placement: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly keyring: string;
  readonly tenant: string;
  readonly to?: string;
  /** `sent`: dies after the statement is on its way. */
  readonly kill: { readonly statement: number; readonly sent: boolean };
}

const given: MovingProcess = JSON.parse(process.argv[2] ?? '{}');
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const database = { pool: controlPool(given.service, { purpose: 'moving process' }), model, clock: () => new Date(), keyring: given.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };
const placements = placementsOf({ PARTYWALL_PLACEMENT_SECOND: given.placement });

let left = given.kill.statement;
const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  left -= 1;
  if (left > 0) return send.apply(this, parts);
  if (given.kill.sent) send.apply(this, parts);
  process.kill(process.pid, 'SIGKILL');
} as typeof send; // a process that is killed returns nothing

const durable = inProcess(database, { [moveKind]: moveWork(placements) });
const { tenant, to } = given;
const { id } = await moveTenant(operation, durable, { tenant, to, graceSeconds: 0, placements });
const ended = await awaitOperation(operation, id, { timeoutMs: 60_000 });
if (ended.state === 'done') await finishMove(operation, placements, { tenant });
process.stdout.write(`${ended.state} ${ended.error ?? ''}\n`);
process.exit(0);
