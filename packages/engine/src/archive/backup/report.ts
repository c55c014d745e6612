import { filesLeft } from '../files/store-files.ts';
import type { DataClass } from '../format/manifest.ts';
import type { Predecessors } from './base.ts';
import type { TablePlan } from './plan-reading.ts';
import type { BackupRun, ReadTables } from './run-backup.ts';
import type { BackupSubject } from './seal-schema.ts';
import type { Source } from './sources.ts';
import { type Stored, strays } from './store-backup.ts';

/** What a backup did, or would do. */
export interface BackupReport {
  readonly id: string;
  readonly dryRun: boolean;
  /** ISO 8601. */
  readonly at: string;
  readonly scope: 'all' | 'tenants';
  readonly classes: readonly DataClass[];
  /** Of which unchanged rows are taken over; null: everything is read. */
  readonly base: string | null;
  readonly tenants: number;
  /** Tenants of which nothing at all has changed. */
  readonly unchanged: number;
  readonly rows: number;
  readonly tables: readonly (Omit<TablePlan, 'units'> & { readonly class: DataClass })[];
  readonly left: readonly string[];
  /** Null where no files were looked at. */
  readonly files: { readonly files: number; readonly bytes: number; readonly read: number } | null;
  /** Null in a dry run. */
  readonly stored: { readonly objects: number; readonly bytes: number } | null;
}

export interface ReportInput extends ReadTables {
  readonly predecessors: Predecessors;
  readonly sources: readonly Source[];
  readonly subjects: readonly BackupSubject[];
  readonly stored: Stored | undefined;
}

export function reportOf(
  { input, classes, id, snapshot, files }: BackupRun,
  { plans, predecessors, sources, subjects, stored, marks, changes }: ReportInput,
): BackupReport {
  const isWhole = input.tenants === undefined;
  return {
    id,
    dryRun: input.dryRun ?? false,
    at: snapshot.at.toISOString(),
    scope: isWhole ? 'all' : 'tenants',
    classes,
    base: predecessors.base?.manifest.id ?? null,
    tenants: subjects.length - 1,
    unchanged: changes.unchanged.subarray(1).reduce((sum, each) => sum + each, 0),
    rows: plans.reduce((sum, { rows }) => sum + rows, 0),
    tables: plans.map(({ units: _units, ...plan }, at) => ({ ...plan, class: sources[at]?.class ?? 'database' })),
    left: [...snapshot.left, ...predecessors.damage, ...strays(sources, marks, isWhole), ...(files ? filesLeft(files) : [])],
    files: files ? { ...files.sum } : null,
    stored: stored ? { objects: stored.objects, bytes: stored.bytes } : null,
  };
}
