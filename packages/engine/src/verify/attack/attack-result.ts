import type { AttackRuleId } from '../rules/rules.ts';
import type { Probe } from './transaction.ts';

/**
 * What came of one attack on one target. held: it was refused, and its control shows that it could have worked. could not run: the
 * control failed, or the answer says neither; that is a failure of its own kind, never a pass.
 */
export interface AttackResult {
  readonly rule: AttackRuleId;
  readonly target: string;
  readonly outcome: 'held' | 'broken' | 'could not run' | 'not applicable';
  readonly message?: string;
  readonly evidence?: string;
}

/** insufficient_privilege: no right, not the owner, or a row that a policy refuses. */
export const refused = '42501';
/** Refused for what the row is, after policies had let it pass. */
export const constraintStates: ReadonlySet<string> = new Set(['23502', '23503', '23505', '23514', '23P01', '23001']);

export function held(rule: AttackRuleId, target: string): AttackResult {
  return { rule, target, outcome: 'held' };
}

export function broken(rule: AttackRuleId, target: string, message: string, evidence?: string): AttackResult {
  return { rule, target, outcome: 'broken', message, ...(evidence !== undefined && { evidence }) };
}

export function stuck(rule: AttackRuleId, target: string, message: string): AttackResult {
  return { rule, target, outcome: 'could not run', message };
}

export function notApplicable(rule: AttackRuleId, target: string, message: string): AttackResult {
  return { rule, target, outcome: 'not applicable', message };
}

/** One attempt of an attack: what is tried, what came of it, and which SQLSTATEs mean that it was refused or that it got through. */
export interface Attempt {
  readonly what: string;
  /** Whose row it is after; default: another tenant. */
  readonly whose?: string;
  readonly probe: Probe;
  /** Besides 42501. */
  readonly refusedBy?: readonly string[];
  /** An error that is reached only past the policies. A constraint's counts only where it names the constraint. */
  readonly reachedBy?: readonly string[];
  /** The application's own code may refuse it: its control shows that the same statement passes without the attack in it. */
  readonly refusedByCode?: boolean;
  /** Rows that got through; default: all that the statement returned or changed. */
  readonly reached?: (probe: Extract<Probe, { ok: true }>) => number;
}

/** Raised by a trigger or function, not by the server: without a code, or with one that names no constraint. */
function isRaised(probe: Extract<Probe, { ok: false }>): boolean {
  return probe.state === 'P0001' || (constraintStates.has(probe.state) && probe.constraint === undefined);
}

const allRows = (probe: { readonly count: number }): number => probe.count;

/** The worst of several attempts: one that got through, else one that says neither, else all were refused. */
export function verdict(rule: AttackRuleId, target: string, attempts: readonly Attempt[]): AttackResult {
  let unclear: AttackResult | undefined;
  for (const { what, whose = 'another tenant', probe, refusedBy = [], reachedBy = [], refusedByCode = false, reached = allRows } of attempts) {
    if (probe.ok) {
      const rows = reached(probe);
      if (rows > 0) return broken(rule, target, `${what} reached ${rows === 1 ? 'a row' : `${rows} rows`} of ${whose}`);
    } else if (reachedBy.includes(probe.state) && !isRaised(probe)) {
      return broken(rule, target, `${what} reached a row of ${whose}`, `SQLSTATE ${probe.state}`);
    } else if (probe.state !== refused && !refusedBy.includes(probe.state) && !(refusedByCode && isRaised(probe))) {
      unclear ??= stuck(rule, target, `${what}: ${probe.state} ${probe.message}`);
    }
  }
  return unclear ?? held(rule, target);
}
