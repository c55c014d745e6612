import type { Command } from 'commander';
import { registerAdmin } from './commands/admin.ts';
import { registerAlerts } from './commands/alerts.ts';
import { registerApply } from './commands/apply.ts';
import { registerAttempts } from './commands/attempts.ts';
import { registerAudit } from './commands/audit.ts';
import { registerBackup } from './commands/backup.ts';
import { registerBackupDrill } from './commands/backup-drill.ts';
import { registerBackupExport } from './commands/backup-export.ts';
import { registerBackupRetention } from './commands/backup-retention.ts';
import { registerBackupSchedule } from './commands/backup-schedule.ts';
import { registerBackupStatus } from './commands/backup-status.ts';
import { registerCheck } from './commands/check.ts';
import { registerClone } from './commands/clone.ts';
import { registerCredentials } from './commands/credentials.ts';
import { registerDiff } from './commands/diff.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerErase } from './commands/erase.ts';
import { registerEvidence } from './commands/evidence.ts';
import { registerInit } from './commands/init.ts';
import { registerJobs } from './commands/jobs.ts';
import { registerKeys } from './commands/keys.ts';
import { registerLedger } from './commands/ledger.ts';
import { registerMigrate } from './commands/migrate.ts';
import { registerMove } from './commands/move.ts';
import { registerPlans } from './commands/plans.ts';
import { registerQuotas } from './commands/quotas.ts';
import { registerRecover } from './commands/recover.ts';
import { registerRestore } from './commands/restore.ts';
import { registerRollback } from './commands/rollback.ts';
import { registerRollout } from './commands/rollout.ts';
import { registerSeal } from './commands/seal.ts';
import { registerServe } from './commands/serve.ts';
import { registerTenants } from './commands/tenants.ts';
import { registerTenantDeletion } from './commands/tenants-delete.ts';
import { registerTenantTransfer } from './commands/tenants-transfer.ts';
import { registerTop } from './commands/top.ts';
import { registerUp } from './commands/up.ts';
import { registerUsage } from './commands/usage.ts';
import { registerVerify } from './commands/verify.ts';
import type { Start } from './context.ts';

/** Adds one verb to the program. */
export type Register = (program: Command, start: Start) => void;

/** In the order of their use, which is the order of `partywall --help`. */
export const verbs: readonly Register[] = [
  registerInit,
  registerCheck,
  registerDiff,
  registerApply,
  registerVerify,
  registerRollback,
  registerRollout,
  registerDoctor,
  registerUp,
  registerMigrate,
  registerAdmin,
  registerCredentials,
  registerSeal,
  registerServe,
  registerTenants,
  registerTenantDeletion,
  registerTenantTransfer,
  registerPlans,
  registerQuotas,
  registerUsage,
  registerTop,
  registerAudit,
  registerEvidence,
  registerAlerts,
  registerAttempts,
  registerJobs,
  registerKeys,
  registerErase,
  registerRestore,
  registerBackup,
  registerBackupExport,
  registerBackupDrill,
  registerBackupStatus,
  registerBackupSchedule,
  registerBackupRetention,
  registerRecover,
  registerLedger,
  registerClone,
  registerMove,
];
