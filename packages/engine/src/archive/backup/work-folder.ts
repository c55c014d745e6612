import fs from 'node:fs/promises';
import path from 'node:path';
import { sqlState } from '../../db/connect.ts';

/** `backup-<pid>-<id>`: what a run writes before it is stored, all of it encrypted but for sizes and counts. */
const namePattern = /^backup-(\d+)-/;

/** A folder for one run, after those of runs that died are removed. */
export async function openWorkFolder(parent: string, backup: string): Promise<{ readonly folder: string; remove(): Promise<void> }> {
  await fs.mkdir(parent, { recursive: true, mode: 0o700 });
  for (const name of await fs.readdir(parent)) {
    const [, pid] = namePattern.exec(name) ?? [];
    if (pid !== undefined && !isAlive(Number(pid))) await fs.rm(path.join(parent, name), { recursive: true, force: true });
  }
  const folder = path.join(parent, `backup-${process.pid}-${backup}`);
  await fs.mkdir(folder, { mode: 0o700 });
  return { folder, remove: () => fs.rm(folder, { recursive: true, force: true }) };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // A process of somebody else is one too.
    return sqlState(error) === 'EPERM';
  }
}
