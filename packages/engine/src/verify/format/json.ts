import { type VerifyReport, verifyExit } from '../report.ts';
import { ruleOf } from '../rules/rules.ts';

/** The report as data; fields are only ever added. Findings carry their rule's text, so that a reader needs no second table. */
export function toJson(report: VerifyReport): object {
  const { findings, residuals, at, ...rest } = report;
  const exit = verifyExit(report);
  return {
    version: 1,
    sound: exit === 0,
    exit,
    at: at.toISOString(),
    ...rest,
    findings: findings.map((found) => ({ ...found, explains: ruleOf(found.rule).explains, fix: ruleOf(found.rule).fix })),
    residuals: residuals.map((residual) => ({ ...residual, explains: ruleOf(residual.id).explains, fix: ruleOf(residual.id).fix })),
    suite: report.suite,
    passed: report.suite.filter((check) => check.outcome === 'pass').length,
    failed: report.suite.filter((check) => check.outcome === 'fail').length,
  };
}
