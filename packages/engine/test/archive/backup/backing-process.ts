import fs from 'node:fs';
import { deserialize } from 'node:v8';
import pg from 'pg';
import { controlPool, type Operation, openArchive, runBackup, type TenancyModel } from '../../../src/index.ts';

/** A process that makes one backup and may end itself by SIGKILL at a write of a file or a statement, counted over both. Prints `done <id>`. */
export interface BackingProcess {
  readonly service: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly keyring: string;
  readonly folder: string;
  /** Dies at this step; left out: lives. */
  readonly killAt?: number;
}

const given: BackingProcess = JSON.parse(process.argv[2] ?? '{}');
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
let left = given.killAt ?? Number.POSITIVE_INFINITY;
let steps = 0;
const step = (): void => {
  steps += 1;
  left -= 1;
  if (left <= 0) process.kill(process.pid, 'SIGKILL');
};

const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  step();
  return send.apply(this, parts);
} as typeof send; // a process that is killed returns nothing
for (const name of ['open', 'link', 'rename', 'mkdir', 'rm'] as const) {
  const original = fs.promises[name] as (...parts: readonly unknown[]) => unknown; // each takes what it always took
  Object.assign(fs.promises, {
    [name]: (...parts: readonly unknown[]) => {
      step();
      return original(...parts);
    },
  });
}

const pool = controlPool(given.service, { purpose: 'backing process' });
const operation: Operation = { database: { pool, model, clock: () => new Date(), keyring: given.keyring }, actor: { kind: 'operator', id: 'test' } };
const { folder, keyring } = given;
const archive = await openArchive({
  store: `${folder}/store`,
  escrow: `${folder}/escrow`,
  keyring,
  workFolder: `${folder}/work`,
  env: {},
  clock: () => new Date(),
});
const { id } = await runBackup(operation, archive, { reason: 'by hand' }, { onProgress: step, workers: 2 });
await archive.close();
await pool.end();
process.stdout.write(`done ${id} ${steps}\n`);
