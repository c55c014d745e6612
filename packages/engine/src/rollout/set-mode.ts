import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { readCatalog } from '../catalog/read-catalog.ts';
import { sqlState } from '../db/connect.ts';
import type { Operation } from '../db/operation.ts';
import { literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { parseTableName, type TableName } from '../model/table-name.ts';
import { setFact } from '../wall/facts.ts';
import { withRetriedLocks } from '../wall/run-step.ts';
import { observePolicyName, observingFact } from '../wall/runtime/rollout-sql.ts';
import { type WantedWall, wantedWall } from '../wall/shape.ts';
import { describeMode, type ModePlan, modeStatements, planChange, type RolloutChange, removeMode, setMode } from './plan-change.ts';
import { noteStage, stageOf } from './stages.ts';
import { observes, readModes } from './state.ts';
import { closeTable, modeTarget, openTable, type TableStep, tablesFact, triggerSteps } from './watch-tables.ts';

export interface SetModeInput {
  readonly model: TenancyModel;
  readonly change: RolloutChange;
  /** Recorded with the mode, and in the audit log where there is one. */
  readonly actor: Operation['actor'];
  readonly reason?: string | undefined;
  /** A step that the gates take by themselves: it holds only where the stage is still the one that was judged, and is recorded with what they found. */
  readonly judged?: { readonly stage: number; readonly at: Date; readonly gates: readonly object[] } | undefined;
}

export interface SetModeOptions {
  readonly dryRun?: boolean;
  /** How often a lock on a busy table is asked for, 250 ms each. */
  readonly lockAttempts?: number;
  readonly signal?: AbortSignal;
}

export interface SetModeReport {
  readonly plan: ModePlan;
  readonly steps: readonly TableStep[];
  /** Tables (undefined: all) of which a step could not be carried out, and why; the modes hold all the same. Running again takes the rest up. */
  readonly unfinished: readonly { readonly table: TableName | undefined; readonly title: string; readonly reason: string }[];
}

/** A change must not wait for long behind one busy table: the modes are in force already, and what is left is told. */
const lockAttemptsDefault = 20;
const changeLock = "select pg_advisory_xact_lock(hashtextextended('partywall:rollout', 0))";
/** A table that somebody holds exclusively keeps even its definition from being read (milliseconds). */
const readTimeoutMs = 1_000;
const lacksPrivilege = '42501';
const lockNotAvailable = '55P03';
const dataException = '22';
/** Modes that a record names. */
const recordedMax = 20;

/**
 * Changes the mode of all, of a tenant, of a percentage or of a table. The modes come first, in one transaction with their audit record:
 * processes follow within about a second. Then come the tables, one short transaction each: logging triggers, which the connecting role needs
 * TRIGGER for, and for a table that is opened or closed its policy, which needs the owner.
 *
 * @throws PartywallError usage, tenant_unknown, model_invalid, permission_missing, lock_not_acquired
 */
export async function changeRollout(client: pg.ClientBase, input: SetModeInput, options: SetModeOptions = {}): Promise<SetModeReport> {
  const { model } = input;
  const locks = { client, lockAttempts: options.lockAttempts ?? lockAttemptsDefault, signal: options.signal };
  // Of the tables only what a table's own mode needs comes before the modes: whoever holds one of them must not keep a rollback waiting.
  const target = input.change.scope === 'table' ? tableOf(input.change.table, await readWanted(client, model)) : undefined;
  const change = await checkedChange(client, input.change, target);
  const by = { name: input.actor.name ?? input.actor.id, reason: input.reason };

  const plan = await withRetriedLocks('setting a mode', locks, async () => {
    await client.query(changeLock);
    const before = await readModes(client);
    const { judged } = input;
    if (judged && stageOf(before) !== judged.stage) return { set: [], removed: [], after: before, reasons: ['somebody has changed the stage since'] };
    const decided = planChange(before, change);
    if (options.dryRun) return decided;
    const own = target && change.scope === 'table' ? tableMode({ table: target, mode: change.mode }, decided, { model, by }) : [];
    const observing = setFact(observingFact, observes(decided.after.filter(({ scope }) => scope !== 'table')));
    for (const statement of [...modeStatements(decided, by), ...own, observing]) await client.query(statement).catch(explain);
    if (stageOf(before) !== stageOf(decided.after)) await noteStage(client, { ...by, percent: stageOf(decided.after), judged });
    await record(client, { ...input, change }, decided);
    return decided;
  });

  const unfinished: SetModeReport['unfinished'][number][] = [];
  const carriedOut = async (step: Pick<TableStep, 'title'> & Partial<TableStep>, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const known = error instanceof PartywallError ? error.code === 'lock_not_acquired' : sqlState(error) === lacksPrivilege;
      if (!known || !(error instanceof Error)) throw error;
      unfinished.push({ table: step.table, title: step.title, reason: error.message });
    }
  };
  const steps: TableStep[] = [];
  await carriedOut({ title: 'look at the tables' }, async () => {
    const wanted = await readWanted(client, model);
    if (!options.dryRun) await client.query(tablesFact(wanted));
    steps.push(...tableSteps(model, { wanted, plan, change }));
  });
  if (options.dryRun) return { plan, steps, unfinished };
  for (const step of steps) {
    await carriedOut(step, () =>
      withRetriedLocks(step.title, locks, async () => {
        for (const statement of step.statements) await client.query(statement);
      }),
    );
  }
  return { plan, steps, unfinished };
}

