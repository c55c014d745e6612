import type { Check, VerifyReport } from '../report.ts';
import { bySurface, statusOf } from './check-status.ts';

/** JUnit XML as CI servers read it: a suite for each surface, a case for each check, an error where it could not run. */
export function toJunit(report: VerifyReport): string {
  const suites = [...bySurface(report).map(([surface, checks]) => suiteXml(surface, checks, report)), namedSuite(report), surfaceErrors(report)].filter(
    (xml) => xml !== '',
  );
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="partywall verify" time="${(report.elapsedMs / 1000).toFixed(3)}">`,
    ...suites,
    '</testsuites>',
    '',
  ].join('\n');
}

function suiteXml(surface: string, checks: readonly Check[], report: VerifyReport): string {
  const cases = checks.map((check) => {
    const status = statusOf(check, report);
    if (status === 'fail') {
      const found = report.findings.filter((finding) => finding.rule === check.rule);
      const text = found.map((finding) => `${finding.message}${finding.evidence === undefined ? '' : `\n  ${finding.evidence}`}`).join('\n');
      return caseXml(
        surface,
        check,
        `<failure message="${xmlText(`${found.length} × ${check.rule}`)}" type="${xmlText(found[0]?.severity ?? '')}">${xmlText(text)}</failure>`,
      );
    }
    if (status === 'could not run') {
      const why = report.couldNotRun.filter((entry) => entry.surface === surface && (entry.rules.length === 0 || entry.rules.includes(check.rule)));
      return caseXml(
        surface,
        check,
        `<error message="could not run" type="could-not-run">${xmlText(why.map((entry) => `${entry.target}: ${entry.reason}`).join('\n'))}</error>`,
      );
    }
    return caseXml(surface, check, status === 'not applicable' ? '<skipped message="not applicable"/>' : '');
  });
  const of = (part: string): number => cases.filter((xml) => xml.includes(part)).length;
  return suiteElement(surface, cases, { failures: of('<failure'), errors: of('<error'), skipped: of('<skipped') });
}

function caseXml(surface: string, check: Check, inner: string): string {
  return `    <testcase classname="partywall.${surface}" name="${xmlText(`${check.rule}: ${check.title}`)}">${inner}</testcase>`;
}

function namedSuite(report: VerifyReport): string {
  const cases = report.suite.map(({ name, outcome, detail }) => {
    const inner = outcome === 'fail' ? `<failure message="${xmlText(detail)}"/>` : outcome === 'not run' ? `<skipped message="${xmlText(detail)}"/>` : '';
    return `    <testcase classname="partywall.isolation" name="${xmlText(name)}">${inner}</testcase>`;
  });
  const of = (outcome: string): number => report.suite.filter((check) => check.outcome === outcome).length;
  return suiteElement('isolation', cases, { failures: of('fail'), errors: 0, skipped: of('not run') });
}

/** A surface that has no line of its own because nothing of it ran. */
function surfaceErrors(report: VerifyReport): string {
  const lost = report.couldNotRun.filter((entry) => !report.checks.some((check) => check.surface === entry.surface));
  const cases = lost.map(
    ({ surface, target, reason }) =>
      `    <testcase classname="partywall.${surface}" name="${xmlText(target)}"><error message="could not run" type="could-not-run">${xmlText(reason)}</error></testcase>`,
  );
  return cases.length === 0 ? '' : suiteElement('could not run', cases, { failures: 0, errors: cases.length, skipped: 0 });
}

function suiteElement(name: string, cases: readonly string[], counts: { failures: number; errors: number; skipped: number }): string {
  const { failures, errors, skipped } = counts;
  return [
    `  <testsuite name="partywall ${xmlText(name)}" tests="${cases.length}" failures="${failures}" errors="${errors}" skipped="${skipped}">`,
    ...cases,
    '  </testsuite>',
  ].join('\n');
}

/** XML 1.0 has no way to write most control characters; they become the replacement character. */
function xmlText(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&apos;')
    .replaceAll(/[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu, '\u{FFFD}');
}
