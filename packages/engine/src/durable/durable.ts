import { AsyncResource } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { DBOS } from '@dbos-inc/dbos-sdk';
import { sqlState } from '../db/connect.ts';
import type { ControlDatabase } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { announce, type Liveness } from './liveness.ts';
import { type LongOperation, restartOperation, runningOperations } from './operations.ts';
import { carryOut, type Durable, prepareBy, type Works } from './work.ts';

/**
 * Long operations and schedules on DBOS, which remembers the steps of each in the system database: what a crash cuts off goes on in another process
 * within seconds, from the step it was at. DBOS is one to a process, and so is this.
 *
 * An operation is carried out by the workflow `<id>:<attempt>`. Whoever takes over a process that is gone holds its name's lock, so that of many
 * that notice one does; DBOS hands each workflow to one process.
 */
export interface DurableOptions {
  readonly database: ControlDatabase;
  /** Of the service role: `systemDatabaseUrl(url)`. */
  readonly systemDatabaseUrl: string;
  readonly works: Works;
  readonly schedules?: readonly Schedule[];
  /** Told what DBOS and the schedules fail at; nothing is printed without it. */
  readonly onTrouble?: (message: string) => void;
  /** How often processes that are gone are looked for. Default: 5 s. */
  readonly sweepIntervalMs?: number;
}

/** Something that is done at certain times by one of all processes. */
export interface Schedule {
  readonly name: string;
  /** Five fields, or six with seconds; UTC. */
  readonly cron: string;
  readonly run: (durable: Durable) => Promise<void>;
}

/** Raised when steps change their meaning: operations of another version are not gone on with. */
const workVersion = 'partywall-1';
const systemPoolMax = 5;
const sweepIntervalMsDefault = 5_000;
const takeoversMax = 100;
const stepRetries = { retriesAllowed: true, maxAttempts: 6, intervalSeconds: 0.5, backoffRate: 2 } as const;
const stopGraceMs = 10_000;
const idleInTransactionMs = 60_000;

interface Running extends DurableOptions {
  readonly durable: Durable;
  readonly outside: AsyncResource;
}
let running: Running | undefined;

/** Registered once: DBOS finds a workflow by its name, in whichever process it goes on. */
const operationWorkflow = DBOS.registerWorkflow(
  async (id: string): Promise<void> => {
    const { database, works } = current();
    await carryOut(database, works, id, (name, run) => DBOS.runStep(run, { name, ...stepRetries, shouldRetry: isPassing }));
  },
  { name: 'partywall.operation' },
);

const scheduleWorkflow = DBOS.registerWorkflow(
  async (_at: Date, name: unknown): Promise<void> => {
    const { schedules = [], durable, outside, onTrouble } = current();
    const schedule = schedules.find((each) => each.name === name);
    try {
      // Outside of this workflow: what a run starts is not a part of it.
      if (schedule) await outside.runInAsyncScope(() => schedule.run(durable));
    } catch (error) {
      onTrouble?.(`schedule ${schedule?.name}: ${error instanceof Error ? error.message : String(error)}`);
      throw error;
    }
  },
  { name: 'partywall.schedule' },
);

/** Starts carrying out operations and schedules; `stop` of what it returns ends that. */
export async function startDurable(options: DurableOptions): Promise<Durable> {
  if (running) throw new Error('long operations are carried out by this process already');
  const executor = randomUUID();
  const liveness = await announce(options.systemDatabaseUrl, executor);
  const stopping = new AbortController();
  let sweeping: Promise<void> = Promise.resolve();
  const durable: Durable = {
    prepare: prepareBy(options.works),
    start: (operation) => current().outside.runInAsyncScope(() => startWorkflow(options.database, operation)),
    stop: async ({ graceMs = stopGraceMs } = {}) => {
      if (stopping.signal.aborted) return;
      stopping.abort();
      await sweeping;
      await DBOS.shutdown({ workflowCompletionTimeoutMS: graceMs });
      running = undefined;
      // Last: whoever sees this name free goes on with what was left.
      await liveness.end();
    },
  };
  running = { ...options, durable, outside: new AsyncResource('partywall.durable') };
  try {
    await launch(options, executor);
  } catch (error) {
    running = undefined;
    await liveness.end();
    throw error;
  }
  sweeping = sweep(options, executor, liveness, stopping.signal);
  return durable;
}

