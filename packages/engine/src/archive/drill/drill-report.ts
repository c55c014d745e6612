import type { Tier } from '../ledger/reconcile-plan.ts';

export const drillSteps = ['scratch', 'schema', 'load', 'keys', 'compare', 'sequences', 'wall', 'smoke', 'objective'] as const;
export type DrillStepName = (typeof drillSteps)[number];

/** What each step is, for people. */
export const stepTitles: Readonly<Record<DrillStepName, string>> = {
  scratch: 'make the scratch database',
  schema: 'make roles and tables',
  load: 'load rows',
  keys: 'make keys, indexes and rights',
  compare: 'compare rows with the backup',
  sequences: 'probe sequences',
  wall: 'verify the wall',
  smoke: 'ask the smoke queries',
  objective: 'compare the time with the objective',
};

export interface DrillStep {
  readonly step: DrillStepName;
  readonly outcome: 'passed' | 'failed' | 'not run';
  readonly seconds: number;
  /** What was looked at: `4 tables`. */
  readonly said: string;
  /** A line each. */
  readonly problems: readonly string[];
}

export interface DrillTenantReport {
  readonly tenant: string;
  readonly tier: Tier;
  readonly why: string;
  readonly rows: number;
  readonly bytes: number;
  readonly outcome: 'passed' | 'failed';
  readonly rtoSeconds: number | null;
}

/** What a drill found out. Times are ISO 8601 in UTC. */
export interface DrillReport {
  readonly format: 'partywall.drill/1';
  readonly id: string;
  readonly outcome: 'passed' | 'failed';
  readonly startedAt: string;
  readonly finishedAt: string;
  /** The backup, and when its rows were so. */
  readonly backup: string;
  readonly at: string;
  readonly target: string;
  readonly seed: string;
  /** Where the keys came from, the key-encryption key in use, how many data keys opened something, and the first of their ids. */
  readonly keys: { readonly from: 'keyring' | 'escrow'; readonly kek: number | null; readonly count: number; readonly data: readonly string[] };
  /** Tenants that were restored, of all that the backup holds. */
  readonly visited: number;
  readonly held: number;
  readonly rows: number;
  readonly bytes: number;
  /** From the first statement in the scratch database until keys and rights were made; null: it did not get so far. */
  readonly readySeconds: number | null;
  /** The same for everything that the backup holds, at the rate of this drill. */
  readonly projectedSeconds: number | null;
  readonly steps: readonly DrillStep[];
  readonly tenants: readonly DrillTenantReport[];
  /** What was not proved, a line each. */
  readonly notes: readonly string[];
  /** Where the scratch database is, if it was kept. */
  readonly kept: string | null;
}

/** Lines of a step and tenants of a report that are printed; the rest is in the JSON. */
const linesMax = 50;

export function drillMarkdown(report: DrillReport): string {
  const tenants = report.tenants.slice(0, linesMax);
  const problems = report.steps.flatMap(({ step, problems: found }) => found.map((problem) => `- ${stepTitles[step]}: ${plain(problem)}`));
  return [
    `# Restore drill of ${report.startedAt.slice(0, 10)}: ${report.outcome}`,
    '',
    '| | |',
    '| --- | --- |',
    `| drill | ${report.id} |`,
    `| backup | ${report.backup}, rows of ${report.at} |`,
    `| restored into | ${plain(report.target)} |`,
    `| keys | ${report.keys.from}, key-encryption key ${report.keys.kek ?? 'none'}, ${report.keys.count} data keys |`,
    `| tenants | ${report.visited} of ${report.held}, seed ${report.seed} |`,
    `| rows | ${report.rows} in ${report.bytes} bytes |`,
    `| usable after | ${seconds(report.readySeconds)} |`,
    `| the whole backup, at this rate | ${seconds(report.projectedSeconds)} |`,
    '',
    '| step | outcome | took | |',
    '| --- | --- | --- | --- |',
    ...report.steps.map(({ step, outcome, seconds: took, said }) => `| ${stepTitles[step]} | ${outcome} | ${seconds(took)} | ${plain(said)} |`),
    '',
    ...section('What failed', problems),
    '| tenant | tier | outcome | rows | promised within | why |',
    '| --- | --- | --- | --- | --- | --- |',
    ...tenants.map(
      ({ tenant, tier, outcome, rows, rtoSeconds, why }) =>
        `| ${plain(tenant)} | ${tier} | ${outcome} | ${rows} | ${rtoSeconds === null ? 'best effort' : seconds(rtoSeconds)} | ${why} |`,
    ),
    ...(report.tenants.length > linesMax ? [`| and ${report.tenants.length - linesMax} more | | | | | |`] : []),
    '',
    ...section(
      'What was not proved',
      report.notes.map((note) => `- ${plain(note)}`),
    ),
  ].join('\n');
}

function section(title: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length > linesMax ? [`- and ${lines.length - linesMax} more`] : [];
  return [`## ${title}`, '', ...lines.slice(0, linesMax), ...more, ''];
}

function seconds(value: number | null): string {
  return value === null ? 'did not get so far' : `${value.toFixed(value < 10 ? 1 : 0)} s`;
}

/** On one line, and no cell or markup of its own. */
function plain(text: string): string {
  return text.replaceAll(/\p{C}+/gu, ' ').replaceAll(/[|<>`\\]/g, (character) => `\\${character}`);
}