/** @throws PartywallError lock_not_acquired where somebody holds a table so that not even its definition can be read */
export async function readWanted(client: pg.ClientBase, model: TenancyModel): Promise<WantedWall> {
  await client.query(`set lock_timeout = ${readTimeoutMs}`);
  try {
    return wantedWall(model, await readCatalog(client));
  } catch (cause) {
    if (sqlState(cause) !== lockNotAvailable) throw cause;
    throw new PartywallError('lock_not_acquired', `looking at the tables: no lock after ${readTimeoutMs} ms`, { cause });
  } finally {
    await client.query('reset lock_timeout');
  }
}

/** Names as the database has them, of things that are there. */
async function checkedChange(client: pg.ClientBase, change: RolloutChange, table: TableName | undefined): Promise<RolloutChange> {
  if (change.scope === 'tenant') {
    const { rows } = await client.query<{ tenant: string }>(knownTenantSql, [change.tenant]).catch((cause: unknown) => {
      if (sqlState(cause)?.startsWith(dataException)) return { rows: [] };
      throw cause;
    });
    const [found] = rows;
    if (!found) throw new PartywallError('tenant_unknown', `setting the mode of tenant ${JSON.stringify(change.tenant)}: it is not registered`);
    return { ...change, tenant: found.tenant };
  }
  if (change.scope === 'table') {
    if (!table) throw new PartywallError('usage', `setting the mode of table ${JSON.stringify(change.table)}: it is no walled table of the model`);
    return { ...change, table: modeTarget(table) };
  }
  return change;
}

/** The key is compared by its own type, so that another spelling of it is the same tenant. */
const knownTenantSql = `select r.tenant_id::text as tenant from partywall.registry r where r.tenant_id = (
  select (jsonb_populate_record(null::partywall.registry, jsonb_build_object('tenant_id', $1::text))).tenant_id)`;

/** Opens or closes the one table, in the transaction that says so. */
function tableMode(
  { table, mode }: { readonly table: TableName; readonly mode: 'observe' | 'enforce' },
  plan: ModePlan,
  { model, by }: { model: TenancyModel; by: { name: string; reason: string | undefined } },
): string[] {
  if (mode === 'enforce') return [...closeTable(table), ...plan.removed.map(removeMode)];
  return [...openTable(table, model), ...plan.set.map((row) => setMode(row, { name: by.name, reason: by.reason === undefined ? 'null' : literal(by.reason) }))];
}

function tableSteps(model: TenancyModel, { wanted, plan, change }: { wanted: WantedWall; plan: ModePlan; change: RolloutChange }): TableStep[] {
  const gone = change.scope === 'table' ? [] : plan.removed.filter(({ scope }) => scope === 'table');
  const closed = [...wanted.tables.keys()].flatMap((table) => {
    const rows = gone.filter((row) => tableOf(row.target, wanted) === table);
    // A database that was made from another one's schema, or from an older one of its own, may have a table open without a mode.
    const stray = isOpen(wanted, table) && !plan.after.some((row) => row.scope === 'table' && row.target === modeTarget(table));
    if (rows.length === 0 && (!stray || change.scope === 'table')) return [];
    return [{ table, title: 'close the table', statements: [...closeTable(table), ...rows.map(removeMode)] }];
  });
  return [...closed, ...triggerSteps(model, wanted, observes(plan.after))];
}

function isOpen(wanted: WantedWall, table: TableName): boolean {
  return wanted.tables.get(table)?.relation.policies.some(({ name }) => name === observePolicyName) ?? false;
}

/** The walled table of a name, as a person or a mode writes it. */
function tableOf(name: string, wanted: WantedWall): TableName | undefined {
  const parsed = parseTableName(name);
  return [...wanted.tables.keys()].find((table) => table === parsed || modeTarget(table) === name);
}

/** In the audit log, where the control plane is installed. */
async function record(client: pg.ClientBase, { actor, reason, change, judged }: SetModeInput, plan: ModePlan): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>("select to_regprocedure('partywall_control.append_audit(jsonb)') is not null as there");
  if (!rows[0]?.there || plan.set.length + plan.removed.length === 0) return;
  await appendAudit(
    client,
    { actor },
    {
      tenant: change.scope === 'tenant' ? change.tenant : null,
      action: change.scope === 'percent' ? 'rollout.canary' : `rollout.${change.mode}`,
      target: `rollout:${change.scope}`,
      reason,
      details: {
        set: plan.set.map(describeMode),
        removed: plan.removed.slice(0, recordedMax).map(describeMode),
        removedCount: plan.removed.length,
        ...(judged && { gates: judged.gates }),
      },
    },
  );
}

function explain(cause: unknown): never {
  if (sqlState(cause) !== lacksPrivilege) throw cause;
  throw new PartywallError('permission_missing', `setting a mode: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
    hint: 'connect as the service role of the model, and to open or close a table as its owner',
  });
}
