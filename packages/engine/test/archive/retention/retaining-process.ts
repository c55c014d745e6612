import { deserialize } from 'node:v8';
import { applyRetention, controlPool, openArchive, type TenancyModel } from '../../../src/index.ts';

/** A process that applies retention and ends itself by SIGKILL at one of its writes to the store. */
export interface RetainingProcess {
  readonly service: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly keyring: string;
  readonly store: string;
  readonly escrow: string;
  readonly workFolder: string;
  /** ISO 8601: what its clock says. */
  readonly now: string;
  /** Number of the write; `done`: after it. */
  readonly kill: { readonly write: number; readonly done: boolean };
}

const given: RetainingProcess = JSON.parse(process.argv[2] ?? '{}');
const { kill, store: url, escrow, keyring, workFolder } = given;
const clock = (): Date => new Date(given.now);
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const pool = controlPool(given.service, { purpose: 'retaining process' });
const archive = await openArchive({ store: url, escrow, keyring, workFolder, env: {}, clock });

let left = kill.write;
async function dying<Result>(write: () => Promise<Result>): Promise<Result> {
  left -= 1;
  if (left > 0) return write();
  if (kill.done) await write();
  process.kill(process.pid, 'SIGKILL');
  // The signal is on its way.
  return new Promise(() => undefined);
}
const { store } = archive;
const killed = {
  ...store,
  put: (...parts: Parameters<typeof store.put>) => dying(() => store.put(...parts)),
  delete: (key: string) => dying(() => store.delete(key)),
};
await applyRetention({ database: { pool, model, clock, keyring }, actor: { kind: 'operator', id: 'test' } }, { ...archive, store: killed });
await archive.close();
await pool.end();
