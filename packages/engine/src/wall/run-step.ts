import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import { partsOf } from '../model/table-name.ts';
import { backfillSql, type WallStep } from './plan.ts';
import { setFact } from './plan-expand.ts';

/**
 * How long a statement may wait for its lock. While it waits, every later writer of the table queues behind it, so this is the
 * longest pause an apply causes besides the statement itself (milliseconds).
 */
const lockTimeoutMs = 250;
const lockAttemptsMax = 120;
const retryDelayMs = { min: 50, max: 1_000 } as const;

/** A batch holds its row locks this long at most before the next one is made smaller. */
const batchTargetMs = 100;
const batchBlocks = { start: 64, min: 8, max: 2_048 } as const;
/** Rows that writers held are visited again; a table whose rows are never free stops the run after this many passes. */
const passesMax = 20;

const lockNotAvailable = '55P03';
const deadlockDetected = '40P01';

export interface StepContext {
  readonly client: pg.ClientBase;
  /** Whether the role may set `session_replication_role`, so that the application's triggers stay quiet in the backfill. */
  readonly superuser: boolean;
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
    case 'gate':
      return;
  }
}

async function runTransaction(step: WallStep, statements: readonly string[], { client, signal }: StepContext): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted();
    await client.query('begin');
    try {
      await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
      for (const statement of statements) await client.query(statement);
      await client.query('commit');
      return;
    } catch (error) {
      await client.query('rollback');
      const state = sqlState(error);
      if (state !== lockNotAvailable && state !== deadlockDetected) throw error;
      if (attempt === lockAttemptsMax) {
        throw new PartywallError(
          'lock_not_acquired',
          `${step.title}${step.table ? ` on ${step.table}` : ''}: no lock after ${attempt} attempts of ${lockTimeoutMs} ms`,
          { cause: error },
        );
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

async function runBackfill(action: Extract<WallStep['action'], { kind: 'backfill' }>, context: StepContext): Promise<void> {
  const { client, signal } = context;
  const { schema, name } = partsOf(action.table);
  const fact = `backfill:${action.table}`;
  const started = await client.query<{ value: unknown }>('select value from partywall.facts where name = $1', [fact]);
  let from = blockIn(started.rows[0]?.value);
  for (let pass = 1; pass <= passesMax; pass += 1) {
    // Rows written meanwhile lie behind the end or before the cursor; the trigger has filled them.
    const size = await client.query<{ blocks: number }>(
      'select (pg_relation_size(format($$%I.%I$$, $1::text, $2::text)::regclass) / current_setting($$block_size$$)::int)::int as blocks',
      [schema, name],
    );
    const end = size.rows[0]?.blocks ?? 0;
    let blocks: number = batchBlocks.start;
    for (; from < end; ) {
      signal?.throwIfAborted();
      const to = Math.min(from + blocks, end);
      const began = performance.now();
      await fillBatch(action, fact, from, to, context);
      const took = performance.now() - began;
      blocks = Math.min(batchBlocks.max, Math.max(batchBlocks.min, Math.round((blocks * batchTargetMs) / Math.max(took, 1))));
      from = to;
      context.onProgress(from, end);
    }
    if ((await fillableRows(action, client)) === 0) {
      await client.query(setFact(fact, 'done'));
      return;
    }
    from = 0;
    await pause(pass, signal);
  }
  throw new PartywallError('lock_not_acquired', `filling ${action.column} of ${action.table}: rows were still locked after ${passesMax} passes`);
}

async function fillBatch(
  action: Extract<WallStep['action'], { kind: 'backfill' }>,
  fact: string,
  from: number,
  to: number,
  { client, superuser }: StepContext,
): Promise<void> {
  await client.query('begin');
  try {
    // The application's triggers (mail, outbox, updated_at) are about what people change; this changes nothing they know.
    if (superuser) await client.query('set local session_replication_role = replica');
    await client.query(backfillSql(action), [`(${from},0)`, `(${to},0)`]);
    await client.query(setFact(fact, { block: to }));
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

async function fillableRows(action: Extract<WallStep['action'], { kind: 'backfill' }>, client: pg.ClientBase): Promise<number> {
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
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        reject(signal.reason);
      },
      { once: true },
    );
  });
}

/** An index build waits for its lock however long the role's own settings say; no policy may bind what is done here. */
export async function prepareSession(client: pg.ClientBase): Promise<void> {
  await client.query("select set_config('lock_timeout', '0', false), set_config('row_security', 'off', false)");
}
