import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import type { Relation } from '../catalog/catalog.ts';
import { sqlState } from '../db/connect.ts';
import type { Operation } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { parseTableName } from '../model/table-name.ts';
import { setFact } from '../wall/facts.ts';
import { withRetriedLocks } from '../wall/run-step.ts';
import { modesLock, observingFact } from '../wall/runtime/rollout-sql.ts';
import type { WantedWall } from '../wall/shape.ts';
import { type FollowReport, followTables, planTables, readWanted } from './follow-tables.ts';
import { describeMode, type ModePlan, modeStatements, planChange, type RolloutChange } from './plan-change.ts';
import { noteStage, stageOf } from './stages.ts';
import { observes, readModes } from './state.ts';
import { closeTable, modeTarget, openTable } from './watch-tables.ts';

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

export interface SetModeReport extends FollowReport {
  readonly plan: ModePlan;
}

/** A change must not wait for long behind one busy table: the modes are in force already, and what is left is told. */
const lockAttemptsDefault = 20;
const lacksPrivilege = '42501';
const dataException = '22';
/** Modes that a record names. */
const recordedMax = 20;

/**
 * Changes the mode of all, of a tenant, of a percentage or of a table. The modes come first, in one transaction with their audit record:
 * processes follow within about a second. Then come the tables (`followTables`): logging triggers, which the connecting role needs
 * TRIGGER for, and for a table that is closed its policy, which needs the owner. The policy of a table that is named comes with its mode.
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

  const plan = await withRetriedLocks('setting a mode', locks, async (inTime) => {
    await client.query(`select pg_catalog.pg_advisory_xact_lock(${modesLock})`);
    const before = await readModes(client);
    const { judged } = input;
    if (judged && stageOf(before) !== judged.stage) return { set: [], removed: [], after: before, reasons: ['somebody has changed the stage since'] };
    const decided = planChange(before, change);
    if (options.dryRun) return decided;
    const observing = setFact(observingFact, observes(decided.after.filter(({ scope }) => scope !== 'table')));
    for (const statement of [...modeStatements(decided, by), observing]) await client.query(statement).catch(explain);
    if (stageOf(before) !== stageOf(decided.after)) await noteStage(client, { ...by, percent: stageOf(decided.after), judged });
    await record(client, { ...input, change }, decided);
    // Last: while the table is locked nothing else is waited for.
    const policies = target && change.scope === 'table' ? (change.mode === 'observe' ? openTable(target, model) : closeTable(target)) : [];
    for (const statement of policies) await inTime(() => client.query(statement)).catch(explain);
    return decided;
  });

  const { steps, unfinished } = await (options.dryRun ? planTables(client, { model, change, modes: plan.after }) : followTables(locks, { model, change }));
  return { plan, steps, unfinished };
}

/** Names as the database has them, of things that are there. */
async function checkedChange(client: pg.ClientBase, change: RolloutChange, target: Relation | undefined): Promise<RolloutChange> {
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
    if (!target) throw new PartywallError('usage', `setting the mode of table ${JSON.stringify(change.table)}: it is no walled table of the model`);
    return { ...change, table: modeTarget(target.table) };
  }
  return change;
}

/** The key is compared by its own type, so that another spelling of it is the same tenant. */
const knownTenantSql = `select r.tenant_id::text as tenant from partywall.registry r where r.tenant_id = (
  select (jsonb_populate_record(null::partywall.registry, jsonb_build_object('tenant_id', $1::text))).tenant_id)`;

/** The walled table of a name, as a person or a mode writes it. */
function tableOf(name: string, wanted: WantedWall): Relation | undefined {
  const parsed = parseTableName(name);
  return [...wanted.tables.values()].find(({ relation: { table } }) => table === parsed || modeTarget(table) === name)?.relation;
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
