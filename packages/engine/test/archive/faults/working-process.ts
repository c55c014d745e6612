import fs from 'node:fs';
import { deserialize } from 'node:v8';
import { type ArchiveSettings, controlPool, type Operation, openArchive, type TenancyModel } from '@partywall/engine';
import pg from 'pg';
import { carryOut, type Work } from './work.ts';

/** A process that does one work, prints how many statements and calls of the file system that took, and may end itself by SIGKILL at one of them. */
export interface WorkingProcess {
  readonly service: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly settings: Omit<ArchiveSettings, 'clock' | 'signal' | 'source'>;
  readonly work: Work;
  /** How far its clock is ahead. */
  readonly aheadMs: number;
  /** `after`: when the call has done its work, or the statement is on its way. */
  readonly kill?: { readonly at: number; readonly after: boolean };
}

const given: WorkingProcess = JSON.parse(process.argv[2] ?? '{}');
const { at = Number.POSITIVE_INFINITY, after = false } = given.kill ?? {};
let steps = 0;
const die = (): void => {
  process.kill(process.pid, 'SIGKILL');
};

const clock = (): Date => new Date(Date.now() + given.aheadMs);
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const database = { pool: controlPool(given.service, { purpose: 'working process' }), model, clock, keyring: given.settings.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };
const archive = await openArchive({ ...given.settings, clock });

const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  steps += 1;
  if (steps === at && !after) die();
  const sent = send.apply(this, parts);
  if (steps === at) die();
  return sent;
} as typeof send; // as it was, but for its overloads
for (const name of ['open', 'link', 'rename', 'mkdir', 'rm', 'writeFile'] as const) {
  const original = fs.promises[name] as (...parts: readonly unknown[]) => Promise<unknown>; // each takes what it always took
  const counted = async (...parts: readonly unknown[]): Promise<unknown> => {
    steps += 1;
    const mine = steps;
    if (mine === at && !after) die();
    const result = await original(...parts);
    if (mine === at) die();
    return result;
  };
  Object.assign(fs.promises, { [name]: counted });
}

await carryOut(operation, archive, given.work);
process.stdout.write(String(steps));
process.exit(0);
