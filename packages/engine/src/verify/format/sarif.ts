import type { Finding } from '../finding.ts';
import { type VerifyReport, verifyExit } from '../report.ts';
import type { Severity } from '../rules/rule-text.ts';
import { rules } from '../rules/rules.ts';

export interface SarifOptions {
  /** Version of the command. */
  readonly toolVersion?: string;
  /** What results point at: code hosts show only results that are in a file. */
  readonly configFile?: string;
}

const levels: Readonly<Record<Severity, 'error' | 'warning' | 'note'>> = { critical: 'error', high: 'error', medium: 'warning', low: 'note' };
/** What code hosts sort by, 0 to 10. */
const securitySeverity: Readonly<Record<Severity, string>> = { critical: '9.5', high: '8.0', medium: '5.5', low: '2.0' };

/** SARIF 2.1.0: findings as results, waivers as suppressions, the baseline as `unchanged`, what could not run as notifications. */
export function toSarif(report: VerifyReport, options: SarifOptions = {}): object {
  const table = [...rules.values()].filter((rule) => rule.kind !== 'residual');
  const indexOf = new Map(table.map((rule, at) => [rule.id, at]));
  const uri = options.configFile ?? 'partywall.config.ts';
  const result = (found: Finding, more: object): object => ({
    ruleId: found.rule,
    ruleIndex: indexOf.get(found.rule),
    kind: 'fail',
    level: levels[found.severity],
    message: { text: found.evidence === undefined ? found.message : `${found.message} (${found.evidence})` },
    locations: [
      {
        physicalLocation: { artifactLocation: { uri }, region: { startLine: 1 } },
        logicalLocations: [{ fullyQualifiedName: `${report.database}/${found.target}`, name: found.target, kind: 'object' }],
      },
    ],
    partialFingerprints: { 'partywall/v1': found.fingerprint },
    ...more,
  });
  return {
    $schema: 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'partywall verify',
            ...(options.toolVersion !== undefined && { version: options.toolVersion }),
            rules: table.map((rule) => ({
              id: rule.id,
              name: rule.id.replaceAll(/(^|[.-])(\w)/g, (_all, _mark, letter: string) => letter.toUpperCase()),
              shortDescription: { text: rule.title },
              fullDescription: { text: rule.explains },
              help: { text: rule.fix },
              defaultConfiguration: { level: levels[rule.severity] },
              properties: { tags: ['security', 'multi-tenancy', rule.kind], 'security-severity': securitySeverity[rule.severity] },
            })),
          },
        },
        invocations: [
          {
            executionSuccessful: verifyExit(report) !== 2,
            exitCode: verifyExit(report),
            endTimeUtc: report.at.toISOString(),
            toolExecutionNotifications: report.couldNotRun.map(({ surface, rules: asked, target, reason }) => ({
              level: 'error',
              message: { text: `could not run (${surface}) on ${target}: ${reason}` },
              ...(asked[0] !== undefined && { associatedRule: { id: asked[0] } }),
            })),
          },
        ],
        results: [
          ...report.findings.map((found) => result(found, { baselineState: 'new' })),
          ...report.known.map((found) => result(found, { baselineState: 'unchanged' })),
          ...report.waived.map(({ finding, reason, until }) =>
            result(finding, { suppressions: [{ kind: 'external', status: 'accepted', justification: `${reason} (until ${until})` }] }),
          ),
        ],
        properties: { residuals: report.residuals.map(({ id, message, targets }) => ({ id, message, targets })) },
      },
    ],
  };
}
