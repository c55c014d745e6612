import type { PlanTier } from './plans.ts';

/**
 * What a tier promises: how much work may be lost (RPO), how long until it is back (RTO), how far back it can be restored. The documents' tables,
 * as one value.
 */
export interface TierPromise {
  /** Seconds between two recovery points, at most, by data class. */
  readonly rpoSeconds: Readonly<Record<RecoveryClass, number>>;
  /** Null: best effort. */
  readonly rtoSeconds: number | null;
  /** How far back backups reach; a year may have 366 days. */
  readonly backupRetentionDays: number;
}

/** What is backed up together, each with its own recovery point objective. */
export const recoveryClasses = ['database', 'configuration', 'files', 'audit'] as const;
export type RecoveryClass = (typeof recoveryClasses)[number];

const hour = 3600;
const day = 24 * hour;

export const tierPromises: Readonly<Record<PlanTier, TierPromise>> = {
  enterprise: { rpoSeconds: rpo(hour, day), rtoSeconds: hour / 2, backupRetentionDays: 366 },
  pro: { rpoSeconds: rpo(6 * hour, day), rtoSeconds: 2 * hour, backupRetentionDays: 90 },
  starter: { rpoSeconds: rpo(day, 7 * day), rtoSeconds: 4 * hour, backupRetentionDays: 30 },
  free: { rpoSeconds: rpo(7 * day, 30 * day), rtoSeconds: null, backupRetentionDays: 7 },
};

function rpo(data: number, audit: number): Record<RecoveryClass, number> {
  return { database: data, configuration: data, files: data, audit };
}
