import { setTimeout as delay } from 'node:timers/promises';
import type { Operation } from '../../db/operation.ts';
import type { Works } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import type { Archive } from '../archive.ts';
import { runBackup } from '../backup/run-backup.ts';
import { allowances } from '../backup/sources.ts';
import { restoreFiles } from '../files/restore-files.ts';
import { readLedger } from '../ledger/ledger.ts';
import type { OpenArchive } from '../open-archive.ts';
import { backupSource } from '../read/backup-source.ts';
import { openBackup } from '../read/open-backup.ts';
import { type RestoreFrom, restoreKind, restoreWork } from './restore-work.ts';
import type { Undoing } from './undo.ts';

/** Reason of the backup that a restore makes of what is there. */
export const undoReason = 'before restore';
/** Another backup may be under way; the undo backup comes after it, while the tenant is held out. */
const undoWaitMs = 15 * 60_000;
const undoPollMs = 1_000;

/** Restores from an archive, and undo backups into it. */
export function restoreFromArchive(archive: Archive): RestoreFrom {
  return {
    source: async (_operation, { tenant, backup }) => {
      await refuseErased(archive, tenant);
      return backupSource(archive, await openBackup(archive, backup), tenant);
    },
    undo: (operation, tenant, undoing) => undoBackup(operation, archive, { tenant, undoing }),
    files: (operation, request) => restoreFiles(operation, archive, request),
  };
}

/** Carries restores out. @param open opens the archive for one of them; it is closed afterwards */
export function restoreWorks(open: () => Promise<OpenArchive>): Works {
  return {
    [restoreKind]: async (context) => {
      const archive = await open();
      try {
        await restoreWork(restoreFromArchive(archive))(context);
      } finally {
        await archive.close();
      }
    },
  };
}

/** What the ledger says is erased stays erased, also where a backup and its key are still there. */
async function refuseErased(archive: Archive, tenant: string): Promise<void> {
  const record = (await readLedger(archive)).tenants.get(tenant);
  if (record?.status !== 'erasing' && record?.status !== 'erased') return;
  throw new PartywallError('restore_refused', `restoring tenant ${tenant}: it was erased, as the ledger says since ${record.at}`);
}

async function undoBackup(
  operation: Operation,
  archive: Archive,
  { tenant, undoing: { fixed, signal, ...undoing } }: { readonly tenant: string; readonly undoing: Undoing },
): Promise<string> {
  const stoppable = { ...operation, signal: operation.signal ? AbortSignal.any([operation.signal, signal]) : signal };
  const deadline = performance.now() + undoWaitMs;
  for (let { catalog } = undoing; ; catalog = undefined) {
    stoppable.signal.throwIfAborted();
    try {
      return (await runBackup(stoppable, archive, { reason: undoReason, tenants: [tenant], allow: allowances }, { onFixed: fixed, catalog })).id;
    } catch (error) {
      const waits = error instanceof PartywallError && error.code === 'backup_refused' && error.message.startsWith('starting a backup:');
      if (!waits || performance.now() >= deadline) throw error;
    }
    await delay(undoPollMs, undefined, { signal: stoppable.signal });
  }
}
