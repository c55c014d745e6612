import { deserialize } from 'node:v8';
import {
  type ArchiveSettings,
  awaitOperation,
  beginRestore,
  controlPool,
  type Operation,
  openArchive,
  restoreWorks,
  startDurable,
  type TenancyModel,
  works,
} from '@partywall/engine';
import pg from 'pg';

/** A process that restores a tenant and may end itself by SIGKILL; without a tenant it goes on with what others left. */
export interface RestoringProcess {
  readonly service: string;
  readonly system: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly settings: Omit<ArchiveSettings, 'clock' | 'env'>;
  readonly request?: { readonly tenant: string; readonly backup: string };
  /** Dies at this statement of this process; `sent`: after it is on its way. */
  readonly kill?: { readonly statement: number; readonly sent: boolean };
}

const given: RestoringProcess = JSON.parse(process.argv[2] ?? '{}');
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const clock = () => new Date();
const database = { pool: controlPool(given.service, { purpose: 'restoring process' }), model, clock, keyring: given.settings.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };

let left = Number.POSITIVE_INFINITY;
const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  left -= 1;
  if (left > 0) return send.apply(this, parts);
  if (given.kill?.sent) send.apply(this, parts);
  process.kill(process.pid, 'SIGKILL');
} as typeof send; // a process that is killed returns nothing

const durable = await startDurable({
  database,
  systemDatabaseUrl: given.system,
  works: { ...works, ...restoreWorks(() => openArchive({ ...given.settings, env: {}, clock })) },
  sweepIntervalMs: 100,
});
left = given.kill?.statement ?? left;
if (given.request) {
  const { id } = await beginRestore(operation, durable, given.request);
  await awaitOperation(operation, id, { timeoutMs: 60_000 });
  await durable.stop();
  await database.pool.end();
}
