import {
  applyRetention,
  awaitOperation,
  beginRestore,
  cloneTenant,
  copyFiles,
  eraseTenant,
  finishMove,
  inProcess,
  type LongOperation,
  listMoves,
  listTenants,
  liveSource,
  moveTenant,
  type OpenArchive,
  type Operation,
  placementsOf,
  runBackup,
  runScheduledBackup,
  worksOf,
} from '@partywall/engine';

/** Something that is done to the archive or with it; each can be asked for again after whatever ended it. */
export type Work =
  | { readonly kind: 'backup' | 'retention' | 'schedule' }
  | { readonly kind: 'restore'; readonly tenant: string; readonly backup: string }
  | { readonly kind: 'clone'; readonly tenant: string; readonly name: string }
  /** Into the database that is placement `second`, or back. */
  | { readonly kind: 'move'; readonly tenant: string; readonly direction: 'out' | 'back'; readonly second: string }
  | { readonly kind: 'erase'; readonly tenant: string };

export async function carryOut(operation: Operation, archive: OpenArchive, work: Work): Promise<void> {
  switch (work.kind) {
    case 'backup':
      await runBackup(operation, archive, { reason: 'by hand' }, { workers: 1 });
      return;
    case 'schedule':
      await runScheduledBackup(operation, archive);
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
    case 'restore':
    case 'move':
    case 'erase':
      await carryOutLong(operation, archive, work);
  }
}

async function carryOutLong(operation: Operation, archive: OpenArchive, work: Extract<Work, { kind: 'restore' | 'move' | 'erase' }>): Promise<void> {
  const placements = placementsOf(work.kind === 'move' ? { PARTYWALL_PLACEMENT_SECOND: work.second } : {});
  const durable = inProcess(operation.database, worksOf({ archive: { open: async () => ({ ...archive, close: async () => undefined }) }, placements }));
  const ended = async ({ id }: LongOperation): Promise<void> => {
    const { state, error } = await awaitOperation(operation, id, { timeoutMs: 60_000 });
    if (state !== 'done') throw new Error(error ?? `it is ${state}`);
  };
  const { tenant } = work;
  try {
    if (work.kind === 'restore') await ended(await beginRestore(operation, durable, { tenant, backup: work.backup, files: 'delete' }));
    // One that was killed after its last word has left nothing to be asked for.
    if (work.kind === 'erase' && (await isListed(operation, tenant))) await ended(await eraseTenant(operation, durable, { tenant, force: true }));
    if (work.kind === 'move') {
      const { direction } = work;
      const stateOf = async (): Promise<string | undefined> => {
        const [latest] = await listMoves(operation, { tenant, limit: 1 });
        return latest?.direction === direction ? latest.state : undefined;
      };
      const arrived = ['switched', 'finished'].includes((await stateOf()) ?? '');
      if (!arrived) await ended(await moveTenant(operation, durable, { tenant, to: direction === 'out' ? 'second' : undefined, graceSeconds: 0, placements }));
      if ((await stateOf()) === 'switched') await finishMove(operation, placements, { tenant });
    }
  } finally {
    await durable.stop();
    await placements.close();
  }
}

async function isListed(operation: Operation, tenant: string): Promise<boolean> {
  return (await listTenants(operation, { search: tenant, limit: 1 })).length > 0;
}
