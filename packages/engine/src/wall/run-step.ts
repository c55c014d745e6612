import { setTimeout } from 'node:timers/promises';
import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import { partsOf } from '../model/table-name.ts';
import { backfillFact, setFact, settleBackfills } from './facts.ts';
import { type Backfill, backfillSql, type WallStep } from './plan.ts';

/**
 * How long a statement may wait for its lock. While it waits, every later writer of the table queues behind it, so this is the
 * longest pause an apply causes besides the statement itself (milliseconds).
 */
const lockTimeoutMs = 250;
/**
 * From its first lock on a step waits for others no longer than this in all (milliseconds). A writer that waits for the step looks for a deadlock
 * once, after a second unless somebody set `deadlock_timeout`: by then the step has to have given way, or it is the writer that fails.
 */
const heldMaxMs = 750;
const lockAttemptsDefault = 120;
const retryDelayMs = { min: 50, max: 1_000 } as const;

/** A batch holds its row locks this long at most before the next one is made smaller. */
const batchTargetMs = 100;
const batchBlocks = { start: 64, min: 8, max: 2_048 } as const;
/** Rows that writers held are visited again; a table whose last rows are never free stops the run after this many passes. */
const passesMax = 20;

const lockNotAvailable = '55P03';
const deadlockDetected = '40P01';
/** Not known, not allowed, not on this platform. */
const impossible: readonly (string | undefined)[] = ['42704', '42501', '22023'];

export interface StepContext {
  readonly client: pg.ClientBase;
  /** Whether the session may set `session_replication_role`, so that the application's triggers stay quiet in the backfill. */
  readonly quiet: boolean;
  /** How often a lock is asked for before the run gives up. */
  readonly lockAttempts?: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (done: number, total: number) => void;
}

/**
 * Carries out one step. Each statement or transaction is whole or not at all, so that a kill at any point leaves a state that
 * planning again continues from.
 *
 * @throws PartywallError lock_not_acquired
 */
export async function runStep(step: WallStep, context: StepContext): Promise<void> {
  switch (step.action.kind) {
    case 'transaction':
      return runTransaction(step, step.action.statements, context);
    case 'concurrent':
      return runConcurrent(step.action, context);
    case 'backfill':
      return runBackfill(step.action, context);
    case 'settle':
      return runSettle(step.action.backfills, context);
    case 'gate':
      return;
  }
}

async function runTransaction(step: WallStep, statements: readonly string[], context: StepContext): Promise<void> {
  const what = `${step.title}${step.table ? ` on ${step.table}` : ''}`;
  await withRetriedLocks(what, context, async (inTime) => {
    for (const statement of statements) await inTime(() => context.client.query(statement));
  });
}

/** Sends a statement that waits for its locks no longer than what is left of `heldMaxMs`. */
export type InTime = <Result>(send: () => Promise<Result>) => Promise<Result>;

/**
 * Runs `work` in a transaction under the lock timeout, again and again until it gets its locks.
 *
 * @param work sends each statement that may wait for a lock while it holds others by `inTime`
 * @throws PartywallError lock_not_acquired
 */
export async function withRetriedLocks<Result>(
  what: string,
  { client, signal, lockAttempts = lockAttemptsDefault }: Pick<StepContext, 'client' | 'signal' | 'lockAttempts'>,
  work: (inTime: InTime) => Promise<Result>,
): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted();
    await client.query('begin isolation level read committed');
    try {
      await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
      const begun = performance.now();
      const result = await work(async (send) => {
        const left = heldMaxMs - (performance.now() - begun);
        if (left < lockTimeoutMs) await client.query(`set local lock_timeout = ${Math.max(1, Math.floor(left))}`);
        return send();
      });
      await client.query('commit');
      return result;
    } catch (error) {
      await rollback(client);
      const state = sqlState(error);
      if (state !== lockNotAvailable && state !== deadlockDetected) throw error;
      if (attempt === lockAttempts) {
        throw new PartywallError('lock_not_acquired', `${what}: no lock after ${attempt} attempts of ${lockTimeoutMs} ms`, { cause: error });
      }
      await pause(attempt, signal);
    }
  }
}

/** Index builds and validations wait beside writers, so they need no lock timeout; a failed build leaves an invalid index. */
async function runConcurrent(action: { cleanup?: string; statement: string }, { client, signal }: StepContext): Promise<void> {
  signal?.throwIfAborted();
  if (action.cleanup) await client.query(action.cleanup);
  await client.query(action.statement);
}

async function runBackfill(action: Backfill, context: StepContext): Promise<void> {
  const { client, signal } = context;
  const fact = backfillFact(action.table);
  const started = await client.query<{ value: unknown }>('select value from partywall.facts where name = $1', [fact]);
  let from = blockIn(started.rows[0]?.value);
  // A row whose parent is further back in the same table waits for the next pass, so only passes that fill nothing count.
  for (let stalled = 0; stalled < passesMax; from = 0) {
    const filled = await fillFrom(from, action, context);
    if ((await fillableRows(action, client)) === 0) {
      await client.query(setFact(fact, 'passed'));
      return;
    }
    stalled = filled > 0 ? 0 : stalled + 1;
    if (stalled > 0) await pause(stalled, signal);
  }
  throw new PartywallError('lock_not_acquired', `filling ${action.column} of ${action.table}: rows were still locked after ${passesMax} passes`);
}

