import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { OpenArchive } from '../open-archive.ts';
import { findBackup } from '../read/list-backups.ts';
import { isWhole } from '../recover/plan-recovery.ts';
import { type DrillInput, type DrillOptions, drillBackup, previewDrill } from './drill.ts';
import type { DrillReport } from './drill-report.ts';

/**
 * Drills the tenants whose tier says that it is time: every enterprise tenant each week, every pro tenant each month, a sample of starter and free tenants each
 * quarter. What the schedule does every night; who is left over waits for the next one.
 *
 * @returns undefined where nobody is due, or nothing was backed up yet
 * @throws PartywallError what `drillBackup` throws
 */
export async function drillDue(
  operation: Operation,
  archive: OpenArchive,
  input: Omit<DrillInput, 'selection'> = {},
  options: DrillOptions = {},
): Promise<DrillReport | undefined> {
  if (!(await hasWhole(archive))) return undefined;
  const due: DrillInput = { ...input, selection: { kind: 'due', now: operation.database.clock() } };
  const { tenants } = await previewDrill(operation, archive, due);
  return tenants.length === 0 ? undefined : drillBackup(operation, archive, due, options);
}

async function hasWhole(archive: OpenArchive): Promise<boolean> {
  try {
    await findBackup(archive, 'latest', ({ manifest }) => isWhole(manifest));
    return true;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'backup_unknown') return false;
    throw error;
  }
}
