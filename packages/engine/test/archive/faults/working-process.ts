import fs from 'node:fs';
import { deserialize } from 'node:v8';
import { type ArchiveSettings, controlPool, type Operation, openArchive, type TenancyModel } from '@partywall/engine';
import pg from 'pg';
import { carryOut, type Work } from './work.ts';

/** A process that does one work and ends itself by SIGKILL at a statement or a call of the file system, counted together. */
export interface WorkingProcess {
  readonly service: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly settings: Omit<ArchiveSettings, 'clock' | 'signal' | 'source'>;
  readonly work: Work;
  readonly killAt: number;
}

const given: WorkingProcess = JSON.parse(process.argv[2] ?? '{}');
let left = Number.POSITIVE_INFINITY;
const step = (): void => {
  left -= 1;
  if (left <= 0) process.kill(process.pid, 'SIGKILL');
};

const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  step();
  return send.apply(this, parts);
} as typeof send; // as it was, but for its overloads
for (const name of ['open', 'link', 'rename', 'mkdir', 'rm'] as const) {
  const original = fs.promises[name] as (...parts: readonly unknown[]) => unknown; // each takes what it always took
  Object.assign(fs.promises, {
    [name]: (...parts: readonly unknown[]) => {
      step();
      return original(...parts);
    },
  });
}

const clock = (): Date => new Date();
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const database = { pool: controlPool(given.service, { purpose: 'working process' }), model, clock, keyring: given.settings.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };
const archive = await openArchive({ ...given.settings, clock });
left = given.killAt;
await carryOut(operation, archive, given.work);
process.exit(0);