/** Returns how many rows it filled. Rows written meanwhile lie behind the end or before the cursor; the trigger has filled them. */
async function fillFrom(start: number, action: Backfill, context: StepContext): Promise<number> {
  const { schema, name } = partsOf(action.table);
  const size = await context.client.query<{ blocks: number }>(
    'select (pg_relation_size(format($$%I.%I$$, $1::text, $2::text)::regclass) / current_setting($$block_size$$)::int)::int as blocks',
    [schema, name],
  );
  const end = size.rows[0]?.blocks ?? 0;
  let blocks: number = batchBlocks.start;
  let filled = 0;
  for (let from = start; from < end; ) {
    context.signal?.throwIfAborted();
    const to = Math.min(from + blocks, end);
    const began = performance.now();
    filled += await fillBatch(action, from, to, context);
    const took = performance.now() - began;
    blocks = Math.min(batchBlocks.max, Math.max(batchBlocks.min, Math.round((blocks * batchTargetMs) / Math.max(took, 1))));
    from = to;
    context.onProgress(from, end);
  }
  return filled;
}

/**
 * A transaction that is older than the backfill of a parent does not see that parent's tenant; it may write a child without one, and
 * show it after the child's backfill has passed. What is filled here may again be a parent, so it goes round until nothing is found.
 */
async function runSettle(backfills: readonly Backfill[], context: StepContext): Promise<void> {
  const { client } = context;
  for (let round = 1; round <= passesMax; round += 1) {
    await outlast(await openTransactions(client), context);
    let found = 0;
    for (const backfill of backfills) {
      if ((await fillableRows(backfill, client)) === 0) continue;
      found += 1;
      await runBackfill(backfill, context);
    }
    if (found > 0) continue;
    await client.query(settleBackfills);
    return;
  }
  throw new PartywallError('lock_not_acquired', `filling what older transactions wrote: there was more after ${passesMax} rounds`);
}

/** Open transactions of other sessions in this database, by a name of each. */
async function openTransactions(client: pg.ClientBase): Promise<Set<string>> {
  const { rows } = await client.query<{ name: string }>(
    `select l.virtualtransaction as name from pg_locks l join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'virtualxid' and l.granted and a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type is distinct from 'autovacuum worker'
    union all select 'prepared ' || gid from pg_prepared_xacts where database = current_database()`,
  );
  return new Set(rows.map((row) => row.name));
}

/** Waits until none of these transactions is open any more. */
async function outlast(older: ReadonlySet<string>, { client, signal, lockAttempts = lockAttemptsDefault }: StepContext): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const open = await openTransactions(client);
    const left = [...older].filter((name) => open.has(name));
    if (left.length === 0) return;
    if (attempt >= lockAttempts) {
      const are = left.length === 1 ? 'transaction that is older is' : 'transactions that are older are';
      throw new PartywallError('lock_not_acquired', `filling what older transactions wrote: ${left.length} ${are} still open`);
    }
    await pause(attempt, signal);
  }
}

async function fillBatch(action: Backfill, from: number, to: number, { client, quiet }: StepContext): Promise<number> {
  await client.query('begin');
  try {
    // The application's triggers (mail, outbox, updated_at) are about what people change; this changes nothing they know.
    if (quiet) await client.query('set local session_replication_role = replica');
    const { rowCount } = await client.query(backfillSql(action), [`(${from},0)`, `(${to},0)`]);
    await client.query(setFact(backfillFact(action.table), { block: to }));
    await client.query('commit');
    return rowCount ?? 0;
  } catch (error) {
    await rollback(client);
    throw error;
  }
}

/** Where the connection is lost the server has rolled back, and the error that is being handled says more than this one. */
async function rollback(client: pg.ClientBase): Promise<void> {
  await client.query('rollback').catch(() => undefined);
}

/** Rows without a tenant that have one to get. */
export async function fillableRows(action: Backfill, client: pg.ClientBase): Promise<number> {
  const { schema, name } = partsOf(action.table);
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::int as count from only ${ident(schema)}.${ident(name)} row where row.${ident(action.column)} is null and ${action.tenant} is not null`,
  );
  return rows[0]?.count ?? 0;
}

function blockIn(fact: unknown): number {
  return typeof fact === 'object' && fact !== null && 'block' in fact && typeof fact.block === 'number' ? fact.block : 0;
}

/** Waits longer after each attempt, with jitter, so that retries do not fall in step with a busy writer. */
async function pause(attempt: number, signal: AbortSignal | undefined): Promise<void> {
  const ms = Math.min(retryDelayMs.max, retryDelayMs.min * 2 ** Math.min(attempt, 5)) * (0.5 + Math.random());
  await setTimeout(ms, undefined, signal ? { signal } : {});
}

/**
 * What the role or the database has as its settings must not end an index build, make a step read an older snapshot, or let a policy
 * bind what is done here. Where a writer and
 * a step wait for each other, the step is the one that notices first and gives way. Where this process dies, its statement ends too,
 * so that the next run does not find it still at work.
 */
export async function prepareSession(client: pg.ClientBase): Promise<void> {
  await client.query(
    `select set_config('lock_timeout', '0', false), set_config('row_security', 'off', false),
      set_config('default_transaction_isolation', 'read committed', false), set_config('default_transaction_read_only', 'off', false)`,
  );
  await setIfPossible(client, 'set transaction_timeout = 0');
  await setIfPossible(client, "set deadlock_timeout = '50ms'");
  await setIfPossible(client, "set client_connection_check_interval = '500ms'");
}

/** Older servers do not know the one, only a superuser may set the other, and some platforms cannot watch their connections. */
async function setIfPossible(client: pg.ClientBase, statement: string): Promise<void> {
  await client.query(statement).catch((error: unknown) => {
    if (!impossible.includes(sqlState(error))) throw error;
  });
}
