import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { readCatalog } from '../catalog/read-catalog.ts';
import { sqlState } from '../db/connect.ts';
import type { Operation } from '../db/operation.ts';
import { literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { parseTableName, type TableName } from '../model/table-name.ts';
import { withRetriedLocks } from '../wall/run-step.ts';
import { type WantedWall, wantedWall } from '../wall/shape.ts';
import { describeMode, type ModePlan, modeStatements, planChange, type RolloutChange, removeMode, setMode } from './plan-change.ts';
import { observes, readModes } from './state.ts';
import { closeTable, modeTarget, openTable, type TableStep, tablesFact, triggerSteps } from './watch-tables.ts';

export interface SetModeInput {
  readonly model: TenancyModel;
  readonly change: RolloutChange;
  /** Recorded with the mode, and in the audit log where there is one. */
  readonly actor: Operation['actor'];
  readonly reason?: string | undefined;
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
  /** Tables of which a step could not be carried out, and why; the modes hold all the same. Running again takes the rest up. */
  readonly unfinished: readonly { readonly table: TableName; readonly title: string; readonly reason: string }[];
}

/** A change must not wait for long behind one busy table: the modes are in force already, and what is left is told. */
const lockAttemptsDefault = 20;
const changeLock = "select pg_advisory_xact_lock(hashtextextended('partywall:rollout', 0))";
const lacksPrivilege = '42501';
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
  const wanted = wantedWall(model, await readCatalog(client));
  const change = await checkedChange(client, input.change, wanted);
  const locks = { client, lockAttempts: options.lockAttempts ?? lockAttemptsDefault, signal: options.signal };
  const by = { name: input.actor.name ?? input.actor.id, reason: input.reason };

  const plan = await withRetriedLocks('setting a mode', locks, async () => {
    await client.query(changeLock);
    const decided = planChange(await readModes(client), change);
    if (options.dryRun) return decided;
    const own = change.scope === 'table' ? tableMode(change, decided, { model, wanted, by }) : [];
    for (const statement of [...modeStatements(decided, by), tablesFact(wanted), ...own]) await client.query(statement).catch(explain);
    await record(client, input, decided);
    return decided;
  });
  const steps = tableSteps(model, { wanted, plan, change });
  if (options.dryRun) return { plan, steps, unfinished: [] };

  const unfinished: SetModeReport['unfinished'][number][] = [];
  for (const step of steps) {
    try {
      await withRetriedLocks(step.title, locks, async () => {
        for (const statement of step.statements) await client.query(statement);
      });
    } catch (error) {
      const known = error instanceof PartywallError ? error.code === 'lock_not_acquired' : sqlState(error) === lacksPrivilege;
      if (!known || !(error instanceof Error)) throw error;
      unfinished.push({ table: step.table, title: step.title, reason: error.message });
    }
  }
  return { plan, steps, unfinished };
}

/** Names as the database has them, of things that are there. */
async function checkedChange(client: pg.ClientBase, change: RolloutChange, wanted: WantedWall): Promise<RolloutChange> {
  if (change.scope === 'tenant') {
    const { rows } = await client
      .query<{ tenant: string }>(`select tenant_id::text as tenant from partywall.registry where tenant_id = $1::${wanted.keyType}`, [change.tenant])
      .catch((cause: unknown) => {
        if (sqlState(cause)?.startsWith('22')) return { rows: [] };
        throw cause;
      });
    const [found] = rows;
    if (!found) throw new PartywallError('tenant_unknown', `setting the mode of tenant ${JSON.stringify(change.tenant)}: it is not registered`);
    return { ...change, tenant: found.tenant };
  }
  if (change.scope === 'table') {
    const table = parseTableName(change.table);
    if (!table || !wanted.tables.has(table)) {
      throw new PartywallError('usage', `setting the mode of table ${JSON.stringify(change.table)}: it is no walled table of the model`);
    }
    return { ...change, table: modeTarget(table) };
  }
  return change;
}

/** Opens or closes the one table, in the transaction that says so. */
function tableMode(
  change: Extract<RolloutChange, { scope: 'table' }>,
  plan: ModePlan,
  { model, wanted, by }: { model: TenancyModel; wanted: WantedWall; by: { name: string; reason: string | undefined } },
): string[] {
  const table = tableOf(change.table, wanted);
  if (!table) return [];
  if (change.mode === 'enforce') return [...closeTable(table), ...plan.removed.map(removeMode)];
  return [...openTable(table, model), ...plan.set.map((row) => setMode(row, { name: by.name, reason: by.reason === undefined ? 'null' : literal(by.reason) }))];
}

function tableSteps(model: TenancyModel, { wanted, plan, change }: { wanted: WantedWall; plan: ModePlan; change: RolloutChange }): TableStep[] {
  const closed =
    change.scope === 'table'
      ? []
      : plan.removed.flatMap((row) => {
          const table = row.scope === 'table' ? tableOf(row.target, wanted) : undefined;
          return table ? [{ table, title: 'close the table', statements: [...closeTable(table), removeMode(row)] }] : [];
        });
  return [...closed, ...triggerSteps(model, wanted, observes(plan.after))];
}

function tableOf(target: string, wanted: WantedWall): TableName | undefined {
  return [...wanted.tables.keys()].find((table) => modeTarget(table) === target);
}

/** In the audit log, where the control plane is installed. */
async function record(client: pg.ClientBase, { actor, reason, change }: SetModeInput, plan: ModePlan): Promise<void> {
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
      details: { set: plan.set.map(describeMode), removed: plan.removed.slice(0, recordedMax).map(describeMode), removedCount: plan.removed.length },
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
