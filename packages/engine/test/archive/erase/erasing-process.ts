import fs from 'node:fs/promises';
import { deserialize } from 'node:v8';
import pg from 'pg';
import {
  type ArchiveSettings,
  awaitOperation,
  controlPool,
  eraseTenant,
  eraseWorks,
  inProcess,
  type Operation,
  openArchive,
  type TenancyModel,
} from '../../../src/index.ts';

/** A process that erases a tenant, and may end itself by SIGKILL. Prints how many statements and calls of the file system that took. */
export interface ErasingProcess {
  readonly service: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly settings: Omit<ArchiveSettings, 'clock' | 'signal' | 'source'>;
  readonly tenant: string;
  /** Dies at this statement or change of a file, counted together; `after`: when it has done its work, or the statement is on its way. */
  readonly kill?: { readonly at: number; readonly after: boolean };
}

const given: ErasingProcess = JSON.parse(process.argv[2] ?? '{}');
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const clock = (): Date => new Date();
const database = { pool: controlPool(given.service, { purpose: 'erasing process' }), model, clock, keyring: given.settings.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };

let events = 0;
const { at = Number.POSITIVE_INFINITY, after = false } = given.kill ?? {};
const die = (): void => {
  if (events === at) process.kill(process.pid, 'SIGKILL');
};

const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  events += 1;
  if (!after) die();
  const sent = send.apply(this, parts);
  if (after) die();
  return sent;
} as typeof send; // as it was, but for its overloads

/** Every call that changes something, of all modules of this process: they use one object. */
const counted =
  <Given extends unknown[], Result>(run: (...args: Given) => Promise<Result>) =>
  async (...args: Given): Promise<Result> => {
    events += 1;
    const mine = events;
    if (!after) die();
    const result = await run(...args);
    if (after && mine === at) process.kill(process.pid, 'SIGKILL');
    return result;
  };
Object.assign(fs, { link: counted(fs.link), rename: counted(fs.rename), rm: counted(fs.rm), open: counted(fs.open), writeFile: counted(fs.writeFile) });

const durable = inProcess(
  database,
  eraseWorks(() => openArchive({ ...given.settings, clock })),
);
const { id } = await eraseTenant(operation, durable, { tenant: given.tenant, force: true });
const { state, error } = await awaitOperation(operation, id, { timeoutMs: 60_000 });
process.stdout.write(JSON.stringify({ events, state, error }));
await durable.stop();
await database.pool.end();
