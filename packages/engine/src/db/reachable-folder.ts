import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';

/** Where data lies that the server's user could not reach where it was asked for. */
const fallbackRoot = '/var/lib/partywall';
const passableByOthers = 0o001;

/**
 * The folder to give a server that runs as another user. Below a private home (root's is, on most systems) that user cannot reach
 * anything, so the data lies in `/var/lib/partywall` and the asked path becomes a link to it. Where the link was removed, which is how
 * a trial is thrown away, the data behind it goes too.
 */
export async function reachableFolder(wanted: string): Promise<string> {
  const found = await fs.lstat(wanted).catch(() => undefined);
  if (found?.isSymbolicLink()) {
    const real = path.resolve(path.dirname(wanted), await fs.readlink(wanted));
    await fs.mkdir(path.dirname(real), { recursive: true, mode: 0o755 });
    return real;
  }
  if (found || (await isPassable(path.dirname(wanted)))) return wanted;
  const real = path.join(fallbackRoot, createHash('sha256').update(wanted).digest('hex').slice(0, 16));
  await fs.rm(real, { recursive: true, force: true });
  await fs.mkdir(fallbackRoot, { recursive: true, mode: 0o755 });
  await fs.mkdir(path.dirname(wanted), { recursive: true });
  await fs.symlink(real, wanted);
  return real;
}

/** Whether everybody can pass through the folder and all above it; what does not exist yet is made passable or not by its parent. */
async function isPassable(folder: string): Promise<boolean> {
  for (let at = folder; ; at = path.dirname(at)) {
    const stat = await fs.stat(at).catch(() => undefined);
    if (stat && (stat.mode & passableByOthers) === 0) return false;
    if (at === path.dirname(at)) return true;
  }
}
