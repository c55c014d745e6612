import { connect, sqlState } from '../../db/connect.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { verify } from '../../verify/verify.ts';
import type { OpenArchive } from '../open-archive.ts';
import type { Backup } from '../read/open-backup.ts';
import { type AppLogin, appConnection, withApp } from './app-login.ts';
import { compareRows, readContents } from './compare-rows.ts';
import { type DrillReport, type DrillStep, type DrillStepName, type DrillTenantReport, drillSteps } from './drill-report.ts';
import type { DrillPlan } from './plan-drill.ts';
import { probeSequences } from './probe-sequences.ts';
import { admitTenants, loadScratch, makeKeys, makeTables, readRestore, type ScratchRestore, type ScratchTarget } from './restore-scratch.ts';
import { dropStagedRoles, makeScratch, type Scratch, type ScratchPlace } from './scratch.ts';
import { askSmokeQueries } from './smoke-queries.ts';

export interface DrillEvent {
  readonly step: DrillStepName;
  /** Connection string of the scratch database; undefined before there is one. */
  readonly url: string | undefined;
}

export interface DrillRun {
  readonly operation: Operation;
  readonly archive: OpenArchive;
  readonly backup: Backup;
  readonly plan: DrillPlan;
  readonly place: ScratchPlace;
  readonly id: string;
  /** The application's connection string on a staging server. */
  readonly appUrl: string | undefined;
  /** Whether the scratch database stays. */
  readonly keep: boolean;
  readonly onStep: ((event: DrillEvent) => void | Promise<void>) | undefined;
}

export type DrillResult = Pick<DrillReport, 'outcome' | 'target' | 'rows' | 'bytes' | 'readySeconds' | 'steps' | 'tenants' | 'notes' | 'kept'> & {
  readonly dataKeys: readonly string[];
};

/** Something is wrong, with one tenant or with all that was restored. */
interface Problem {
  readonly tenant?: string;
  readonly what: string;
}

interface StepResult {
  readonly said: string;
  readonly problems: readonly Problem[];
}

interface RanStep {
  readonly report: DrillStep;
  readonly problems: readonly Problem[];
}

/** Without these there is nothing to look at. */
const essential: ReadonlySet<DrillStepName> = new Set(['scratch', 'schema', 'load', 'keys']);
const problemsMax = 200;

/** What the steps find out about the restore, as they go. */
interface Progress {
  scratch?: Scratch;
  restore?: ScratchRestore;
  madeRoles: readonly string[];
  appUrl?: string;
  begunAt?: Date;
  readySeconds: number | null;
  rows: number;
  readonly notes: string[];
}

/**
 * Carries a drill out. A step that finds something wrong says so, and the next one goes on where it can.
 *
 * @throws whatever aborted the operation, after the scratch database was dropped
 */
export async function runDrillSteps(run: DrillRun): Promise<DrillResult> {
  const { backup, plan, keep, place } = run;
  const progress: Progress = { madeRoles: [], readySeconds: null, rows: 0, notes: [...backup.manifest.left] };
  const steps: DrillStep[] = [];
  const problems: Problem[] = [];
  let isBroken = false;
  try {
    for (const step of drillSteps) {
      const ran: RanStep = isBroken ? notRun(step) : await runStep(run, progress, step);
      steps.push(ran.report);
      problems.push(...ran.problems);
      isBroken ||= ran.problems.length > 0 && essential.has(step);
    }
  } finally {
    if (!keep) await cleanUp(progress, place);
  }
  const { restore, scratch, readySeconds, rows, notes } = progress;
  if (plan.tenants.length === 0) problems.push({ what: 'no tenant was drilled' });
  return {
    outcome: problems.length === 0 ? 'passed' : 'failed',
    target: scratch?.description ?? 'nowhere',
    rows,
    bytes: restore ? [restore.platform, ...plan.tenants].reduce((sum, { bytes }) => sum + bytes, 0) : 0,
    readySeconds,
    steps,
    tenants: plan.tenants.map((tenant) => tenantReport(tenant, problems)),
    notes,
    kept: keep ? (scratch?.description ?? null) : null,
    dataKeys: [...(restore?.dataKeys ?? [])],
  };
}

