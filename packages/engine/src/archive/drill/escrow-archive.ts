import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import { type KekSetting, openEscrow } from '../../keyring/open-keyring.ts';
import { openStore } from '../../store/open.ts';
import type { Store } from '../../store/store.ts';
import type { ArchiveSettings, OpenArchive } from '../open-archive.ts';

export interface EscrowSettings extends Omit<ArchiveSettings, 'keys' | 'keyring' | 'source'> {
  readonly kek: KekSetting;
}

/**
 * Opens an archive with what is in escrow and nothing else: its files are unpacked into a folder of their own, which `close` deletes. Backups can be read with
 * it, not made.
 *
 * @throws PartywallError escrow_unverified (none is set, or there is no keybook in it), keyring_refused, store_refused, store_unavailable
 */
export async function openEscrowedArchive({ store: url, escrow, kek, workFolder, env, clock, signal }: EscrowSettings): Promise<OpenArchive> {
  if (escrow === undefined) {
    throw new PartywallError('escrow_unverified', 'opening the archive with escrow alone: there is no escrow', {
      hint: 'set PARTYWALL_ESCROW to where the copy of the keyring is',
    });
  }
  await mkdir(workFolder, { recursive: true, mode: 0o700 });
  await sweepUnpacked(workFolder);
  const keyring = await mkdtemp(path.join(workFolder, `escrow-${process.pid}-`));
  const closing: (() => Promise<void>)[] = [() => rm(keyring, { recursive: true, force: true })];
  const close = async (): Promise<void> => {
    for (const each of closing.splice(0).reverse()) await each();
  };
  const open = async (which: string): Promise<Store> => {
    const opened = await openStore(which, { env, signal });
    closing.push(() => opened.close());
    return opened;
  };
  try {
    const store = await open(url);
    const { keys } = await openEscrow({ keyring, kek, env, clock, signal }, await open(escrow));
    closing.push(() => keys.close());
    return { store, keys, keyring, workFolder, env, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Keys that a killed process of this machine left unpacked. */
async function sweepUnpacked(workFolder: string): Promise<void> {
  for (const entry of await readdir(workFolder)) {
    const [, pid] = /^escrow-(\d+)-/.exec(entry) ?? [];
    if (pid !== undefined && !isAlive(Number(pid))) await rm(path.join(workFolder, entry), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return sqlState(error) === 'EPERM';
  }
}
