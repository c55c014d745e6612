import type { AttackResult } from './attack/attack-result.ts';
import type { Finding } from './finding.ts';
import type { Check, Outcome } from './report.ts';
import { type Rule, type RuleId, rules } from './rules/rules.ts';
import type { LiveReport } from './run-live.ts';

/** One line for each rule that was asked for, and for attacks one for each surface. Residual rules are no checks. */
export function checksOf({
  statics,
  live,
  wants,
  staticOnly,
}: {
  statics: readonly Finding[];
  live: LiveReport;
  wants: (rule: RuleId) => boolean;
  staticOnly: boolean;
}): Check[] {
  const found = new Set(statics.map((finding) => finding.rule));
  return [...rules.values()].flatMap((rule): Check[] => {
    if (!wants(rule.id) || rule.kind === 'residual') return [];
    if (rule.kind === 'static') return [line(rule, 'catalog', isIn(found, rule.id) ? 'fail' : 'pass', undefined)];
    if (staticOnly) return [];
    if (rule.kind === 'data') return [dataLine(rule, live)];
    if (rule.id === 'system.bound') return live.system ? [line(rule, 'system', outcomeOf([live.system], false), 1)] : [];
    return live.surfaces.map((report) => {
      const results = report.results.filter((result) => result.rule === rule.id);
      return line(rule, report.surface, outcomeOf(results, report.failure !== undefined), results.length);
    });
  });
}

function line(rule: Rule, surface: Check['surface'], outcome: Outcome, targets: number | undefined): Check {
  return { rule: rule.id, kind: rule.kind, title: rule.title, surface, outcome, targets };
}

function isIn(found: ReadonlySet<string>, id: string): boolean {
  return found.has(id);
}

function dataLine(rule: Rule, { data }: LiveReport): Check {
  const made = [...data.made].find(([id]) => id === rule.id)?.[1] ?? 0;
  const failed = data.failures.some((failure) => failure.rules.some((id) => id === rule.id));
  const outcome = data.findings.some((finding) => finding.rule === rule.id) ? 'fail' : failed ? 'could not run' : made === 0 ? 'not applicable' : 'pass';
  return line(rule, 'data', outcome, made);
}

/** A surface that failed as a whole makes every line that has no answer "could not run". */
function outcomeOf(results: readonly AttackResult[], surfaceFailed: boolean): Outcome {
  const has = (outcome: AttackResult['outcome']): boolean => results.some((result) => result.outcome === outcome);
  if (has('broken')) return 'fail';
  if (has('could not run') || surfaceFailed) return 'could not run';
  return has('held') ? 'pass' : 'not applicable';
}
