import type pg from 'pg';
import { type Catalog, columnOf } from '../catalog/catalog.ts';
import { readCatalog } from '../catalog/read-catalog.ts';
import { connect, describeTarget, sqlState } from '../db/connect.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { takeApplyLock } from './apply-lock.ts';
import { bootstrapEndedFact } from './facts.ts';
import { describeSession, type GateReport, switchGate } from './gate.ts';
import { planWall, type WallPlan, type WallStep } from './plan.ts';
import { settleStep } from './plan-expand.ts';
import { refuseUnprivileged } from './privileges.ts';
import { quarantine } from './quarantine.ts';
import { passwordStatements, type RolePasswords } from './roles.ts';
import { fillableRows, prepareSession, runStep, type StepContext } from './run-step.ts';
import { keyTypeOf, wantedWall } from './shape.ts';
import { describeTrouble, findTroubledRows, type TroubledRows } from './trouble.ts';

export interface ApplyOptions {
  /** Connection string of a superuser, or of a role that owns the tables, may create roles and bypasses RLS. */
  readonly url: string;
  readonly model: TenancyModel;
  readonly phase: 'expand' | 'contract';
  /** Take rows that cross tenants or have none aside instead of stopping. */
  readonly quarantine?: boolean;
  /** Roles whose connections the switch gate leaves aside (a reporting tool, an administrator). */
  readonly allow?: readonly string[];
  /** Contract although the gate has not passed. */
  readonly skipGate?: boolean;
  /** Plan and look for troubled rows, change nothing. */
  readonly dryRun?: boolean;
  readonly passwords?: RolePasswords;
  /** How often a lock on a busy table is asked for (250 ms each) before the run stops; what is done by then stays. */
  readonly lockAttempts?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ApplyProgress) => void;
}

export type ApplyProgress =
  | { readonly kind: 'planned'; readonly steps: number }
  | { readonly kind: 'step'; readonly step: WallStep; readonly at: number; readonly of: number }
  /** Blocks of the table that a backfill has passed. */
  | { readonly kind: 'backfill'; readonly step: WallStep; readonly done: number; readonly total: number };

export interface ApplyReport {
  readonly phase: 'expand' | 'contract';
  /** The plan as it stood at the start. */
  readonly plan: WallPlan;
  /** Ids of the steps that were carried out. */
  readonly applied: readonly string[];
  /** Rows that must be repaired before contract; contract itself refuses to go on beside any. */
  readonly troubled: readonly TroubledRows[];
  readonly quarantined: ReadonlyMap<TableName, number>;
  readonly gate: GateReport | undefined;
}

/** Plans are made again after each round, because some steps become visible only when others are done; two rounds are the norm. */
const roundsMax = 5;

/**
 * Carries out a phase online. Running it again after a kill completes it; running it on a finished phase does nothing.
 *
 * @throws PartywallError wall_blocked, permission_missing, phase_refused, switch_incomplete, rows_without_tenant,
 * rows_cross_tenants, lock_not_acquired, model_invalid, and what `connect` throws
 */
export async function applyWall(options: ApplyOptions): Promise<ApplyReport> {
  const client = await connect(options.url, { purpose: 'apply' });
  try {
    return await applyPhase(client, options);
  } finally {
    await client.end();
  }
}

