import type pg from 'pg';
import type { Catalog } from '../catalog/catalog.ts';
import { readCatalog } from '../catalog/read-catalog.ts';
import { connect, describeTarget } from '../db/connect.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { describeSession, type GateReport, switchGate } from './gate.ts';
import { planWall, type WallPlan, type WallStep } from './plan.ts';
import { passwordStatements, type RolePasswords } from './roles.ts';
import { prepareSession, runStep } from './run-step.ts';
import { keyTypeOf, wantedWall } from './shape.ts';
import { describeTrouble, findTroubledRows, quarantine, type TroubledRows } from './trouble.ts';

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

/** One apply at a time; the lock ends with the session. */
const applyLock = "select pg_try_advisory_lock(hashtextextended('partywall:apply', 0)) as locked";

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
  const catalog = await readCatalog(client);
  const plan = planWall(model, catalog);
  refuseBlocked(plan, options);
  await refuseBootstrapMistake(client, catalog, model);
  const steps = stepsOf(plan, phase);
  options.onProgress?.({ kind: 'planned', steps: steps.length });
  if (options.dryRun) {
    return { phase, plan, applied: [], troubled: await troubledNow(client, model, catalog), quarantined: new Map(), gate: undefined };
  }
  const superuser = catalog.roles.get(catalog.currentUser)?.superuser ?? false;
  if (steps.length > 0) refuseUnprivileged(catalog, model, options);
  const { rows } = await client.query<{ locked: boolean }>(applyLock);
  if (!rows[0]?.locked)
    throw new PartywallError('phase_refused', 'starting to apply: another apply or rollback is running on this database', {
      hint: 'wait for it to end, or end its session',
    });
  await prepareSession(client);

  let gate: GateReport | undefined;
  if (phase === 'contract' && steps.length > 0) {
    const missing = stepsOf(plan, 'expand');
    if (missing.length > 0) {
      throw new PartywallError('phase_refused', `contracting: expand has ${missing.length} steps left`, {
        hint: 'run `partywall apply --phase expand` first',
        details: missing.map((step) => `${step.id}: ${step.title}`),
      });
    }
    if (catalog.runtime?.facts?.['phase'] !== 'contract' && !options.skipGate) gate = await passGate(client, options);
  }
  const passwords = passwordStatements(model, options.passwords ?? {});
  let quarantined: ReadonlyMap<TableName, number> = new Map();
  if (phase === 'contract' && steps.length > 0) quarantined = await settleTrouble(client, catalog, superuser, options);
  const applied = await runRounds(client, plan, superuser, options);
  for (const statement of passwords) await client.query(statement);
  const after = applied.length > 0 || phase === 'expand' ? await readCatalog(client) : catalog;
  let troubled = phase === 'expand' ? await troubledNow(client, model, after) : [];
  if (phase === 'expand' && troubled.length > 0 && options.quarantine) {
    quarantined = await quarantine(client, model, after, wantedWall(model, after), superuser);
    troubled = await troubledNow(client, model, after);
  }
  return { phase, plan, applied, troubled, quarantined, gate };
}

