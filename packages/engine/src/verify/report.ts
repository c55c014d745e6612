import type { Surface } from './attack/attack-surface.ts';
import type { Finding, Residual } from './finding.ts';
import type { NamedCheck } from './named-checks.ts';
import type { RuleId, RuleKind } from './rules/rules.ts';

/** What verify found out. `verifyExit` says what it means for a script. */
export interface VerifyReport {
  readonly database: string;
  readonly serverVersion: number;
  readonly appRole: string;
  readonly at: Date;
  readonly elapsedMs: number;
  /** One for each rule, and for attacks one for each surface. */
  readonly checks: readonly Check[];
  /** What fails: not waived, not in the baseline. Worst first. */
  readonly findings: readonly Finding[];
  /** Accepted by a waiver that still holds. */
  readonly waived: readonly { readonly finding: Finding; readonly reason: string; readonly until: string }[];
  /** Known before, by the baseline. */
  readonly known: readonly Finding[];
  /** Waivers whose end date has passed while the finding is still there: it fails again. */
  readonly expiredWaivers: readonly WaiverNote[];
  /** Waivers that match nothing, to be taken out of the model. */
  readonly unusedWaivers: readonly WaiverNote[];
  readonly residuals: readonly Residual[];
  /** What could not be asked. A verifier that could not run is a failure. */
  readonly couldNotRun: readonly CouldNotRun[];
  /** Rules that could not run on a target, accepted by a waiver that still holds. */
  readonly acceptedUnable: readonly WaiverNote[];
  /** The isolation suite of the operations runbook, by its own names. */
  readonly suite: readonly NamedCheck[];
}

export type Outcome = 'pass' | 'fail' | 'could not run' | 'not applicable';

export interface Check {
  readonly rule: RuleId;
  readonly kind: RuleKind;
  readonly title: string;
  readonly surface: 'catalog' | 'data' | Surface | 'system';
  readonly outcome: Outcome;
  /** Targets that were looked at, where that is a number. */
  readonly targets: number | undefined;
  readonly elapsedMs?: number;
}

export interface WaiverNote {
  readonly rule: string;
  readonly target: string;
  readonly reason: string;
  readonly until: string;
}

export interface CouldNotRun {
  readonly surface: Check['surface'];
  /** Empty: the whole surface. */
  readonly rules: readonly RuleId[];
  readonly target: string;
  readonly reason: string;
}

/** 0 sound; 1 findings; 2 something could not be asked, and nothing else is wrong. */
export function verifyExit(report: VerifyReport): 0 | 1 | 2 {
  if (report.findings.length > 0) return 1;
  if (report.couldNotRun.length > 0) return 2;
  return report.suite.some((check) => check.outcome === 'fail') ? 1 : 0;
}
