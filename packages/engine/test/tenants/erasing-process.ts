import { deserialize } from 'node:v8';
import pg from 'pg';
import { awaitOperation, controlPool, eraseTenant, type Operation, startDurable, type TenancyModel, works } from '../../src/index.ts';

/** A process that carries out operations and may end itself by SIGKILL. Prints `ready`, then `done` for each erasure it was asked for. */
export interface ErasingProcess {
  readonly service: string;
  readonly system: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly keyring: string;
  /** Asked to be erased by this process. */
  readonly tenant?: string;
  /** Dies at this statement, counted from its start or from when it is asked; `sent`: after the statement is on its way. */
  readonly kill?: { readonly statement: number; readonly from: 'start' | 'asked'; readonly sent: boolean };
}

const given: ErasingProcess = JSON.parse(process.argv[2] ?? '{}');
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const database = { pool: controlPool(given.service, { purpose: 'erasing process' }), model, clock: () => new Date(), keyring: given.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };

let left = given.kill?.statement ?? Number.POSITIVE_INFINITY;
const { kill } = given;
const send = pg.Client.prototype.query;
let counting = kill?.from === 'start';
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  if (counting) left -= 1;
  if (left > 0) return send.apply(this, parts);
  if (kill?.sent) send.apply(this, parts);
  process.kill(process.pid, 'SIGKILL');
} as typeof send; // a process that is killed returns nothing

const durable = await startDurable({ database, systemDatabaseUrl: given.system, works, sweepIntervalMs: 100 });
process.stdout.write('ready\n');
counting = true;
if (given.tenant !== undefined) {
  const { id } = await eraseTenant(operation, durable, { tenant: given.tenant, force: true });
  await awaitOperation(operation, id, { timeoutMs: 60_000 });
  process.stdout.write('done\n');
  await durable.stop();
  await database.pool.end();
}
