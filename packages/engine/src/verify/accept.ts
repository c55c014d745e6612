import { z } from 'zod';
import { PartywallError } from '../errors.ts';
import type { Waiver } from '../model/model.ts';
import type { Finding } from './finding.ts';
import type { VerifyReport, WaiverNote } from './report.ts';
import type { Severity } from './rules/rule-text.ts';

/** Fingerprints of findings that were there when a team began to verify: only new ones fail. */
export interface Baseline {
  readonly fingerprints: ReadonlySet<string>;
}

export type Accepted = Pick<VerifyReport, 'findings' | 'waived' | 'known' | 'expiredWaivers' | 'unusedWaivers'>;

const baselineSchema = z.object({ version: z.literal(1), findings: z.array(z.object({ fingerprint: z.string().regex(/^[0-9a-f]{16}$/) })) });

const severityOrder: readonly Severity[] = ['critical', 'high', 'medium', 'low'];

/**
 * Sorts findings by what was decided about them. A waiver holds to the end of its last day (UTC) and covers exactly the rule and the
 * target that it names; a waiver wins over the baseline, because it says why.
 */
export function accept(findings: readonly Finding[], waivers: readonly Waiver[], baseline: Baseline | undefined, now: Date): Accepted {
  const today = now.toISOString().slice(0, 10);
  const active: Finding[] = [];
  const waived: VerifyReport['waived'][number][] = [];
  const known: Finding[] = [];
  const used = new Set<Waiver>();
  for (const found of findings) {
    const matching = waivers.filter((waiver) => waiver.rule === found.rule && waiver.target === found.target);
    for (const waiver of matching) used.add(waiver);
    const holding = matching.find((waiver) => waiver.until >= today);
    if (holding) waived.push({ finding: found, reason: holding.reason, until: holding.until });
    else if (matching.length === 0 && baseline?.fingerprints.has(found.fingerprint)) known.push(found);
    else active.push(found);
  }
  const note = ({ rule, target, reason, until }: Waiver): WaiverNote => ({ rule, target, reason, until });
  return {
    findings: active.sort(bySeverity),
    waived,
    known,
    expiredWaivers: waivers.filter((waiver) => used.has(waiver) && waiver.until < today).map(note),
    unusedWaivers: waivers.filter((waiver) => !used.has(waiver)).map(note),
  };
}

function bySeverity(left: Finding, right: Finding): number {
  return (
    severityOrder.indexOf(left.severity) - severityOrder.indexOf(right.severity) ||
    left.rule.localeCompare(right.rule) ||
    left.target.localeCompare(right.target)
  );
}

/** The baseline that takes every finding of a report as known. */
export function baselineOf(report: Pick<VerifyReport, 'findings' | 'known' | 'database'>): string {
  const entries = [...report.findings, ...report.known]
    .map(({ fingerprint, rule, target }) => ({ fingerprint, rule, target }))
    .sort((left, right) => left.fingerprint.localeCompare(right.fingerprint));
  return `${JSON.stringify({ version: 1, database: report.database, findings: entries }, null, 2)}\n`;
}

/**
 * Reads a baseline file.
 *
 * @throws PartywallError config_malformed
 */
export function parseBaseline(text: string): Baseline {
  const parsed = baselineSchema.safeParse(jsonOf(text));
  if (parsed.success) return { fingerprints: new Set(parsed.data.findings.map((entry) => entry.fingerprint)) };
  throw new PartywallError('config_malformed', `reading the baseline: ${parsed.error.issues[0]?.message ?? 'not a baseline'}`, {
    hint: 'write one with `partywall verify --write-baseline <file>`',
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
