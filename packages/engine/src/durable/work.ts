import { setTimeout as delay } from 'node:timers/promises';
import { sqlState } from '../db/connect.ts';
import type { ControlDatabase, Operation } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { finishOperation, type LongOperation, readOperation } from './operations.ts';

/**
 * Long work is a function of named steps. Each step can be run again: a crash between a step and the record that it has ended repeats it.
 * Whoever carries the work out (`startDurable`, `inProcess`) decides what remembers the steps.
 */
export interface WorkContext {
  /** As whoever asked for it. */
  readonly operation: Operation;
  readonly id: string;
  /** '' where it is about none. */
  readonly tenant: string;
  readonly reason: string | undefined;
  /** Runs a step, unless it ended before a crash; then its result is what it was. Results are JSON. */
  step<Result>(name: string, run: () => Promise<Result>): Promise<Result>;
}
export interface Work {
  (context: WorkContext): Promise<void>;
  /** Finds out, before it begins, whether all is there that it will need. Changes nothing. */
  readonly prepare?: (operation: Operation, tenant: string) => Promise<void>;
}

/** Work by the kind of its operation. */
export type Works = Readonly<Record<string, Work>>;

/** Carries operations out. */
export interface Durable {
  /** What the work of that kind asks for before it begins. @throws PartywallError what stands in its way */
  prepare(kind: string, operation: Operation, tenant: string): Promise<void>;
  /** Starts an operation that has begun, or goes on with it. Returns before it has ended. */
  start(operation: LongOperation): Promise<void>;
  /** Takes no more work and waits for what runs, as long as `graceMs`; the rest goes on elsewhere or after the next start. */
  stop(options?: { readonly graceMs?: number }): Promise<void>;
}

const pollMs = 50;

export function prepareBy(works: Works): Durable['prepare'] {
  return async (kind, operation, tenant) => works[kind]?.prepare?.(operation, tenant);
}

/** Carries one operation out to its end; the outcome is in `partywall_control.operations`. */
export async function carryOut(database: ControlDatabase, works: Works, id: string, step: WorkContext['step']): Promise<void> {
  const { pool } = database;
  const { kind, tenant, actor, requestId, reason, state } = await readOperation(pool, id);
  const work = works[kind];
  // Ended by another worker that was thought to be gone.
  if (state !== 'running') return;
  try {
    if (!work) throw new Error(`nobody here knows how to carry out ${kind}`);
    const operation: Operation = { database, actor, ...(requestId !== null && { requestId }) };
    await work({ operation, id, tenant: tenant ?? '', reason: reason ?? undefined, step });
  } catch (error) {
    await finishOperation(pool, id, failureText(error));
    throw error;
  }
}

/** The message of an error that nobody foresaw may quote rows; what kind it is has to do. */
function failureText(error: unknown): string {
  if (error instanceof PartywallError) return error.message;
  const state = sqlState(error);
  return state === undefined ? `failed: ${error instanceof Error ? error.name : 'unknown'}` : `the database refused a step with code ${state}`;
}

/** Waits until an operation has ended, at most `timeoutMs`; returns it as it is then. */
export async function awaitOperation(operation: Operation, id: string, options: { readonly timeoutMs: number }): Promise<LongOperation> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const found = await readOperation(operation.database.pool, id);
    if (found.state !== 'running' || performance.now() >= deadline) return found;
    await delay(pollMs);
  }
}

/**
 * Carries operations out in this process, without a system database. What a crash cuts off stays `running` and goes on when it is asked for
 * again; no other process takes it over.
 */
export function inProcess(database: ControlDatabase, works: Works): Durable {
  const running = new Map<string, Promise<void>>();
  let stopped = false;
  return {
    prepare: prepareBy(works),
    start: async ({ id }) => {
      if (stopped || running.has(id)) return;
      const work = carryOut(database, works, id, (_name, run) => run())
        .catch(() => undefined) // it is in the operation
        .finally(() => running.delete(id));
      running.set(id, work);
    },
    stop: async ({ graceMs = 10_000 } = {}) => {
      stopped = true;
      const timeout = new AbortController();
      await Promise.race([Promise.all(running.values()), delay(graceMs, undefined, { signal: timeout.signal }).catch(() => undefined)]);
      timeout.abort();
    },
  };
}
