import fs from 'node:fs/promises';
import path from 'node:path';
import { deserialize } from 'node:v8';
import { type ArchiveSettings, backupIds, controlPool, type Operation, openArchive, runBackup, type TenancyModel, verifyBackup } from '@partywall/engine';
import pg from 'pg';
import { soundness } from '../retention/made-backups.ts';
import { carryOut, type Work } from './work.ts';

/** Works on a disk that is filled but for some blocks before each, and given back afterwards. Prints what came of it. */
export interface FullDiskProcess {
  readonly service: string;
  /** Base64 of the serialized model. */
  readonly model: string;
  readonly settings: Omit<ArchiveSettings, 'clock' | 'signal' | 'source'>;
  /** The mounted disk, which ends with this process. */
  readonly disk: string;
  readonly kind: 'backup' | 'restore';
  readonly tenant: string;
  /** Blocks that are free, for each round. */
  readonly rounds: readonly number[];
  /** What is done as the superuser before each round, so that there is something to store. */
  readonly change: { readonly url: string; readonly statement: string; readonly file: string };
}

export interface FullDiskRound {
  readonly free: number;
  /** What the work said while the disk was full; null: there was room for it. */
  readonly code: string | null;
  readonly message: string | null;
  /** Backups that there are before, while the disk is full, and after the same again. */
  readonly counted: readonly [before: number, full: number, after: number];
  /** Whether all of them could be read whole, each time. */
  readonly whole: boolean;
  /** Whether the tenant had what it had before, and was let in, while the disk was full; where there was room, as the work leaves it. */
  readonly untouched: boolean;
  /** What the work folder still holds when it is over. */
  readonly left: readonly string[];
}

const blockBytes = 4_096;

const given: FullDiskProcess = JSON.parse(process.argv[2] ?? '{}');
const clock = (): Date => new Date();
const model: TenancyModel = deserialize(Buffer.from(given.model, 'base64'));
const database = { pool: controlPool(given.service, { purpose: 'full disk' }), model, clock, keyring: given.settings.keyring };
const operation: Operation = { database, actor: { kind: 'operator', id: 'test' } };
const archive = await openArchive({ ...given.settings, clock });

/** Takes all blocks but so many. */
async function fill(free: number): Promise<void> {
  const ballast = path.join(given.disk, 'ballast');
  const handle = await fs.open(ballast, 'w');
  const block = Buffer.alloc(blockBytes, 'x');
  try {
    for (;;) await handle.appendFile(block);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
  }
  const { size } = await handle.stat();
  await handle.truncate(Math.max(0, size - free * blockBytes));
  await handle.close();
}

async function areWhole(): Promise<boolean> {
  if ((await soundness(archive)).missing.length > 0) return false;
  for (const id of await backupIds(archive)) if (!(await verifyBackup(archive, id, { readData: true })).whole) return false;
  return true;
}

const { id: first } = await runBackup(operation, archive, { reason: 'by hand' });
const work: Work = given.kind === 'backup' ? { kind: 'backup' } : { kind: 'restore', tenant: given.tenant, backup: first };
const superuser = new pg.Client(given.change.url);
await superuser.connect();
async function stateOfTenant(): Promise<string> {
  const { rows } = await superuser.query(
    "select md5(string_agg(c::text, '' order by id)) as hash, (select state from partywall.registry where tenant_id = $1) as state from customers c where tenant_id = $1",
    [given.tenant],
  );
  return JSON.stringify([rows, await fs.readFile(given.change.file, 'utf8')]);
}

for (const [round, free] of given.rounds.entries()) {
  await superuser.query(given.change.statement, [given.tenant]);
  await fs.writeFile(given.change.file, `round ${round}`);
  const counted = [(await backupIds(archive)).length];
  const before = await stateOfTenant();
  await fill(free);
  const failed: unknown = await carryOut(operation, archive, work).then(
    () => undefined,
    (error: unknown) => error,
  );
  counted.push((await backupIds(archive)).length);
  const wholeThen = await areWhole();
  const untouched = (await stateOfTenant()) === before;
  await fs.rm(path.join(given.disk, 'ballast'));
  if (failed !== undefined) await carryOut(operation, archive, work);
  counted.push((await backupIds(archive)).length);
  const said: FullDiskRound = {
    free,
    code: failed === undefined ? null : failed instanceof Error && 'code' in failed ? String(failed.code) : 'no code',
    message: failed instanceof Error ? failed.message : null,
    counted: [counted[0] ?? 0, counted[1] ?? 0, counted[2] ?? 0],
    whole: wholeThen && (await areWhole()),
    untouched,
    left: (await fs.readdir(given.settings.workFolder)).filter((name) => name.startsWith('backup-')),
  };
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
process.exit(0);