async function runStep(run: DrillRun, progress: Progress, step: DrillStepName): Promise<RanStep> {
  const { database, signal } = run.operation;
  signal?.throwIfAborted();
  await run.onStep?.({ step, url: progress.scratch?.url });
  const from = database.clock();
  let result: StepResult;
  try {
    result = await work[step](run, progress);
  } catch (error) {
    signal?.throwIfAborted();
    result = { said: '', problems: [{ what: whatFailed(error) }] };
  }
  const { said, problems } = result;
  const listed = problems.slice(0, problemsMax).map(({ tenant, what }) => (tenant === undefined ? what : `tenant ${tenant}: ${what}`));
  if (problems.length > problemsMax) listed.push(`and ${problems.length - problemsMax} more`);
  const outcome = problems.length > 0 ? 'failed' : 'passed';
  return { report: { step, outcome, seconds: secondsSince(from, database.clock()), said, problems: listed }, problems };
}

function notRun(step: DrillStepName): RanStep {
  return { report: { step, outcome: 'not run', seconds: 0, said: '', problems: [] }, problems: [] };
}

type StepWork = (run: DrillRun, progress: Progress) => Promise<StepResult>;

const work: Readonly<Record<DrillStepName, StepWork>> = {
  scratch: async ({ place, id }, progress) => {
    progress.scratch = await makeScratch(place, id);
    return fine(progress.scratch.description);
  },

  schema: async (run, progress) => {
    progress.begunAt = run.operation.database.clock();
    const restore = await readRestore(run.archive, run.backup, run.plan.tenants);
    progress.restore = restore;
    progress.notes.push(...restore.schema.unsupported);
    progress.madeRoles = await onScratch(run, progress, (target) => makeTables(target, restore));
    return fine(`${restore.tables.length} tables, ${progress.madeRoles.length} roles`);
  },

  load: async (run, progress) => {
    const restore = restored(progress);
    await onScratch(run, progress, (target) => loadScratch(target, restore));
    return fine(`${run.plan.tenants.length} tenants, ${sum(run.plan.tenants.map(({ rows }) => rows)) + restore.platform.rows} rows`);
  },

  keys: async (run, progress) => {
    const restore = restored(progress);
    const left = await onScratch(run, progress, (target) => makeKeys(target, restore));
    progress.readySeconds = secondsSince(progress.begunAt ?? run.operation.database.clock(), run.operation.database.clock());
    progress.notes.push(...left.map((id) => `${id}: not made, because it needs rows of tenants that were left out; --all proves it`));
    return fine(`${restore.schema.items.length - left.length} of ${restore.schema.items.length} objects of the schema are made`);
  },

  compare: async (run, progress) => {
    const { rows, problems } = await onScratch(run, progress, ({ client, signal }) => compareRows(client, restored(progress), signal));
    progress.rows = rows;
    const contents = await readContents(restored(progress), run.operation.signal);
    return {
      said: `${rows} rows of ${restored(progress).tables.length} tables, ${contents} other contents`,
      problems: problems.map(({ tenant, what }) => (tenant === '' ? { what } : { tenant, what })),
    };
  },

  sequences: async (run, progress) => {
    const { probed, problems } = await onScratch(run, progress, ({ client }) => probeSequences(client, run.backup.manifest.sequences));
    return { said: `${probed} sequences`, problems: problems.map((what) => ({ what })) };
  },

  wall: async (run, progress) => {
    const { model, clock } = run.operation.database;
    const tenants = run.plan.tenants.map(({ tenant }) => tenant);
    const login: AppLogin = { role: model.roles.app, made: progress.madeRoles, appUrl: run.appUrl };
    progress.appUrl = await onScratch(run, progress, async (target) => {
      await admitTenants(target.client, tenants);
      return appConnection(target, login);
    });
    const { signal } = run.operation;
    const report = await verify({ model, adminUrl: scratchOf(progress).url, appUrl: progress.appUrl, now: clock(), ...(signal && { signal }) });
    const failed = report.suite.filter(({ outcome }) => outcome === 'fail').map(({ name }) => ({ what: `${name} failed` }));
    return {
      said: `${report.checks.length} checks`,
      problems: [
        ...report.findings.map(({ rule, target, message }) => ({ what: `${rule}: ${target}: ${message}` })),
        ...report.couldNotRun.map(({ rules, target, reason }) => ({ what: `could not run ${rules.join(', ') || 'anything'} on ${target}: ${reason}` })),
        // What a finding or a check that could not run has said already.
        ...(report.findings.length + report.couldNotRun.length > 0 ? [] : failed),
      ],
    };
  },

  smoke: async (run, progress) => {
    const { plan, operation } = run;
    const { appUrl } = progress;
    const { smoke } = operation.database.model.archive;
    if (smoke.length === 0) return fine('none declared');
    if (appUrl === undefined) return { said: '', problems: [{ what: 'they could not be asked: there is no way in for the application' }] };
    const tenants = plan.tenants.map(({ tenant }) => tenant);
    const { asked, problems } = await onScratch(run, progress, (target) =>
      withApp(appUrl, (app) => askSmokeQueries({ app, admin: target.client }, smoke, tenants)),
    );
    return { said: `${asked} answers`, problems };
  },

  objective: ({ plan }, { readySeconds }) => {
    const ready = readySeconds ?? Number.POSITIVE_INFINITY;
    const late = plan.tenants.filter(({ rtoSeconds }) => rtoSeconds !== null && ready > rtoSeconds);
    const problems = late.map(({ tenant, tier, rtoSeconds }) => ({ tenant, what: `usable after ${ready} s, and its tier ${tier} promises ${rtoSeconds} s` }));
    return Promise.resolve({ said: `usable after ${ready} s`, problems });
  },
};

