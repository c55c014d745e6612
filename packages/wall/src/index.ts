export { createSystemPool, type SystemPoolConfig } from './clients/system-pool.ts';
export { wallErrorOf } from './clients/wall-error-of.ts';
export { current, run, system, systemUses, type TenantContext, tryCurrent } from './context.ts';
export {
  CrossTenantError,
  JobError,
  QuotaExceededError,
  type QuotaNumbers,
  RequestRefusedError,
  SealRefusedError,
  StatementRefusedError,
  TenantCancelledError,
  TenantContextError,
  TenantPlacedElsewhereError,
  TenantReadOnlyError,
  TenantSuspendedError,
  UnknownTenantError,
  WallError,
  type WallErrorCode,
  WallNotHeldError,
  wallErrors,
} from './errors.ts';
export { type AttemptOptions, type Attempts, crossTenantAttempts } from './http/attempts.ts';
export type { GuardOptions } from './http/guard.ts';
export { type Claimed, type Proven, provenTenant, provenUnit } from './http/proof.ts';
export type { Identity, RequestFacts, Verify } from './http/request.ts';
export { type UnitTable, unitIn } from './http/unit-in.ts';
export { normalizeStatement } from './normalize.ts';
export type { PlacementConfig, PlacementOptions } from './placement.ts';
export { createWalledPool, type WalledPoolConfig } from './pool.ts';
export { canaryPlace, modeOf, parseRolloutState, type RolloutMode, type RolloutState, tenantHash } from './rollout/mode.ts';
export type { RolloutOptions } from './rollout/rollout.ts';
export { latencyBucketsMs, type ObservedKind } from './rollout/tally.ts';
export type { SlowQuery, SlowQueryOptions } from './slow-query.ts';
export { WalledClient, type WalledClientConfig, type WalledOptions } from './walled-client.ts';
