import { createHash } from 'node:crypto';
import type { Severity } from './rules/rule-text.ts';
import { type FindingRuleId, type ResidualId, ruleOf } from './rules/rules.ts';

/** One way in which the database is not what the model asks for. */
export interface Finding {
  readonly rule: FindingRuleId;
  /** What it is about, in the form that waivers name: `public.contacts`, `role crm_app`, `policy "x" on public.contacts`. */
  readonly target: string;
  readonly message: string;
  readonly severity: Severity;
  /** What was seen: an expression, a definition, an SQLSTATE. Never a row's contents. */
  readonly evidence?: string;
  /** Of rule and target; the same across runs, so that a baseline can name it. */
  readonly fingerprint: string;
}

/** A risk that stays, and what it concerns here. */
export interface Residual {
  readonly id: ResidualId;
  readonly targets: readonly string[];
  /** One line for this database; the rule's own text says the rest. */
  readonly message: string;
}

export interface FindingDetail {
  readonly severity?: Severity;
  readonly evidence?: string | undefined;
}

export function finding(rule: FindingRuleId, target: string, message: string, detail: FindingDetail = {}): Finding {
  return {
    rule,
    target,
    message,
    severity: detail.severity ?? ruleOf(rule).severity,
    ...(detail.evidence !== undefined && { evidence: detail.evidence }),
    fingerprint: fingerprintOf(rule, target),
  };
}

export function fingerprintOf(rule: string, target: string): string {
  return createHash('sha256').update(`${rule}\0${target}`).digest('hex').slice(0, 16);
}