async function onScratch<Result>(run: DrillRun, progress: Progress, work: (target: ScratchTarget) => Promise<Result>): Promise<Result> {
  const scratch = scratchOf(progress);
  const client = await connect(scratch.url, { purpose: 'drill' });
  try {
    return await work({ client, scratch, place: run.place, signal: run.operation.signal });
  } finally {
    await client.end();
  }
}

async function cleanUp({ scratch, notes }: Progress, place: ScratchPlace): Promise<void> {
  try {
    await scratch?.drop();
    await dropStagedRoles(place);
  } catch (error) {
    notes.push(`the scratch database could not be dropped, and the next drill tries again: ${whatFailed(error)}`);
  }
}

function tenantReport({ tenant, tier, why, rows, bytes, rtoSeconds }: DrillPlan['tenants'][number], problems: readonly Problem[]): DrillTenantReport {
  const isWrong = problems.some((problem) => problem.tenant === undefined || problem.tenant === tenant);
  return { tenant, tier, why, rows, bytes, rtoSeconds, outcome: isWrong ? 'failed' : 'passed' };
}

/** What the server says of an error may quote a row, except where it speaks of the statement. */
function whatFailed(error: unknown): string {
  if (error instanceof PartywallError) return error.message;
  const state = sqlState(error);
  if (error instanceof Error && (state === undefined || /^(?:08|28|3D|42|53|57|58)/.test(state))) return error.message;
  return `it failed with ${state ?? 'an unknown error'}`;
}

function fine(said: string): StepResult {
  return { said, problems: [] };
}

/** Steps follow each other, so what an essential one leaves is there for the next. */
function scratchOf({ scratch }: Progress): Scratch {
  if (!scratch) throw new Error('there is no scratch database');
  return scratch;
}

function restored({ restore }: Progress): ScratchRestore {
  if (!restore) throw new Error('the backup was not read');
  return restore;
}

function secondsSince(from: Date, to: Date): number {
  return Math.round((to.getTime() - from.getTime()) / 100) / 10;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
