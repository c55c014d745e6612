export type { Archive } from './archive/archive.ts';
export type { BackupReport } from './archive/backup/report.ts';
export { type BackupInput, type BackupOptions, type BackupProgress, runBackup } from './archive/backup/run-backup.ts';
export { type Allowance, allowances } from './archive/backup/sources.ts';
export { type BackupCheck, type VerifyBackupOptions, verifyBackup } from './archive/backup/verify-backup.ts';
export { type CloneInput, type CloneOptions, type CloneReport, cloneTenant } from './archive/clone/clone-tenant.ts';
export { beginClone, type CloneRequest, cloneKind, cloneWork } from './archive/clone/clone-work.ts';
export { type DrillInput, type DrillOptions, type DrillPreview, drillBackup, previewDrill } from './archive/drill/drill.ts';
export { drillDue } from './archive/drill/drill-due.ts';
export { type DrillReport, type DrillStep, drillMarkdown, drillSteps, stepTitles } from './archive/drill/drill-report.ts';
export type { DrillEvent } from './archive/drill/drill-steps.ts';
export { type EscrowSettings, openEscrowedArchive } from './archive/drill/escrow-archive.ts';
export { type DrillCandidate, type DrillPlan, type DrillSelection, drillPeriods, planDrill } from './archive/drill/plan-drill.ts';
export { eraseWorks } from './archive/erase/backup-eraser.ts';
export { type ErasureList, readErasureList } from './archive/erase/erasure-list.ts';
export { type HeldBackup, type HeldObject, heldSegments } from './archive/erase/held-segments.ts';
export {
  type BackupErasureCheck,
  type BackupErasurePreview,
  checkBackupErasure,
  previewBackupErasure,
} from './archive/erase/look-at-erasure.ts';
export { safeName, tenantFileName } from './archive/export/file-name.ts';
export { modelInSchema } from './archive/export/model-in-schema.ts';
export { type PlainSource, type PlainSourceOptions, plainSource } from './archive/export/plain-source.ts';
export { readTenantFile, type TenantFile } from './archive/export/read-tenant-file.ts';
export type { TenantFileManifest } from './archive/export/tenant-file.ts';
export { type TenantFileOptions, writeTenantFile } from './archive/export/write-tenant-file.ts';
export type { FilesChange } from './archive/files/change-files.ts';
export { type CopyFilesInput, copyFiles } from './archive/files/copy-files.ts';
export { countFiles, removeFiles } from './archive/files/remove-files.ts';
export { type RestoreFilesInput, type RestoreFilesReport, restoreFiles } from './archive/files/restore-files.ts';
export { type DataClass, dataClasses } from './archive/format/manifest.ts';
export { rekeyTenant, rotateKeys } from './archive/keys.ts';
export { appendLedger, type Ledger, ledgerRecords, readLedger } from './archive/ledger/ledger.ts';
export type { LedgerRecord } from './archive/ledger/ledger-object.ts';
export { type ReconcileInput, type ReconcileReport, reconcile } from './archive/ledger/reconcile.ts';
export { planReconciliation, type ReconcileAction, type Tier, tierOrder, type WaitingTenant } from './archive/ledger/reconcile-plan.ts';
export { changedRecords, type LedgerSync, refuseUnreconciled, syncLedger } from './archive/ledger/sync-ledger.ts';
export { type LiveSource, liveSource } from './archive/live-source.ts';
export { type CopyInput, type CopyReport, copyTenantInto } from './archive/move/copy-tenant-into.ts';
export { type FinishedMoves, finishDueMoves } from './archive/move/finish-due.ts';
export { type ForgetInput, type ForgetReport, type ForgottenTenants, forgetErased, forgetTenant } from './archive/move/forget-tenant.ts';
export { hashSource, type SourceHash } from './archive/move/hash-source.ts';
export { cancelMove, finishMove, type MoveInput, type MovePreview, moveKind, moveTenant, previewMove } from './archive/move/move-tenant.ts';
export { moveWork } from './archive/move/move-work.ts';
export { dueMoves, listMoves, type Move, type MoveState, readMove } from './archive/move/moves.ts';
export { type Placement, type Placements, placementsOf } from './archive/move/placements.ts';
export { type PrepareInput, type PrepareOptions, type PrepareReport, preparePlacement } from './archive/move/prepare-placement.ts';
export { type ArchiveSettings, type OpenArchive, openArchive } from './archive/open-archive.ts';
export { backupSource, holdsTenant, readSchema } from './archive/read/backup-source.ts';
export { backupIds, findBackup } from './archive/read/list-backups.ts';
export { type Backup, openBackup } from './archive/read/open-backup.ts';
export type { RecoveryPlan } from './archive/recover/plan-recovery.ts';
export { type RecoverInput, type RecoverOptions, type RecoverProgress, type RecoverReport, recoverDatabase } from './archive/recover/recover.ts';
export { type CustomerKeys, exportForCustomer } from './archive/restore/customer-file.ts';
export type { ForgottenRow } from './archive/restore/forget.ts';
export { restoreFromArchive, restoreWorks, undoReason } from './archive/restore/from-archive.ts';
export type { RestoreInput, RestorePlan } from './archive/restore/prepare.ts';
export { planRestore, type RestoreOptions, type RestoreReport, restoreFrom, type UndoBackup } from './archive/restore/restore.ts';
export {
  beginRestore,
  type FinishedRestore,
  type RestoreFrom,
  type RestoreRequest,
  readRestore,
  restoreKind,
  restoreWork,
} from './archive/restore/restore-work.ts';
export { applyRetention, type RetentionLine, type RetentionOptions, type RetentionReport } from './archive/retention/apply.ts';
export { extendLocks } from './archive/retention/locks.ts';
export { type KeepClass, keepClasses, keepPeriods } from './archive/retention/periods.ts';
export type { SweepReport } from './archive/retention/sweep.ts';
export { type BackupDecision, frequencyOf, type PlannedRun } from './archive/schedule/decide.ts';
export { type RecoveryState, recoveryStates } from './archive/schedule/due.ts';
export { type RebuiltPoints, type RecordedPoints, rebuildRecoveryPoints, recordVerified } from './archive/schedule/recovery-points.ts';
export {
  type BackupOutcome,
  type BackupRequest,
  backUp,
  lookAtSchedule,
  runScheduledBackup,
  type ScheduledOutcome,
  verifyPending,
} from './archive/schedule/run.ts';
export { type BackupSettings, backupSettings, defaultBackupSettings } from './archive/schedule/settings.ts';
export { type ArchiveOpener, archiveWorks, backupKind, startBackup, tickBackups, withOpened } from './archive/schedule/works.ts';
export { type RunOptions, runSchema } from './archive/schema/run-schema.ts';
export { schemaDdl } from './archive/schema/schema-ddl.ts';
export {
  parseSchema,
  type SchemaDdl,
  type SchemaItem,
  type SchemaRole,
  schemaFingerprint,
  schemaText,
  writeSchema,
} from './archive/schema/schema-document.ts';
export { type PartialSchema, schemaFor } from './archive/schema/schema-for.ts';
export { backupSqlite, type SqliteBackup, type SqliteBackupInput } from './archive/sqlite/backup-sqlite.ts';
export { openSqlite, type SqliteFile, type SqliteOptions } from './archive/sqlite/open-sqlite.ts';
export { type SqliteSourceOptions, sqliteSource, sqliteSources, type UnownedRows, unownedRows, unownedText } from './archive/sqlite/sqlite-source.ts';
export { type BackupRunEntry, listBackupRuns, type RunCursor, readBackupRun } from './archive/status/runs.ts';
export {
  type ClassStatus,
  isLate,
  type RecoveryStatus,
  recoveryStatus,
  type SubjectStatus,
  type TenantStatus as TenantRecoveryStatus,
  tenantRecoveryStatus,
} from './archive/status/status.ts';
export type { SourceTable, TenantSource } from './archive/tenant-source.ts';
export { worksOf } from './archive/works.ts';
export { type AnchorReport, anchorAudit, listAnchors } from './audit/anchor.ts';
export { type AuditEntry, appendAudit, appendDenial } from './audit/append.ts';
export { appendAuditIfInstalled } from './audit/append-if-installed.ts';
export { type Attempt, type AttemptCursor, type AttemptFilter, attemptKinds, type ListedAttempt, listAttempts } from './audit/attempts/attempts.ts';
export { type Block, blockSource, listBlocks, unblockSource } from './audit/attempts/blocks.ts';
export { type AttemptSettings, readAttemptSettings, setAttemptSettings } from './audit/attempts/settings.ts';
export type { AuditFault } from './audit/chain-check.ts';
export { type AuditExportOptions, exportAudit } from './audit/export.ts';
export type { AuditAnchor } from './audit/marks.ts';
export { type NoteInput, recordNote } from './audit/note.ts';
export { type PruneReport, pruneAudit } from './audit/prune.ts';
export type { AuditRecord } from './audit/records.ts';
export { type WallReference, wallReference } from './audit/refused-reference.ts';
export { ownerOfRow } from './audit/row-owner.ts';
export { type AuditCursor, type AuditFilter, cursorOfRecord, searchAudit } from './audit/search.ts';
export { type AuditTest, testAudit } from './audit/self-test.ts';
export { readVerifier, type Verifier, verifierOfKeys } from './audit/signature.ts';
export { type AuditReport, type AuditVerifyOptions, verifyAudit } from './audit/verify.ts';
export { anchorLine, type ExportReport, verifyAuditExport } from './audit/verify-export.ts';
export type { Catalog, Relation, Role } from './catalog/catalog.ts';
export { readCatalog } from './catalog/read-catalog.ts';
export { connect, describeTarget, refuseUnsupported, sqlState } from './db/connect.ts';
export { controlPool } from './db/control-pool.ts';
export { type EmbeddedOptions, type EmbeddedServer, freePort, startEmbedded } from './db/embedded.ts';
export { type EmbeddedDatabase, startEmbeddedDatabase } from './db/embedded-database.ts';
export { type Actor, type ControlDatabase, type Operation, transaction } from './db/operation.ts';
export { ident, literal } from './db/sql.ts';
export { type DurableOptions, type Schedule, startDurable } from './durable/durable.ts';
export { type ListOperations, type LongOperation, listOperations, type OperationCursor, readOperation } from './durable/operations.ts';
export { createSystemDatabase, hasSystemDatabase, systemDatabaseName, systemDatabaseUrl } from './durable/system-database.ts';
export { awaitOperation, type Durable, inProcess, type Work, type WorkContext, type Works } from './durable/work.ts';
export { type EngineErrorCode, engineErrors, PartywallError } from './errors.ts';
export { isTroubled, type JobRun, type JobStatus, type JobVisitRecord, listJobRuns, listJobs, listJobVisits } from './jobs/runs.ts';
export type { DataKey, DataKeys, Subject } from './keyring/data-keys.ts';
export { tenantOfSubject, tenantSubject } from './keyring/data-keys.ts';
export type { DestroyedKeks, KeyDestruction, Keyring, KeyringStatus, Rotation } from './keyring/keyring.ts';
export { type Escrow, type KekSetting, type KeyringSettings, openEscrow, openKeyring, openSource, repairKeyring } from './keyring/open-keyring.ts';
export type { Repair } from './keyring/repair.ts';
export { publicKeys } from './keyring/signing.ts';
export type { Alert } from './metering/alerts/alert.ts';
export { type AlertCounts, type AlertFilter, acknowledgeAlert, countOpenAlerts, listAlerts } from './metering/alerts/alerts.ts';
export { alertName, channelChange, channelConfig, parseChannel } from './metering/alerts/channel-config.ts';
export { type ChannelTarget, openTarget, pagerdutyUrl } from './metering/alerts/channel-target.ts';
export {
  type AlertChannel,
  type ChannelChange,
  deleteAlertChannel,
  enqueueTest,
  listAlertChannels,
  setAlertChannel,
  showAlertChannel,
} from './metering/alerts/channels.ts';
export { type Evaluation, evaluateAlerts, refreshAlerts } from './metering/alerts/evaluate.ts';
export type { AlertOverride, AlertRule } from './metering/alerts/judge.ts';
export { type MetricName, metricNames, metrics, metricUnits, type Severity, severities } from './metering/alerts/metrics.ts';
export {
  type Claim,
  claimDeliveries,
  type Delivery,
  type DeliveryFilter,
  dueChannels,
  finishDelivery,
  listDeliveries,
  type Outcome,
  showDelivery,
} from './metering/alerts/outbox.ts';
export { type AlertPurge, purgeAlerts } from './metering/alerts/purge.ts';
export { type ChannelKind, channelKinds, type Digest } from './metering/alerts/route.ts';
export {
  deleteAlertOverride,
  deleteAlertRule,
  listAlertOverrides,
  listAlertRules,
  setAlertOverride,
  setAlertRule,
  showAlertRule,
} from './metering/alerts/rules.ts';
export { type SessionOptions, type TenantSession, tenantSessions } from './metering/connections.ts';
export { type IncreaseInput, increaseDaysMax, increaseQuota, revokeIncrease } from './metering/increases.ts';
export { type CallLeaseOptions, CallLeases, type CallVerdict } from './metering/leases.ts';
export { deletePlan, listPlans, type Plan, type PlanTier, plansMax, planTiers, putPlan, type StoredPlan, showPlan } from './metering/plans.ts';
export { changePlan, type PlanChange, type PlanChangeInput } from './metering/plans-change.ts';
export { type QuotaIncrease, type QuotaState, showQuotas, type TenantQuotas } from './metering/quotas.ts';
export { driftListedMax, type QuotaDrift, type RecountReport, recountQuotas } from './metering/quotas-recount.ts';
export { type RateLimit, type RateLimitInput, type RateOverride, removeRateLimit, setRateLimit, showRateLimit } from './metering/rate-limit.ts';
export { type CountedRequest, latencyBoundsMs, type MeterOptions, RequestMeter } from './metering/requests.ts';
export {
  runningMsDefault,
  runningStatements,
  type ServerStatement,
  SlowQueryLog,
  type SlowStatement,
  type SlowStatementKey,
  type SlowStatementOptions,
  serverStatements,
  slowStatements,
} from './metering/slow-queries.ts';
export { surveyUsage, type UsageSurvey } from './metering/survey.ts';
export { type RecoveryClass, recoveryClasses, type TierPromise, tierPromises } from './metering/tiers.ts';
export { type Consumption, consumptions, type TopConsumers, type TopOptions, topConsumers, topLimit } from './metering/top.ts';
export { type RequestFigures, type TenantUsage, tenantUsage, usageHours } from './metering/usage.ts';
export { pruneUsage, type UsagePrune, usageKeptDays } from './metering/usage-prune.ts';
export { type SystemUsage, systemUsage } from './metering/usage-system.ts';
export { assertModelComplete, type CheckOptions, checkModel, describeDifference } from './model/check.ts';
export type { ModelDifference } from './model/difference.ts';
export { modelFingerprint } from './model/fingerprint.ts';
export { type InferOptions, type InferredModel, inferModel } from './model/infer.ts';
export { type MergedModel, updateModel } from './model/merge.ts';
export { defineTenancy, parseModel, type TableRule, type TenancyConfig, type TenancyModel } from './model/model.ts';
export { patchConfig } from './model/patch-config.ts';
export { type RenderOptions, renderConfig } from './model/render-config.ts';
export { parseTableName, quoted, type TableName, tableName } from './model/table-name.ts';
export { checkRollout, type RolloutCheck } from './rollout/check.ts';
export type { RolloutFacts } from './rollout/gates.ts';
export { checkIntegrity, type IntegrityOptions, type IntegrityReport, integrityTimeoutMs, type TableIntegrity } from './rollout/integrity.ts';
export { type Gate, type GateName, gateNames, judgeRollout, type RolloutJudgement, type Verdict } from './rollout/judge.ts';
export { describeMode, type ModePlan, planChange, type RolloutChange } from './rollout/plan-change.ts';
export { changeRollout, type SetModeInput, type SetModeOptions, type SetModeReport } from './rollout/set-mode.ts';
export { readStages, type Stage, stageBefore } from './rollout/stages.ts';
export { type ModeRow, observes, readModes } from './rollout/state.ts';
export { latencyPercentile, type ObservedPlace, type RolloutStatus, readTraffic, rolloutStatus, type TrafficSummary } from './rollout/status.ts';
export { breachText, decideStepBack, type GuardReport, guardRollout, type StepDecision, superviseRollout } from './rollout/step-back.ts';
export { defaultThresholds, readThresholds, setThreshold, type ThresholdName, type Thresholds, thresholdRules } from './rollout/thresholds.ts';
export { assertControl, type InstallReport, installControl, pendingMigrations } from './schema/install-control.ts';
export { changeSeal, type SealOptions, type SealReport } from './seal/change-seal.ts';
export { planSeal, type SealPlan, type SealRequest } from './seal/plan-seal.ts';
export { newSealKey, parseSealKey, type SealKey, sealKeyText } from './seal/seal-key.ts';
export { readSealState, type SealState } from './seal/seal-state.ts';
export { type OpenStoreOptions, openStore } from './store/open.ts';
export type { ByteRange, PutOptions, Store, StoreAbilities, StoredObject } from './store/store.ts';
export { type AppointInput, appointAdmin } from './tenants/appoint-admin.ts';
export { type Certificate, type CertificateBody, type CertificateCheck, listCertificates, readCertificate, verifyCertificate } from './tenants/certificate.ts';
export { tenantContacts } from './tenants/contacts.ts';
export { type EraseInput, type ErasurePreview, eraseTenant, previewErasure } from './tenants/erase/erase.ts';
export { type ControlEvidence, controlEvidence, isSound, type SignedEvidence, signEvidence } from './tenants/evidence.ts';
export { type Fence, fence } from './tenants/fence.ts';
export type { FirstAdmin } from './tenants/first-admin.ts';
export { type HoldInput, holdTenant, unholdTenant } from './tenants/legal-hold.ts';
export {
  type ListedTenant,
  type ListTenants,
  listTenants,
  type ShownTenant,
  showTenant,
  type TenantCursor,
  type TenantOrder,
  tenantOrders,
} from './tenants/list.ts';
export { type Provisioned, type ProvisionInput, provisionTenant } from './tenants/provision.ts';
export { dueTenants, type PurgeReport, purgeRetained } from './tenants/purge.ts';
export { type TenantAction, type TenantStatus, tenantStatuses } from './tenants/states.ts';
export { readTenant, type Tenant } from './tenants/tenant.ts';
export type { TableChange } from './tenants/transfer/changes.ts';
export { type ExportOptions, exportTenant } from './tenants/transfer/export.ts';
export { type ImportInput, type ImportOptions, type ImportPlan, type ImportReport, importTenant } from './tenants/transfer/import.ts';
export { exportDocument, exportFormat, exportVersion } from './tenants/transfer/layout.ts';
export { cancelTenant, deleteTenant, reactivateTenant, restoreTenant, suspendTenant, type Transitioned, type TransitionInput } from './tenants/transition.ts';
export { works } from './tenants/works.ts';
export { baselineOf, parseBaseline } from './verify/accept.ts';
export { renderHuman } from './verify/format/human.ts';
export { toJson } from './verify/format/json.ts';
export { toJunit } from './verify/format/junit.ts';
export { toSarif } from './verify/format/sarif.ts';
export { type VerifyReport, verifyExit } from './verify/report.ts';
export { isRuleId, type RuleId, rules } from './verify/rules/rules.ts';
export { type VerifyOptions, type VerifyProgress, verify } from './verify/verify.ts';
export { type ApplyOptions, type ApplyProgress, type ApplyReport, applyWall } from './wall/apply.ts';
export { type EnterStatement, entering } from './wall/entering.ts';
export { describeSession, type GateReport, type GateSession, switchGate } from './wall/gate.ts';
export { adviseIndexes, type IndexAdvice } from './wall/index-advice.ts';
export { planWall, stepSql, type WallPlan, type WallStep } from './wall/plan.ts';
export { missingRights } from './wall/privileges.ts';
export type { RolePasswords } from './wall/roles.ts';
export { type RollbackOptions, type RollbackReport, rollbackWall } from './wall/rollback.ts';
export { type CredentialProof, newPassword, proveCredential, type RotatedRole, setRolePassword } from './wall/rotate-credentials.ts';
export { describeTrouble, type TroubledRows } from './wall/trouble.ts';
