import type { Finding } from '../finding.ts';
import { constraintRules } from './constraint.ts';
import { coverageRules } from './coverage.ts';
import { policyRules } from './policy.ts';
import { privilegeRules } from './privilege.ts';
import { roleRules } from './role.ts';
import { runsAsRules } from './runs-as.ts';
import { runtimeRules } from './runtime.ts';
import type { StaticFacts, StaticRules } from './static-facts.ts';
import { unitTableRules } from './unit.ts';

const themes: readonly StaticRules[] = [roleRules, runtimeRules, coverageRules, policyRules, unitTableRules, constraintRules, runsAsRules, privilegeRules];

/** Everything the static rules have to say, each target once per rule. */
export function runStatic(facts: StaticFacts): Finding[] {
  const findings = new Map<string, Finding>();
  for (const theme of themes) {
    for (const found of theme(facts)) if (!findings.has(found.fingerprint)) findings.set(found.fingerprint, found);
  }
  return [...findings.values()];
}