async function applyPhase(client: pg.Client, options: ApplyOptions): Promise<ApplyReport> {
  const { model, phase } = options;
  if (!options.dryRun) await takeApplyLock(client, 'apply');
  const catalog = await readCatalog(client);
  const plan = planWall(model, catalog);
  refuseBlocked(plan, options);
  await refuseBootstrapMistake(client, catalog, plan, model);
  const steps = stepsOf(plan, phase);
  options.onProgress?.({ kind: 'planned', steps: steps.length });
  if (options.dryRun) {
    return { phase, plan, applied: [], troubled: await troubledNow(client, model, catalog), quarantined: new Map(), gate: undefined };
  }
  const passwords = passwordStatements(model, options.passwords ?? {});
  if (steps.length > 0 || passwords.length > 0) await refuseUnprivileged(client, catalog, model, { ...options, purpose: 'apply' });
  await prepareSession(client);
  const context = await stepContext(client, options);

  const gate = phase === 'contract' && steps.length > 0 ? await beforeContract(client, catalog, plan, options) : undefined;
  let quarantined: ReadonlyMap<TableName, number> = new Map();
  if (phase === 'contract' && steps.length > 0) quarantined = await settleTrouble(catalog, context, options);
  const applied = await runRounds(plan, context, options);
  for (const statement of passwords) await client.query(statement);
  if (phase === 'contract') return { phase, plan, applied, troubled: [], quarantined, gate };

  const after = applied.length > 0 ? await readCatalog(client) : catalog;
  applied.push(...(await refill(after, context, options)));
  let troubled = await troubledNow(client, model, after);
  if (troubled.length > 0 && options.quarantine) {
    quarantined = await quarantine(model, after, wantedWall(model, after), context);
    troubled = await troubledNow(client, model, after);
  }
  return { phase, plan, applied, troubled, quarantined, gate };
}

async function stepContext(client: pg.Client, options: ApplyOptions): Promise<StepContext> {
  const { rows } = await client.query<{ quiet: boolean }>("select has_parameter_privilege('session_replication_role', 'set') as quiet");
  return { client, quiet: rows[0]?.quiet ?? false, lockAttempts: options.lockAttempts, signal: options.signal, onProgress: () => undefined };
}

/** Expand must be whole, and the application must have moved. */
async function beforeContract(client: pg.Client, catalog: Catalog, plan: WallPlan, options: ApplyOptions): Promise<GateReport | undefined> {
  const missing = stepsOf(plan, 'expand');
  if (missing.length > 0) {
    throw new PartywallError('phase_refused', `contracting: expand has ${missing.length} steps left`, {
      hint: 'run `partywall apply --phase expand` first',
      details: missing.map((step) => `${step.id}: ${step.title}`),
    });
  }
  if (catalog.runtime?.facts?.['phase'] === 'contract' || options.skipGate) return undefined;
  return passGate(client, options);
}

/** A deadlock with another session ends an index build, whose leftover the next round drops. */
const deadlockDetected = '40P01';
/** NOT NULL, foreign key, check: a row came into trouble after the look for such rows. */
const rowViolations: readonly (string | undefined)[] = ['23502', '23503', '23514'];

async function runRounds(first: WallPlan, context: StepContext, options: ApplyOptions): Promise<string[]> {
  const applied: string[] = [];
  let plan = first;
  for (let round = 1; ; round += 1) {
    const steps = stepsOf(plan, options.phase);
    if (steps.length === 0) return applied;
    if (round > roundsMax) throw new Error(`applying ${options.phase}: these steps do not take effect: ${steps.map((step) => step.id).join(', ')}`);
    for (const [at, step] of steps.entries()) {
      options.onProgress?.({ kind: 'step', step, at: at + 1, of: steps.length });
      try {
        await runStep(step, { ...context, onProgress: (done, total) => options.onProgress?.({ kind: 'backfill', step, done, total }) });
      } catch (error) {
        if (sqlState(error) === deadlockDetected) break;
        if (rowViolations.includes(sqlState(error))) await refuseTrouble(await readCatalog(context.client), context, options, error);
        throw error;
      }
      applied.push(step.id);
    }
    plan = planWall(options.model, await readCatalog(context.client));
  }
}

/**
 * Rows that could not be given a tenant and now can, because their parent was repaired, or because a session that fires no triggers
 * wrote them.
 */
async function refill(catalog: Catalog, context: StepContext, options: ApplyOptions): Promise<string[]> {
  const step = settleStep(options.model, catalog, wantedWall(options.model, catalog));
  if (!step) return [];
  for (const backfill of step.action.backfills) {
    if ((await fillableRows(backfill, context.client)) === 0) continue;
    options.onProgress?.({ kind: 'step', step, at: 1, of: 1 });
    await runStep(step, context);
    return [step.id];
  }
  return [];
}

function stepsOf(plan: WallPlan, phase: WallStep['phase']): WallStep[] {
  return plan.steps.filter((step) => step.phase === phase);
}

