import type pg from 'pg';
import { readCatalog } from '../catalog/read-catalog.ts';
import { sqlState } from '../db/connect.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import type { TableName } from '../model/table-name.ts';
import { type StepContext, withRetriedLocks } from '../wall/run-step.ts';
import { modesLock, observePolicyName } from '../wall/runtime/rollout-sql.ts';
import { type WantedWall, wantedWall } from '../wall/shape.ts';
import type { RolloutChange } from './plan-change.ts';
import { type ModeRow, observes, readModes } from './state.ts';
import { closeTable, modeTarget, type TableStep, tablesFact, triggerSteps } from './watch-tables.ts';

/** What became of the tables after a change of the modes. */
export interface FollowReport {
  readonly steps: readonly TableStep[];
  /** Tables (undefined: all) of which a step could not be carried out, and why; the modes hold all the same. Running again takes the rest up. */
  readonly unfinished: readonly { readonly table: TableName | undefined; readonly title: string; readonly reason: string }[];
}

type Mode = Pick<ModeRow, 'scope' | 'target' | 'mode'>;

/**
 * Last in each step, when its table is locked: a change of the modes that is under way comes first. To wait for it would be to wait for somebody
 * who may want the table.
 */
const holdModes = `do $$ begin
  if not pg_catalog.pg_try_advisory_xact_lock_shared(${modesLock}) then
    raise exception 'the modes are being changed' using errcode = 'lock_not_available';
  end if;
end $$`;
/** Each time that somebody else has changed the modes the tables are looked at again. */
const roundsMax = 20;
/** A table that somebody holds exclusively keeps even its definition from being read (milliseconds). */
const readTimeoutMs = 1_000;
const lockNotAvailable = '55P03';
const lacksPrivilege = '42501';

/**
 * Makes the tables fit the modes as they are, whoever set them, in one short transaction each. No step commits that was planned by other modes than those
 * in force when it ends: so of two that change them at the same time, neither undoes what the other has done to a table.
 */
export async function followTables(locks: Pick<StepContext, 'client' | 'lockAttempts' | 'signal'>, { model, change }: FollowInput): Promise<FollowReport> {
  const { client } = locks;
  let first: readonly TableStep[] | undefined;
  for (let round = 1; ; round += 1) {
    const modes = await readModes(client);
    const { steps, unfinished, wanted } = await planTables(client, { model, change, modes });
    if (wanted) await client.query(tablesFact(wanted));
    first ??= steps;
    const left = [...unfinished];
    let overtaken = false;
    for (const step of steps) {
      try {
        await carryOut(step, modes, locks);
      } catch (error) {
        overtaken = error instanceof Overtaken;
        if (overtaken) break;
        left.push({ table: step.table, title: step.title, reason: known(error) });
      }
    }
    if (!overtaken) return { steps: first, unfinished: left };
    if (round === roundsMax) {
      const reason = `the modes were changed ${roundsMax} times meanwhile`;
      return { steps: first, unfinished: [{ table: undefined, title: 'follow the modes', reason }] };
    }
  }
}

interface FollowInput {
  readonly model: TenancyModel;
  readonly change: RolloutChange;
}

/** What the modes ask of the tables; `wanted` is missing where they could not be looked at. Changes nothing. */
export async function planTables(
  client: pg.ClientBase,
  { model, change, modes }: FollowInput & { readonly modes: readonly Mode[] },
): Promise<FollowReport & { readonly wanted: WantedWall | undefined }> {
  try {
    const wanted = await readWanted(client, model);
    return { wanted, steps: tableSteps(model, { wanted, modes, change }), unfinished: [] };
  } catch (error) {
    return { wanted: undefined, steps: [], unfinished: [{ table: undefined, title: 'look at the tables', reason: known(error) }] };
  }
}

/** A change of one table closes no other. */
function tableSteps(
  model: TenancyModel,
  { wanted, modes, change }: { readonly wanted: WantedWall; readonly modes: readonly Mode[]; readonly change: RolloutChange },
): TableStep[] {
  const open = new Set(modes.filter(({ scope }) => scope === 'table').map(({ target }) => target));
  // Open without a mode: it was just removed, or the database came from another one's schema, or from an older one of its own.
  const closed = [...wanted.tables.values()].filter(
    ({ relation }) => change.scope !== 'table' && relation.policies.some(({ name }) => name === observePolicyName) && !open.has(modeTarget(relation.table)),
  );
  return [
    ...closed.map(({ relation }) => ({ table: relation.table, title: 'close the table', statements: closeTable(relation) })),
    ...triggerSteps(model, wanted, observes(modes)),
  ];
}

/** Somebody has changed the modes since the step was planned. */
class Overtaken extends Error {}

async function carryOut(step: TableStep, modes: readonly ModeRow[], locks: Pick<StepContext, 'client' | 'lockAttempts' | 'signal'>): Promise<void> {
  const { client } = locks;
  await withRetriedLocks(step.title, locks, async (inTime) => {
    for (const statement of [...step.statements, holdModes]) await inTime(() => client.query(statement));
    if (textOf(await readModes(client)) !== textOf(modes)) throw new Overtaken();
  });
}

function textOf(modes: readonly ModeRow[]): string {
  return JSON.stringify(modes.map(({ scope, target, mode }) => [scope, target, mode]));
}

/** Why something could not be done to a table; what is no fault of the table's is thrown on. */
function known(error: unknown): string {
  const isKnown = error instanceof PartywallError ? error.code === 'lock_not_acquired' : sqlState(error) === lacksPrivilege;
  if (!isKnown || !(error instanceof Error)) throw error;
  return error.message;
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