async function launch({ systemDatabaseUrl, schedules = [], onTrouble }: DurableOptions, executor: string): Promise<void> {
  const report = (entry: unknown): void => onTrouble?.(String(entry));
  DBOS.setConfig({
    name: 'partywall',
    systemDatabaseUrl: boundedSessions(systemDatabaseUrl),
    systemDatabasePoolSize: systemPoolMax,
    executorID: executor,
    applicationVersion: workVersion,
    logger: { info: () => undefined, debug: () => undefined, warn: report, error: report },
  });
  await DBOS.launch();
  const known = new Set(schedules.map(({ name }) => name));
  for (const { scheduleName } of await DBOS.listSchedules()) if (!known.has(scheduleName)) await DBOS.deleteSchedule(scheduleName);
  await DBOS.applySchedules(schedules.map(({ name, cron }) => ({ scheduleName: name, workflowFn: scheduleWorkflow, schedule: cron, context: name })));
}

/** DBOS sets this itself otherwise, by a statement that races with the first one of the connection and makes `pg` warn. */
function boundedSessions(url: string): string {
  const parsed = new URL(url);
  const given = parsed.searchParams.get('options');
  const bound = `-c idle_in_transaction_session_timeout=${idleInTransactionMs}`;
  parsed.searchParams.set('options', given === null ? bound : `${given} ${bound}`);
  return parsed.toString();
}

async function startWorkflow(database: ControlDatabase, { id, attempt }: LongOperation): Promise<void> {
  const status = await DBOS.getWorkflowStatus(`${id}:${attempt}`);
  // Ended without saying so in the operation: the database was away when it failed.
  const gaveUp = status !== null && ['ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'].includes(status.status);
  const now = gaveUp ? (await restartOperation(database.pool, id)).attempt : attempt;
  if (status !== null && !gaveUp) return;
  await DBOS.startWorkflow(operationWorkflow, { workflowID: `${id}:${now}` })(id);
}

/** Goes on with the work of processes that are gone, for as long as this one runs. */
async function sweep(options: DurableOptions, executor: string, liveness: Liveness, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await liveness.renew();
      await takeOver(executor, liveness);
      await startForgotten(options.database);
    } catch (error) {
      options.onTrouble?.(`looking for processes that are gone: ${error instanceof Error ? error.message : String(error)}`);
    }
    await pause(options.sweepIntervalMs ?? sweepIntervalMsDefault, signal);
  }
}

async function takeOver(executor: string, liveness: Liveness): Promise<void> {
  const pending = async (of?: string): Promise<{ id: string; by: string | undefined }[]> =>
    (await DBOS.listWorkflows({ status: 'PENDING', limit: takeoversMax, loadInput: false, loadOutput: false, ...(of && { executorId: of }) })).map(
      ({ workflowID, executorId }) => ({ id: workflowID, by: executorId }),
    );
  for (const other of new Set((await pending()).map(({ by }) => by))) {
    if (other === undefined || other === executor) continue;
    // Read again under the lock: another process may have taken them over since.
    await liveness.ifGone(other, async () => {
      for (const { id } of await pending(other)) await DBOS.resumeWorkflow(id);
    });
  }
}

/** Starts what has begun and has no workflow: its process ended between the two. Starting is by id, so that a second start is none. */
async function startForgotten(database: ControlDatabase): Promise<void> {
  for (const operation of await runningOperations(database.pool, takeoversMax)) await startWorkflow(database, operation);
}

/** Failures that another try may not meet: lost connections, a server that starts, locks, a session that stays inside a tenant. */
function isPassing(error: unknown): boolean {
  if (error instanceof PartywallError) return error.code === 'fence_incomplete';
  const state = sqlState(error) ?? '';
  return (
    /^(08|53|57P|40001|40P01|55P03|ECONN|EPIPE|ETIMEDOUT)/.test(state) ||
    (error instanceof Error && /^Connection terminated|^timeout exceeded/.test(error.message))
  );
}

function current(): Running {
  if (!running) throw new Error('long operations are not carried out by this process');
  return running;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  });
}
