import { randomBytes } from 'node:crypto';
import { describeTarget } from '../../db/connect.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { OpenArchive } from '../open-archive.ts';
import { findBackup } from '../read/list-backups.ts';
import type { Backup } from '../read/open-backup.ts';
import { isWhole } from '../recover/plan-recovery.ts';
import { drillCandidates } from './candidates.ts';
import { asOnlyDrill, beginDrill, endDrill, failDrill } from './drill-record.ts';
import type { DrillReport } from './drill-report.ts';
import { type DrillEvent, runDrillSteps } from './drill-steps.ts';
import { type DrillPlan, type DrillSelection, planDrill } from './plan-drill.ts';
import { type ScratchPlace, scratchPlace, sweepScratch } from './scratch.ts';

/** Tenants of a drill that nobody said more about: one of each tier. */
const sampleDefault = 4;
const listedKeysMax = 100;

export interface DrillInput {
  /** A backup's id, a time, or `latest`, which is the default. Only backups of everything can be drilled: the others have no schema. */
  readonly from?: string | undefined;
  /** Default: a sample. */
  readonly selection?: DrillSelection | undefined;
  /** Default: random. */
  readonly seed?: string | undefined;
  /** Connection string of a database of a staging server, as a superuser: a scratch database is made beside it. Default: an embedded server. */
  readonly into?: string | undefined;
  /** The application's connection string on that server, where its role is there already. */
  readonly appUrl?: string | undefined;
  /** Where the keys of `archive` came from, for the report. */
  readonly keysFrom?: 'keyring' | 'escrow' | undefined;
  /** Leaves the scratch database there, until the next drill. */
  readonly keep?: boolean | undefined;
}

export interface DrillOptions {
  /** Told before each step, and waited for. */
  readonly onStep?: ((event: DrillEvent) => void | Promise<void>) | undefined;
}

/** What a drill would do. */
export interface DrillPreview extends DrillPlan {
  readonly backup: string;
  readonly at: string;
  readonly target: string;
  readonly smokeQueries: number;
}

interface Prepared {
  readonly backup: Backup;
  readonly plan: DrillPlan;
  readonly place: ScratchPlace;
}

/** Says what a drill would restore, and where; makes nothing. @throws PartywallError as `drillBackup` */
export async function previewDrill(operation: Operation, archive: OpenArchive, input: DrillInput): Promise<DrillPreview> {
  const { backup, plan, place } = await prepare(operation, archive, input);
  return {
    ...plan,
    backup: backup.manifest.id,
    at: backup.manifest.at,
    target: place.into === undefined ? 'an embedded server' : `a new database beside ${describeTarget(place.into)}`,
    smokeQueries: operation.database.model.archive.smoke.length,
  };
}

/**
 * Restores a backup into a scratch database to see whether it can be: its schema, what belongs to no tenant, and the rows of the chosen tenants; compares what is
 * there with the manifest, probes the sequences, attacks the wall, asks the model's smoke queries, and measures how long it took. Whatever is wrong with the backup is in
 * the report, which is kept; the scratch database is dropped.
 *
 * @throws PartywallError backup_unknown, restore_refused (the target is the source, or another drill runs), keyring_refused, permission_missing, and what the
 * stores and `connect` throw: nothing was drilled
 */
export function drillBackup(operation: Operation, archive: OpenArchive, input: DrillInput, options: DrillOptions = {}): Promise<DrillReport> {
  return asOnlyDrill(operation, async () => {
    const prepared = await prepare(operation, archive, input);
    const { backup, plan, place } = prepared;
    const swept = await sweepScratch(place);
    const { database } = operation;
    const startedAt = database.clock();
    const id = await beginDrill(operation, { backup: backup.manifest.id, tenants: plan.tenants.length });
    try {
      const { kek } = await archive.keys.status();
      const { dataKeys, ...ran } = await runDrillSteps({
        ...prepared,
        operation,
        archive,
        id,
        appUrl: input.appUrl,
        keep: input.keep ?? false,
        onStep: options.onStep,
      });
      const { manifest, subjects } = backup;
      const report: DrillReport = {
        format: 'partywall.drill/1',
        id,
        startedAt: startedAt.toISOString(),
        finishedAt: database.clock().toISOString(),
        backup: manifest.id,
        at: manifest.at,
        seed: plan.seed,
        visited: plan.tenants.length,
        held: plan.tenants.length + plan.leftOut,
        ...ran,
        keys: { from: input.keysFrom ?? 'keyring', kek, count: dataKeys.length, data: dataKeys.slice(0, listedKeysMax) },
        projectedSeconds: projected(ran, [...subjects.values()]),
        notes: [...swept.map((what) => `a drill that was cut off had left ${what}, which is gone now`), ...ran.notes],
      };
      await endDrill(operation, report);
      return report;
    } catch (error) {
      await failDrill(operation, id, error instanceof PartywallError ? error.message : 'it was interrupted');
      throw error;
    }
  });
}

async function prepare(operation: Operation, archive: OpenArchive, input: DrillInput): Promise<Prepared> {
  if (archive.keys.subjects().length === 0) {
    throw new PartywallError('keyring_refused', `drilling a restore: the keyring ${archive.keyring} has no keys`, {
      hint: 'set PARTYWALL_KEYRING and PARTYWALL_KEYS; where they are lost, drill with the escrow copy alone: `partywall backup drill --escrow`',
    });
  }
  const { selection = { kind: 'sample', count: sampleDefault } } = input;
  const place = await scratchPlace(operation, input.into, archive.workFolder);
  const backup = await findBackup(archive, input.from ?? 'latest', ({ manifest }) => isWhole(manifest));
  if (!isWhole(backup.manifest)) {
    throw new PartywallError('restore_refused', `drilling backup ${backup.manifest.id}: it holds some tenants or data classes only, and no schema`, {
      hint: 'name a backup of everything, or none for the latest',
    });
  }
  const plan = planDrill(await drillCandidates(operation, archive, backup), selection, input.seed ?? randomBytes(4).toString('hex'));
  return { backup, plan, place };
}

function projected(
  { readySeconds, bytes }: { readonly readySeconds: number | null; readonly bytes: number },
  subjects: readonly { readonly bytes: number }[],
): number | null {
  const all = subjects.reduce((sum, subject) => sum + subject.bytes, 0);
  return readySeconds === null || bytes === 0 ? null : (readySeconds * all) / bytes;
}
