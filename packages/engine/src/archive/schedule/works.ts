import { z } from 'zod';
import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { beginOperation, finishOperation, type LongOperation, readDetails, readOperation, reportProgress } from '../../durable/operations.ts';
import type { Durable, Work, Works } from '../../durable/work.ts';
import { eraseWorks } from '../erase/backup-eraser.ts';
import type { OpenArchive } from '../open-archive.ts';
import type { BackupDecision } from './decide.ts';
import { type BackupRequest, backUp, lookAtSchedule, verifyPending } from './run.ts';
import type { BackupSettings } from './settings.ts';

/** Backups as long operations: they go on after a crash, on whichever server. */
export const backupKind = 'backup.run';

/** What opens the archive for one piece of work; it is closed afterwards. */
export type ArchiveOpener = () => Promise<OpenArchive>;

const requestSchema = z.object({ request: z.object({ reason: z.string(), tenants: z.array(z.string()).optional(), readData: z.boolean().optional() }) });

/** Works that need the archive, by the kind of their operation. */
export function archiveWorks(open: ArchiveOpener, settings?: BackupSettings): Works {
  const backup: Work = async ({ operation, id, step }) => {
    const { pool } = operation.database;
    const { request } = requestSchema.parse(await readDetails(pool, id));
    await withOpened(open, (archive) =>
      backUp(operation, archive, request, {
        settings,
        step: (name, run) =>
          step(name, async () => {
            await reportProgress(pool, id, { step: name });
            return run();
          }),
      }),
    );
    await finishOperation(pool, id);
  };
  return { [backupKind]: backup, ...eraseWorks(open) };
}

export async function withOpened<Result>(open: ArchiveOpener, work: (archive: OpenArchive) => Promise<Result>): Promise<Result> {
  const archive = await open();
  try {
    return await work(archive);
  } finally {
    await archive.close();
  }
}

/**
 * Starts a backup, or finds the one that runs: there is one at a time. Tenants that the database does not hold are refused when it begins.
 *
 * @returns the operation; `started` is false where another one runs, of whatever was asked for then
 */
export async function startBackup(
  operation: Operation,
  durable: Durable,
  { reason, tenants, readData }: Pick<BackupRequest, 'reason' | 'tenants' | 'readData'>,
): Promise<{ readonly started: boolean; readonly operation: LongOperation }> {
  const begun = await transaction(operation.database.pool, async (client) => {
    await client.query("select pg_advisory_xact_lock(hashtextextended('partywall:backup.start', 0))");
    const { rows } = await client.query<{ id: string }>(
      "select o.id from partywall_control.operations o where o.kind = $1 and o.tenant_id is null and o.state = 'running' limit 1",
      [backupKind],
    );
    if (rows[0]) return { started: false, operation: await readOperation(client, rows[0].id) };
    const request = { reason, ...(tenants && { tenants: [...tenants] }), ...(readData && { readData }) };
    const fresh = await beginOperation(client, operation, { kind: backupKind, tenant: null, reason, request });
    await appendAudit(client, operation, {
      tenant: null,
      action: 'backup.start',
      target: `operation:${fresh.id}`,
      reason,
      details: { tenants: tenants?.length ?? null },
    });
    return { started: true, operation: fresh };
  });
  await durable.start(begun.operation);
  return begun;
}

/** What the schedule does every five minutes: looks what is due, and starts that. Of all servers of a database one does it. */
export async function tickBackups(
  operation: Operation,
  durable: Durable,
  { open, settings }: { readonly open: ArchiveOpener; readonly settings?: BackupSettings | undefined },
): Promise<BackupDecision> {
  await withOpened(open, (archive) => verifyPending(operation, archive));
  const decision = await lookAtSchedule(operation, settings);
  if (decision.run) await startBackup(operation, durable, decision.run);
  return decision;
}
