import type pg from 'pg';
import { readCatalog } from '../catalog/read-catalog.ts';
import { connect } from '../db/connect.ts';
import type { TenancyModel } from '../model/model.ts';
import { wantedWall } from '../wall/shape.ts';
import { accept, type Baseline } from './accept.ts';
import type { AttackResult } from './attack/attack-result.ts';
import type { Surface } from './attack/attack-surface.ts';
import { checksOf } from './checks.ts';
import { type Finding, finding } from './finding.ts';
import { namedChecks } from './named-checks.ts';
import type { VerifyReport } from './report.ts';
import { residualsOf } from './residuals.ts';
import { isRuleId, type RuleId, ruleOf } from './rules/rules.ts';
import { runLive } from './run-live.ts';
import { readServerFacts } from './server-facts.ts';
import { runStatic } from './static/run-static.ts';
import { reachOf, type StaticFacts } from './static/static-facts.ts';

export interface VerifyOptions {
  readonly model: TenancyModel;
  /** Connection string of a superuser, or of a role that reads every table and that row level security does not bind. It is only read with. */
  readonly adminUrl: string;
  /** The application's own connection string. Without it nothing is attacked, and the report says that it could not run. */
  readonly appUrl?: string;
  /** The application's connection string through its pooler: every attack is made a second time there. */
  readonly poolerUrl?: string;
  /** The application's system client, which must not be bound. */
  readonly systemUrl?: string;
  readonly baseline?: Baseline;
  /** Waivers end by it. Default: now. */
  readonly now?: Date;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: VerifyProgress) => void;
  /** Rules to look at; default all. */
  readonly only?: readonly RuleId[];
  /** Judge the catalog alone: no attacks, no data. */
  readonly staticOnly?: boolean;
}

export interface VerifyProgress {
  readonly stage: 'catalog' | 'data' | Surface;
  readonly done: number;
  readonly total: number;
  readonly what: string;
}

const lockTimeoutMs = 2_000;

/**
 * Verifies the wall: from the catalog, from the data, and by attacking it as the application's own role. Nothing it does remains:
 * every attack is made in a transaction that is rolled back.
 *
 * Throws what `connect` throws for the administrator's connection; whatever else could not be asked is in the report.
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const started = performance.now();
  const admin = await connect(options.adminUrl, { purpose: 'verify' });
  try {
    await admin.query(`set default_transaction_read_only = on; set lock_timeout = ${lockTimeoutMs}`);
    return await verifyWith(admin, options, started);
  } finally {
    await admin.end();
  }
}

async function verifyWith(admin: pg.Client, options: VerifyOptions, started: number): Promise<VerifyReport> {
  const { model, signal } = options;
  const now = options.now ?? new Date();
  const wants = (rule: RuleId): boolean =>
    (options.only === undefined || options.only.includes(rule)) && (model.unit !== undefined || ruleOf(rule).surface !== 'unit');
  const progress = (stage: VerifyProgress['stage']) => (done: number, total: number, what: string) => options.onProgress?.({ stage, done, total, what });
  progress('catalog')(0, 1, 'reading the catalog');
  const catalog = await readCatalog(admin);
  const wanted = wantedWall(model, catalog);
  const facts: StaticFacts = { catalog, model, wanted, server: await readServerFacts(admin, model.roles.app), reach: reachOf(catalog, model.roles.app) };
  const statics = runStatic(facts).filter((found) => wants(found.rule));
  signal?.throwIfAborted();

  const live = await runLive(admin, facts, { ...options, wants, progress });
  const attacked = [
    ...live.surfaces.flatMap((report) => report.results.flatMap((result) => toFinding(result, report.surface))),
    ...(live.system ? toFinding(live.system, 'direct') : []),
  ];
  const findings = distinct([...statics, ...attacked, ...live.data.findings.filter((found) => wants(found.rule))]);
  const couldNotRun = live.couldNotRun.filter(({ rules }) => rules.length === 0 || rules.some(wants));
  const accepted = accept({ findings, couldNotRun }, model.waivers, options.baseline, now);
  const direct = live.surfaces.find((report) => report.surface === 'direct');
  return {
    database: catalog.database,
    serverVersion: catalog.serverVersion,
    appRole: model.roles.app,
    at: now,
    elapsedMs: Math.round(performance.now() - started),
    checks: checksOf({ statics, live, wants, staticOnly: options.staticOnly ?? false }),
    ...accepted,
    // A waiver of a rule that was not looked at is not unused; one of a rule that there is not, is.
    unusedWaivers: accepted.unusedWaivers.filter(({ rule }) => !isRuleId(rule) || (wants(rule) && !(options.staticOnly && ruleOf(rule).kind !== 'static'))),
    residuals: [...residualsOf(facts), ...live.residuals].filter((residual) => wants(residual.id)),
    suite: namedChecks({ wanted, catalog, findings: accepted.findings, attacks: direct?.results, query: live.query }),
  };
}

function toFinding(result: AttackResult, surface: Surface): Finding[] {
  if (result.outcome !== 'broken') return [];
  const evidence = [...(result.evidence === undefined ? [] : [result.evidence]), ...(surface === 'pooler' ? ['through the pooler'] : [])].join('; ');
  return [finding(result.rule, result.target, result.message ?? '', evidence === '' ? {} : { evidence })];
}

/** What two surfaces found alike is one finding. */
function distinct(findings: readonly Finding[]): Finding[] {
  return [...new Map(findings.toReversed().map((found) => [found.fingerprint, found])).values()].reverse();
}
