import { randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { z } from 'zod';
import { sqlState } from '../db/connect.ts';
import { PartywallError } from '../errors.ts';

/**
 * One process at a time, also across machines that share the folder: a lock file, linked into place. Under it lies a rename and little else, so a
 * lock that is a minute old has lost its owner; on the same machine, one whose process is gone too.
 *
 * Who breaks a lock first makes a file named after that very lock. Only one can, and it looks again afterwards, so nobody removes the lock
 * of the one that came next.
 */
const staleAfterMs = 60_000;
const waitMaxMs = 30_000;
const pauseMs = 5;

const ownerSchema = z.strictObject({ token: z.uuid(), host: z.string(), pid: z.int().positive() });
type Owner = z.infer<typeof ownerSchema>;

/**
 * @param locks - the folder of the lock files
 * @param work - given a check that the lock is still its own, for just before the step that counts
 * @throws PartywallError store_unavailable: others hold the lock all the time
 */
export async function withFolderLock<T>(locks: string, name: string, work: (assertHeld: () => Promise<void>) => Promise<T>): Promise<T> {
  const file = path.join(locks, name);
  const owner: Owner = { token: randomUUID(), host: os.hostname(), pid: process.pid };
  await acquire(locks, file, owner);
  const isHeld = async (): Promise<boolean> => (await readOwner(file))?.token === owner.token;
  try {
    return await work(async () => {
      if (!(await isHeld())) throw new PartywallError('store_unavailable', `the lock ${file} was taken away: it was held for over ${staleAfterMs / 1000} s`);
    });
  } finally {
    if (await isHeld()) await fs.rm(file, { force: true });
  }
}

async function acquire(locks: string, file: string, owner: Owner): Promise<void> {
  const draft = path.join(locks, `.draft-${owner.token}`);
  await fs.mkdir(locks, { recursive: true, mode: 0o700 });
  // On disk before it counts: an empty lock after a power cut would have no owner.
  await fs.writeFile(draft, JSON.stringify(owner), { flag: 'wx', mode: 0o600, flush: true });
  try {
    const giveUpAt = performance.now() + waitMaxMs;
    while (!(await linked(draft, file))) {
      await breakIfStale(file);
      if (performance.now() > giveUpAt) {
        throw new PartywallError('store_unavailable', `waiting for the lock ${file}: others hold it`, { hint: `remove ${file} if nothing is running` });
      }
      await wait(pauseMs + Math.random() * pauseMs);
    }
  } finally {
    await fs.rm(draft, { force: true });
  }
}

async function breakIfStale(file: string): Promise<void> {
  const owner = await readOwner(file);
  if (!owner || !(await isStale(file, owner))) return;
  const claim = `${file}.${owner.token}`;
  try {
    await fs.writeFile(claim, '', { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if (sqlState(error) === 'EEXIST') return;
    throw error;
  }
  try {
    if ((await readOwner(file))?.token === owner.token) await fs.rm(file, { force: true });
  } finally {
    await fs.rm(claim, { force: true });
  }
}

async function isStale(file: string, owner: Owner): Promise<boolean> {
  if (owner.host === os.hostname() && !isAlive(owner.pid)) return true;
  const found = await fs.stat(file).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > staleAfterMs; // against the file system's clock, not that of an operation
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return sqlState(error) !== 'ESRCH';
  }
}

/** Undefined where nobody holds it. */
async function readOwner(file: string): Promise<Owner | undefined> {
  try {
    return ownerSchema.parse(JSON.parse(await fs.readFile(file, 'utf8')));
  } catch (error) {
    if (sqlState(error) === 'ENOENT') return undefined;
    if (error instanceof SyntaxError || error instanceof z.ZodError) {
      throw new PartywallError('store_unavailable', `${file} is no lock`, { hint: `remove ${file} if nothing is running`, cause: error });
    }
    throw error;
  }
}

async function linked(draft: string, file: string): Promise<boolean> {
  try {
    await fs.link(draft, file);
    return true;
  } catch (error) {
    if (sqlState(error) === 'EEXIST') return false;
    throw error;
  }
}
