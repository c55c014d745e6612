import {
  applyRetention,
  awaitOperation,
  beginRestore,
  cloneTenant,
  copyFiles,
  inProcess,
  liveSource,
  type OpenArchive,
  type Operation,
  restoreWorks,
  runBackup,
} from '@partywall/engine';

/** Something that is done to the archive or with it; each can be asked for again after whatever ended it. */
export type Work =
  | { readonly kind: 'backup' | 'retention' }
  | { readonly kind: 'restore'; readonly tenant: string; readonly backup: string }
  | { readonly kind: 'clone'; readonly tenant: string; readonly name: string };

export async function carryOut(operation: Operation, archive: OpenArchive, work: Work): Promise<void> {
  switch (work.kind) {
    case 'backup':
      await runBackup(operation, archive, { reason: 'by hand' }, { workers: 1 });
      return;
    case 'retention':
      await applyRetention(operation, archive, {});
      return;
    case 'clone': {
      const source = await liveSource(operation, work.tenant);
      const { tenant } = await cloneTenant(operation, source, { name: work.name }).finally(() => source.close());
      if (tenant !== null) await copyFiles(operation, { from: work.tenant, into: tenant });
      return;
    }
    case 'restore': {
      const durable = inProcess(
        operation.database,
        restoreWorks(async () => ({ ...archive, close: async () => undefined })),
      );
      const { id } = await beginRestore(operation, durable, { tenant: work.tenant, backup: work.backup, files: 'delete' });
      const ended = await awaitOperation(operation, id, { timeoutMs: 60_000 });
      await durable.stop();
      if (ended.state !== 'done') throw new Error(ended.error ?? `the restore is ${ended.state}`);
    }
  }
}
