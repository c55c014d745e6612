import type pg from 'pg';
import type { AttackResult } from './attack/attack-result.ts';
import { attackSurface, type SurfaceReport } from './attack/attack-surface.ts';
import { findCast } from './attack/cast.ts';
import { readColumnFacts } from './attack/column-facts.ts';
import { poolerKeepsState } from './attack/pooler-state.ts';
import { attackSystem } from './attack/system-attack.ts';
import { timeQuery } from './attack/time-query.ts';
import { checkData, type DataReport } from './data-checks.ts';
import type { Residual } from './finding.ts';
import type { SuiteInput } from './named-checks.ts';
import type { CouldNotRun } from './report.ts';
import { type RuleId, rules } from './rules/rules.ts';
import type { StaticFacts } from './static/static-facts.ts';
import type { VerifyOptions, VerifyProgress } from './verify.ts';

/** What was seen of the running database: its data and how it answers the application. */
export interface LiveReport {
  readonly surfaces: readonly (SurfaceReport & { readonly elapsedMs: number })[];
  readonly system: AttackResult | undefined;
  readonly data: DataReport;
  readonly dataElapsedMs: number;
  readonly residuals: readonly Residual[];
  readonly couldNotRun: readonly CouldNotRun[];
  readonly query: SuiteInput['query'];
}

export interface LiveOptions extends VerifyOptions {
  readonly wants: (rule: RuleId) => boolean;
  readonly progress: (stage: VerifyProgress['stage']) => (done: number, total: number, what: string) => void;
}

const noData: DataReport = { findings: [], made: new Map(), failures: [] };

export async function runLive(admin: pg.Client, facts: StaticFacts, options: LiveOptions): Promise<LiveReport> {
  const couldNotRun: CouldNotRun[] = [];
  const nothing: LiveReport = { surfaces: [], system: undefined, data: noData, dataElapsedMs: 0, residuals: [], couldNotRun, query: undefined };
  // Without the runtime or the tenant root there is nothing to enter and nothing to join; the static rules say so.
  if (options.staticOnly) return nothing;
  if (!facts.catalog.runtime || facts.wanted.tables.size === 0) {
    return {
      ...nothing,
      couldNotRun: [{ surface: 'data', rules: [], target: facts.catalog.database, reason: 'the wall is not built here: there is nothing to attack' }],
    };
  }
  const { wants } = options;
  const wantsKind = (kind: string): boolean => [...rules.values()].some((rule) => rule.kind === kind && wants(rule.id));

  const dataFrom = performance.now();
  const data = wantsKind('data') ? await checkData(admin, facts.wanted, { signal: options.signal, onProgress: options.progress('data') }) : noData;
  const dataElapsedMs = performance.now() - dataFrom;
  couldNotRun.push(...data.failures.map((failure): CouldNotRun => ({ surface: 'data', ...failure })));
  if (!wantsKind('attack')) return { ...nothing, data, dataElapsedMs };

  const residuals: Residual[] = [];
  const surfaces: (SurfaceReport & { elapsedMs: number })[] = [];
  const troupe = await findCast(admin, facts.wanted);
  const columnFacts = await readColumnFacts(admin, facts.wanted);
  const urls = [
    ['direct', options.appUrl],
    ['pooler', options.poolerUrl],
  ] as const;
  if (options.appUrl === undefined) {
    couldNotRun.push({
      surface: 'direct',
      rules: [],
      target: `role ${facts.model.roles.app}`,
      reason: 'no connection string of the application was given: nothing was attacked',
    });
  }
  for (const [surface, url] of urls) {
    if (url === undefined) continue;
    const from = performance.now();
    const report = await attackSurface({
      surface,
      url,
      facts,
      columnFacts,
      troupe,
      admin,
      wants,
      signal: options.signal,
      onProgress: options.progress(surface),
    });
    surfaces.push({ ...report, elapsedMs: performance.now() - from });
    couldNotRun.push(...unableOf(report, facts));
  }
  if (options.poolerUrl !== undefined && surfaces.at(-1)?.failure === undefined && (await poolerKeepsState(options.poolerUrl))) {
    residuals.push({ id: 'residual.pooler-state', targets: [], message: 'a session setting made by one client was there for another' });
  }
  const system = options.systemUrl !== undefined && wants('system.bound') ? await systemResult(options.systemUrl, facts, couldNotRun) : undefined;
  const canTime = troupe.cast && options.appUrl !== undefined && surfaces[0]?.failure === undefined;
  const query =
    canTime && troupe.cast && options.appUrl !== undefined ? await timeQuery(options.appUrl, facts, { tenant: troupe.cast.victim, admin }) : undefined;
  return { surfaces, system, data, dataElapsedMs, residuals, couldNotRun, query };
}

async function systemResult(url: string, facts: StaticFacts, couldNotRun: CouldNotRun[]): Promise<AttackResult | undefined> {
  const target = `role ${facts.model.roles.system}`;
  try {
    const result = await attackSystem(url, facts);
    if (result.outcome === 'could not run') couldNotRun.push({ surface: 'system', rules: ['system.bound'], target, reason: result.message ?? '' });
    return result;
  } catch (error) {
    couldNotRun.push({
      surface: 'system',
      rules: ['system.bound'],
      target,
      reason: `connecting as the system client: ${error instanceof Error ? error.message : String(error)}`,
    });
    return undefined;
  }
}

/** Attacks that say neither, one entry for each target and reason. */
function unableOf(report: SurfaceReport, facts: StaticFacts): CouldNotRun[] {
  const byReason = new Map<string, { rules: RuleId[]; target: string; reason: string }>();
  for (const result of report.results) {
    if (result.outcome !== 'could not run') continue;
    const reason = result.message ?? 'no reason given';
    const entry = byReason.get(`${result.target}\0${reason}`) ?? { rules: [], target: result.target, reason };
    if (!entry.rules.includes(result.rule)) entry.rules.push(result.rule);
    byReason.set(`${result.target}\0${reason}`, entry);
  }
  const whole: CouldNotRun[] =
    report.failure === undefined ? [] : [{ surface: report.surface, rules: [], target: `role ${facts.model.roles.app}`, reason: report.failure }];
  return [...whole, ...[...byReason.values()].map((entry) => ({ surface: report.surface, ...entry }))];
}
