import type { Finding } from '../finding.ts';
import { type VerifyReport, verifyExit } from '../report.ts';
import type { Severity } from '../rules/rule-text.ts';
import { ruleOf } from '../rules/rules.ts';
import { bySurface, type CheckStatus, statusOf } from './check-status.ts';

export type Paint = (style: 'red' | 'green' | 'yellow' | 'dim' | 'bold', text: string) => string;

const signs: Readonly<Record<CheckStatus, readonly [sign: string, style: Parameters<Paint>[0]]>> = {
  pass: ['✓', 'green'],
  fail: ['✗', 'red'],
  accepted: ['~', 'yellow'],
  'could not run': ['?', 'red'],
  'not applicable': ['-', 'dim'],
};
const severityStyle: Readonly<Record<Severity, Parameters<Paint>[0]>> = { critical: 'red', high: 'red', medium: 'yellow', low: 'dim' };
const surfaceText = {
  catalog: 'from the catalog',
  data: 'from the data',
  direct: 'attacks as the application',
  pooler: 'attacks through the pooler',
  system: 'the system client',
} as const;
const suiteRule = '='.repeat(60);
const targetsShown = 8;

/** The report for a person: a line per check, the isolation suite, findings with what to do, residual risks, one line that sums up. */
export function renderHuman(report: VerifyReport, paint: Paint = (_style, text) => text): string {
  const lines: string[] = [];
  for (const [surface, checks] of bySurface(report)) {
    lines.push(paint('bold', surfaceText[surface]));
    const width = Math.max(...checks.map((check) => check.rule.length));
    for (const check of checks) {
      const status = statusOf(check, report);
      const [sign, style] = signs[status];
      const more = status === 'pass' ? (check.targets === undefined ? '' : ` (${check.targets})`) : ` (${status === 'fail' ? 'failed' : status})`;
      lines.push(`  ${paint(style, sign)} ${check.rule.padEnd(width)}  ${check.title}${paint('dim', more)}`);
    }
    lines.push('');
  }
  return [
    ...lines,
    ...suite(report, paint),
    ...findings(report, paint),
    ...decisions(report, paint),
    ...unable(report, paint),
    ...residuals(report, paint),
    summary(report, paint),
  ].join('\n');
}

/** The eight checks as the operations runbook prints them. */
function suite(report: VerifyReport, paint: Paint): string[] {
  const of = (outcome: string): number => report.suite.filter((check) => check.outcome === outcome).length;
  const lines = report.suite.map(({ name, outcome, detail }) => {
    const said = outcome === 'pass' ? paint('green', '✓ PASS') : outcome === 'fail' ? paint('red', '✗ FAIL') : paint('yellow', '? NOT RUN');
    return `  ${said}: ${name}${outcome === 'pass' ? '' : paint('dim', ` (${detail})`)}`;
  });
  const notRun = of('not run');
  return [
    'MULTI-TENANT ISOLATION TESTS',
    suiteRule,
    ...lines,
    suiteRule,
    'TEST SUMMARY',
    `  Passed: ${of('pass')}`,
    `  Failed: ${of('fail')}`,
    ...(notRun > 0 ? [`  Not run: ${notRun}`] : []),
    suiteRule,
    '',
  ];
}

function findings(report: VerifyReport, paint: Paint): string[] {
  const lines: string[] = [];
  const groups = new Map<Finding['rule'], Finding[]>();
  for (const found of report.findings) groups.set(found.rule, [...(groups.get(found.rule) ?? []), found]);
  for (const [id, group] of groups) {
    const rule = ruleOf(id);
    const worst = group[0]?.severity ?? rule.severity;
    lines.push(`${paint(severityStyle[worst], worst.padEnd(8))} ${paint('bold', id)}: ${rule.explains}`);
    for (const found of group) {
      lines.push(`  ${paint('red', '✗')} ${found.message} ${paint('dim', `[${found.fingerprint}]`)}`);
      if (found.evidence !== undefined) lines.push(paint('dim', `      ${found.evidence}`));
    }
    lines.push(`  fix: ${rule.fix}`, '');
  }
  return lines;
}

function decisions(report: VerifyReport, paint: Paint): string[] {
  const lines = [
    ...report.waived.map(({ finding, reason, until }) => `  ~ ${finding.rule} ${finding.target}: ${reason} (until ${until})`),
    ...report.acceptedUnable.map(({ rule, target, reason, until }) => `  ~ ${rule} could not run on ${target}: ${reason} (until ${until})`),
    ...report.expiredWaivers.map(({ rule, target, until }) => paint('red', `  ✗ the waiver of ${rule} for ${target} ended on ${until}`)),
    ...report.unusedWaivers.map(({ rule, target }) => paint('yellow', `  ! the waiver of ${rule} for ${target} matches nothing; take it out`)),
    ...(report.known.length > 0 ? [`  ~ ${report.known.length} known by the baseline`] : []),
  ];
  return lines.length === 0 ? [] : [paint('bold', 'decided'), ...lines, ''];
}

function unable(report: VerifyReport, paint: Paint): string[] {
  if (report.couldNotRun.length === 0) return [];
  const lines = report.couldNotRun.map(({ surface, rules, target, reason }) => {
    return `  ${paint('red', '?')} ${surfaceText[surface]}, ${target}: ${reason}${rules.length > 0 ? paint('dim', ` [${rules.join(', ')}]`) : ''}`;
  });
  const waivers = 'each rule of such a target can be accepted by a waiver in partywall.config.ts, with a reason and an end date';
  const hint = report.couldNotRun.some(({ rules }) => rules.length > 0) ? [paint('dim', `      ${waivers}`)] : [];
  return [paint('bold', 'could not run'), ...lines, ...hint, ''];
}

function residuals(report: VerifyReport, paint: Paint): string[] {
  if (report.residuals.length === 0) return [];
  const lines = report.residuals.flatMap(({ id, message, targets }) => {
    const rest = targets.length - targetsShown;
    const list = targets.length === 0 ? [] : [paint('dim', `      ${targets.slice(0, targetsShown).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`)];
    return [`  · ${id.replace('residual.', '')}: ${message}`, ...list];
  });
  return [paint('bold', 'residual risks, which the wall cannot close'), ...lines, ''];
}

function summary(report: VerifyReport, paint: Paint): string {
  const exit = verifyExit(report);
  const made = report.checks.filter((check) => check.outcome === 'pass' || check.outcome === 'fail').length;
  const verdict = exit === 0 ? paint('green', 'sound') : exit === 1 ? paint('red', 'not sound') : paint('red', 'could not tell');
  const counts = [`${made} checks`, counted(report.findings.length, 'finding'), counted(report.residuals.length, 'residual risk')];
  if (report.couldNotRun.length > 0) counts.push(`${report.couldNotRun.length} could not run`);
  return `${verdict}: ${report.database} as ${report.appRole}, ${counts.join(', ')}, ${(report.elapsedMs / 1000).toFixed(1)} s`;
}

function counted(count: number, one: string): string {
  return `${count} ${count === 1 ? one : `${one}s`}`;
}
