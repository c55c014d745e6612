import { PartywallError } from '../../errors.ts';
import { type PlanTier, planTiers } from '../../metering/plans.ts';

/** What a deployment sets about its backups, under the documents' names; what is not set is as the tiers say. */
export interface BackupSettings {
  /** How often everything is backed up, beside daily at 02:00; adaptive: as the highest active tier asks, every six hours at the least. */
  readonly frequency: 'adaptive' | 'hourly' | '6hourly' | 'daily';
  /** Whether tenants are backed up as often, and kept as long, as their tier asks; false: all the same. */
  readonly tierAware: boolean;
  /** Days that a tier's backups reach back; where it promises more, that holds. */
  readonly retentionDays: Readonly<Partial<Record<PlanTier, number>>>;
  /** Days that every verified backup is kept, 30 at least. */
  readonly recentDays: number;
}

export const defaultBackupSettings: BackupSettings = { frequency: 'adaptive', tierAware: true, retentionDays: {}, recentDays: 30 };

const daysMax = 36_500;

/**
 * Reads `BACKUP_FREQUENCY`, `BACKUP_TIER_AWARE`, `BACKUP_RETENTION_DAYS` and `BACKUP_RETENTION_<TIER>`.
 *
 * @throws PartywallError input_invalid
 */
export function backupSettings(env: Readonly<Record<string, string | undefined>>): BackupSettings {
  const retentionDays = Object.fromEntries(
    planTiers.flatMap((tier) => {
      const given = days(env, `BACKUP_RETENTION_${tier.toUpperCase()}`);
      return given === undefined ? [] : [[tier, given]];
    }),
  );
  return {
    frequency: frequency(env),
    tierAware: flag(env, 'BACKUP_TIER_AWARE', defaultBackupSettings.tierAware),
    retentionDays,
    recentDays: Math.max(defaultBackupSettings.recentDays, days(env, 'BACKUP_RETENTION_DAYS') ?? 0),
  };
}

type Environment = Readonly<Record<string, string | undefined>>;

function frequency(env: Environment): BackupSettings['frequency'] {
  const given = env['BACKUP_FREQUENCY'] || 'adaptive';
  // For free tenants alone one document says weekly, and its crontab daily: the stricter holds.
  if (given === 'weekly') return 'daily';
  if (given === 'adaptive' || given === 'hourly' || given === '6hourly' || given === 'daily') return given;
  throw new PartywallError('input_invalid', `reading BACKUP_FREQUENCY: ${JSON.stringify(given)} is none of adaptive, hourly, 6hourly, daily, weekly`);
}

function flag(env: Environment, name: string, unset: boolean): boolean {
  const given = env[name] || String(unset);
  if (given === 'true' || given === 'false') return given === 'true';
  throw new PartywallError('input_invalid', `reading ${name}: ${JSON.stringify(given)} is neither true nor false`);
}

function days(env: Environment, name: string): number | undefined {
  const given = env[name];
  if (!given) return undefined;
  if (/^[1-9]\d{0,4}$/.test(given) && Number(given) <= daysMax) return Number(given);
  throw new PartywallError('input_invalid', `reading ${name}: ${JSON.stringify(given)} is no number of days from 1 to ${daysMax}`);
}