async function runRounds(client: pg.Client, first: WallPlan, superuser: boolean, options: ApplyOptions): Promise<string[]> {
  const applied: string[] = [];
  let plan = first;
  for (let round = 1; ; round += 1) {
    const steps = stepsOf(plan, options.phase);
    if (steps.length === 0) return applied;
    if (round > roundsMax) throw new Error(`applying ${options.phase}: these steps do not take effect: ${steps.map((step) => step.id).join(', ')}`);
    for (const [at, step] of steps.entries()) {
      options.onProgress?.({ kind: 'step', step, at: at + 1, of: steps.length });
      await runStep(step, {
        client,
        superuser,
        signal: options.signal,
        onProgress: (done, total) => options.onProgress?.({ kind: 'backfill', step, done, total }),
      });
      applied.push(step.id);
    }
    plan = planWall(options.model, await readCatalog(client));
  }
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

/** Reads the bootstrap tenant from the root: a mistyped one would become the owner of every row. */
async function refuseBootstrapMistake(client: pg.Client, catalog: Catalog, model: TenancyModel): Promise<void> {
  if (model.bootstrap === undefined) return;
  const root = catalog.relations.get(model.tenant.table);
  const key = root?.columns.find((column) => column.name === model.tenant.key);
  if (!root || !key) return;
  const found = await client
    .query<{ found: boolean }>(
      `select exists (select from ${quoted(root.table)} r where r.${ident(key.name)} = $1::${keyTypeOf(key.type) ?? key.type}) as found`,
      [model.bootstrap],
    )
    .catch((cause: unknown) => {
      throw new PartywallError('model_invalid', `looking for the bootstrap tenant: ${JSON.stringify(model.bootstrap)} is not a ${key.type}`, { cause });
    });
  if (!found.rows[0]?.found)
    throw new PartywallError('model_invalid', `looking for the bootstrap tenant: ${root.table} has no row ${JSON.stringify(model.bootstrap)}`);
}

/** Asks before anything is done, so that a missing right never leaves half a phase. */
function refuseUnprivileged(catalog: Catalog, model: TenancyModel, options: ApplyOptions): void {
  const role = catalog.roles.get(catalog.currentUser);
  if (role?.superuser) return;
  const lacks: string[] = [];
  const owned = memberships(catalog, catalog.currentUser);
  const foreign = [...catalog.relations.values()].filter(
    (relation) => model.schemas.includes(relation.schema) && !relation.extension && !owned.has(relation.owner),
  );
  const owners = [...new Set(foreign.map((relation) => relation.owner))];
  if (owners.length > 0) lacks.push(`membership of ${owners.join(', ')}, who own ${foreign.length} tables`);
  if (!role?.bypassRls) lacks.push('BYPASSRLS, without which validation reads no rows and proves nothing');
  const missingRoles = [model.roles.app, model.roles.system, model.roles.service].filter((name) => !catalog.roles.has(name));
  if (missingRoles.length > 0 && !role?.createRole) lacks.push(`CREATEROLE, to make ${missingRoles.join(', ')}`);
  const closed = closedPlaces(catalog, model, owned);
  if (closed.length > 0) lacks.push(`CREATE on ${closed.join(' and ')}, where the wall makes its schema and its indexes`);
  if (lacks.length > 0) {
    throw new PartywallError('permission_missing', `applying to ${describeTarget(options.url)}: role ${catalog.currentUser} lacks ${lacks[0]}`, {
      details: lacks,
    });
  }
}

/** Where the wall creates something and none of `reach` may. */
function closedPlaces(catalog: Catalog, model: TenancyModel, reach: ReadonlySet<string>): string[] {
  const mayCreate = (grants: Catalog['databaseGrants']) =>
    grants.some(({ grantee, privilege }) => privilege === 'create' && (grantee === 'public' || reach.has(grantee)));
  const schemas = model.schemas.flatMap((name) => catalog.schemas.get(name) ?? []).filter((schema) => !reach.has(schema.owner) && !mayCreate(schema.grants));
  const needsDatabase = catalog.runtime === undefined && !mayCreate(catalog.databaseGrants);
  return [...(needsDatabase ? [`database ${catalog.database}`] : []), ...schemas.map((schema) => `schema ${schema.name}`)];
}

function memberships(catalog: Catalog, role: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(role)) return seen;
  seen.add(role);
  for (const { role: group } of catalog.roles.get(role)?.memberOf ?? []) memberships(catalog, group, seen);
  return seen;
}

async function passGate(client: pg.Client, options: ApplyOptions): Promise<GateReport> {
  const gate = await switchGate(client, options.model, options.allow ? { allow: options.allow } : {});
  if (!gate.passed) throw new PartywallError('switch_incomplete', `contracting: ${gate.message}`, { details: gate.remaining.map(describeSession) });
  return gate;
}

async function settleTrouble(client: pg.Client, catalog: Catalog, superuser: boolean, options: ApplyOptions): Promise<ReadonlyMap<TableName, number>> {
  const troubled = await troubledNow(client, options.model, catalog);
  if (troubled.length === 0) return new Map();
  if (options.quarantine) return quarantine(client, options.model, catalog, wantedWall(options.model, catalog), superuser);
  const crossing = troubled.some((rows) => rows.kind === 'crosses tenants');
  const count = troubled.reduce((sum, rows) => sum + rows.count, 0);
  throw new PartywallError(
    crossing ? 'rows_cross_tenants' : 'rows_without_tenant',
    `contracting: ${count} ${count === 1 ? 'row belongs' : 'rows belong'} to no tenant or to two`,
    { details: troubled.map(describeTrouble) },
  );
}

async function troubledNow(client: pg.Client, model: TenancyModel, catalog: Catalog): Promise<TroubledRows[]> {
  return findTroubledRows(client, model, catalog, wantedWall(model, catalog));
}
