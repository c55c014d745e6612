import { z } from 'zod';
import { PartywallError } from '../errors.ts';
import type { Waiver } from '../model/model.ts';
import type { Finding } from './finding.ts';
import type { CouldNotRun, VerifyReport, WaiverNote } from './report.ts';
import type { Severity } from './rules/rule-text.ts';

/** Fingerprints of findings that were there when a team began to verify: only new ones fail. */
export interface Baseline {
  readonly fingerprints: ReadonlySet<string>;
}

export type Accepted = Pick<VerifyReport, 'findings' | 'waived' | 'known' | 'expiredWaivers' | 'unusedWaivers' | 'couldNotRun' | 'acceptedUnable'>;

/** What there is to decide about. */
export interface ToAccept {
  readonly findings: readonly Finding[];
  readonly couldNotRun: readonly CouldNotRun[];
}

const baselineSchema = z.object({ version: z.literal(1), findings: z.array(z.object({ fingerprint: z.string().regex(/^[0-9a-f]{16}$/) })) });

const severityOrder: readonly Severity[] = ['critical', 'high', 'medium', 'low'];

/**
 * Sorts findings by what was decided about them. A waiver holds to the end of its last day (UTC) and covers exactly the rule and the
 * target that it names; a waiver wins over the baseline, because it says why. One that names a rule that could not run on a target
 * accepts that too: a trigger of the application may refuse every row that verify can make. Nothing accepts a whole surface.
 */
export function accept({ findings, couldNotRun }: ToAccept, waivers: readonly Waiver[], baseline: Baseline | undefined, now: Date): Accepted {
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
  const acceptedUnable: VerifyReport['acceptedUnable'][number][] = [];
  const unable = couldNotRun.flatMap((entry) => {
    if (entry.rules.length === 0) return [entry];
    const open = entry.rules.filter((rule) => {
      const matching = waivers.filter((waiver) => waiver.rule === rule && waiver.target === entry.target);
      for (const waiver of matching) used.add(waiver);
      const holding = matching.find((waiver) => waiver.until >= today);
      if (holding) acceptedUnable.push({ rule, target: entry.target, reason: holding.reason, until: holding.until });
      return holding === undefined;
    });
    return open.length === 0 ? [] : [{ ...entry, rules: open }];
  });
  const note = ({ rule, target, reason, until }: Waiver): WaiverNote => ({ rule, target, reason, until });
  return {
    findings: active.sort(bySeverity),
    waived,
    known,
    couldNotRun: unable,
    acceptedUnable,
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