function refuseBlocked(plan: WallPlan, options: ApplyOptions): void {
  const [first] = plan.blockers;
  if (!first) return;
  throw new PartywallError('wall_blocked', `planning the wall of ${describeTarget(options.url)}: ${first.table} ${first.message}`, {
    details: plan.blockers.map((blocker) => `${blocker.table}: ${blocker.message}`),
  });
}

/**
 * Reads the bootstrap tenant from the root: a mistyped one would become the owner of every row, and one of several would become the
 * owner of the others'.
 */
async function refuseBootstrapMistake(client: pg.Client, catalog: Catalog, plan: WallPlan, model: TenancyModel): Promise<void> {
  const root = catalog.relations.get(model.tenant.table);
  const key = root && columnOf(root, model.tenant.key);
  if (model.bootstrap === undefined || !root || !key || catalog.runtime?.facts?.[bootstrapEndedFact]) return;
  const { rows } = await client
    .query<{ found: boolean; others: number }>(
      `select count(*) filter (where r.${ident(key.name)} = $1::${keyTypeOf(key.type) ?? key.type}) > 0 as found,
        (count(*) filter (where r.${ident(key.name)} <> $1::${keyTypeOf(key.type) ?? key.type}))::int as others from ${quoted(root.table)} r`,
      [model.bootstrap],
    )
    .catch((cause: unknown) => {
      if (!sqlState(cause)?.startsWith(dataException)) throw cause;
      throw new PartywallError('model_invalid', `looking for the bootstrap tenant: ${JSON.stringify(model.bootstrap)} is not a ${key.type}`, { cause });
    });
  const { found = false, others = 0 } = rows[0] ?? {};
  if (!found) throw new PartywallError('model_invalid', `looking for the bootstrap tenant: ${root.table} has no row ${JSON.stringify(model.bootstrap)}`);
  if (others > 0 && plan.steps.some((step) => step.id.startsWith('expand/column/'))) {
    throw new PartywallError(
      'model_invalid',
      `filling new columns with the bootstrap tenant: ${root.table} has ${others} more ${others === 1 ? 'tenant' : 'tenants'}, whose rows would become its own`,
      { hint: 'a bootstrap tenant belongs to a database with one tenant: give each table a way to its tenant instead' },
    );
  }
}

const dataException = '22';

async function passGate(client: pg.Client, options: ApplyOptions): Promise<GateReport> {
  const gate = await switchGate(client, options.model, options.allow ? { allow: options.allow } : {});
  if (!gate.passed) throw new PartywallError('switch_incomplete', `contracting: ${gate.message}`, { details: gate.remaining.map(describeSession) });
  return gate;
}

async function settleTrouble(catalog: Catalog, context: StepContext, options: ApplyOptions): Promise<ReadonlyMap<TableName, number>> {
  if (!options.quarantine) {
    await refuseTrouble(catalog, context, options);
    return new Map();
  }
  const troubled = await troubledNow(context.client, options.model, catalog);
  return troubled.length === 0 ? new Map() : quarantine(options.model, catalog, wantedWall(options.model, catalog), context);
}

/** @throws PartywallError rows_cross_tenants, rows_without_tenant where there are such rows */
async function refuseTrouble(catalog: Catalog, context: StepContext, options: ApplyOptions, cause?: unknown): Promise<void> {
  const troubled = await troubledNow(context.client, options.model, catalog);
  if (troubled.length === 0) return;
  const crossing = troubled.some((rows) => rows.kind === 'crosses tenants');
  const count = troubled.reduce((sum, rows) => sum + rows.count, 0);
  throw new PartywallError(
    crossing ? 'rows_cross_tenants' : 'rows_without_tenant',
    `contracting: ${count} ${count === 1 ? 'row belongs' : 'rows belong'} to no tenant, to two, or to a row that is missing`,
    { details: troubled.map(describeTrouble), ...(cause === undefined ? {} : { cause }) },
  );
}

async function troubledNow(client: pg.ClientBase, model: TenancyModel, catalog: Catalog): Promise<TroubledRows[]> {
  return findTroubledRows(client, model, catalog, wantedWall(model, catalog));
}
