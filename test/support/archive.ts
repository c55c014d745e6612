import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { type ArchiveSettings, type OpenArchive, openArchive } from '@partywall/engine';
import { afterAll } from 'vitest';

/** An archive of the test's own in folders: `folder` holds `store`, `escrow`, `keyring` and `work`. */
export interface ArchiveFixture {
  readonly archive: OpenArchive;
  readonly folder: string;
  readonly settings: ArchiveSettings;
  /** Opens it once more, as another process would. */
  open(changes?: Partial<ArchiveSettings>): Promise<OpenArchive>;
}

/** @param keyring of the control plane under test, whose signing keys are the archive's too */
export async function archiveFixture(options: { readonly keyring?: string; readonly clock?: () => Date } = {}): Promise<ArchiveFixture> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'partywall-archive-'));
  const settings: ArchiveSettings = {
    store: path.join(folder, 'store'),
    escrow: path.join(folder, 'escrow'),
    keyring: options.keyring ?? path.join(folder, 'keyring'),
    workFolder: path.join(folder, 'work'),
    env: {},
    clock: options.clock ?? (() => new Date()),
  };
  const opened: OpenArchive[] = [];
  const open = async (changes: Partial<ArchiveSettings> = {}): Promise<OpenArchive> => {
    const archive = await openArchive({ ...settings, ...changes });
    opened.push(archive);
    return archive;
  };
  afterAll(async () => {
    await Promise.all(opened.map((archive) => archive.close()));
    await rm(folder, { recursive: true, force: true });
  });
  return { archive: await open(), folder, settings, open };
}
