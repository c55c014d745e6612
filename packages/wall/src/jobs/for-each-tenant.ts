import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { inScope, run } from '../context.ts';
import { StatementRefusedError } from '../errors.ts';
import { listener } from '../listener.ts';
import { type AttemptOutcome, attemptOutcome } from './attempt-outcome.ts';
import { type EndedVisit, interrupted, type JobStore, openJobStore } from './job-store.ts';
import type { JobReceipt } from './receipt.ts';
import { Visit } from './visit.ts';

export { type JobAlert, type JobReceipt, receiptText } from './receipt.ts';

export interface JobInput {
  /** The walled pool: visits work through it, or through a client that is made on it. */
  readonly pool: pg.Pool;
  /** The system pool. It lists the tenants and keeps the record; one of its connections is taken for the length of the run. Not behind a pooler. */
  readonly system: pg.Pool;
  /** Name of the job: its runs are compared with one another, and one runs at a time. */
  readonly job: string;
}

export interface JobOptions {
  /**
   * Names the run, such as `2026-11`. A run that was broken off, or in which tenants failed, goes on under its key with those that are not done;
   * one that is complete is not repeated. Default: every call is a run of its own.
   */
  readonly runKey?: string;
  /** Tenants at a time (default 4). The walled pool needs a connection for each. */
  readonly concurrency?: number;
  /** For one attempt (default 300,000). Then its statements are cancelled, and the tenant has failed. */
  readonly timeoutMs?: number;
  /** Attempts for a tenant whose error may pass: a lost connection, a deadlock (default 3). */
  readonly attemptsMax?: number;
  /** Ends the run: what is running is cancelled, what was not visited is said in the receipt. */
  readonly signal?: AbortSignal;
  /** Who the work is done as, for the context. Default: `job:` and the job's name. */
  readonly user?: string;
  /** Hears of each tenant that failed or was skipped, with the error, which the stored receipt does not hold. */
  readonly onProblem?: (problem: { readonly tenant: string; readonly outcome: 'failed' | 'skipped'; readonly reason: string; readonly error: unknown }) => void;
}

/** What the function of a job is told. It runs in the tenant's context. */
export interface JobVisit {
  readonly tenant: string;
  /** From 1. */
  readonly attempt: number;
  /** Aborts when the time is over or the run is ended: for what is no statement, such as requests to others. */
  readonly signal: AbortSignal;
}

const concurrencyMax = 64;
const attemptsMaxMax = 10;
const timeoutMsMax = 86_400_000;
/** How long a failed attempt's other statements may take to end by themselves. */
const settleMs = 100;
const backoffMs = 200;
const backoffMsMax = 5_000;

/**
 * Runs `fn` for each active tenant, in its context, and accounts for every one: the receipt says how many were to be visited, what became of
 * each, how many rows they saw, and what was never zero and is. One tenant's failure stops no other; look at `status`.
 *
 * @throws JobError job_running; job_interrupted where the record of the run cannot be kept
 * @example
 * const receipt = await forEachTenant({ pool, system: systemPool, job: 'monthly reports' }, () => processMonthlyReports(), { runKey: '2026-11' });
 */
export async function forEachTenant(input: JobInput, fn: (visit: JobVisit) => unknown, options: JobOptions = {}): Promise<JobReceipt> {
  const { job } = input;
  const concurrency = within('concurrency', options.concurrency ?? 4, concurrencyMax);
  const limits = {
    timeoutMs: within('timeoutMs', options.timeoutMs ?? 300_000, timeoutMsMax),
    attemptsMax: within('attemptsMax', options.attemptsMax ?? 3, attemptsMaxMax),
  };
  const onProblem = listener(`onProblem of job ${JSON.stringify(job)}`, options.onProblem);
  const store = await openJobStore(input.system, job, options.runKey ?? randomUUID());
  try {
    if (store.done) return store.done;
    // A worker whose record cannot be written ends the others.
    const broken = new AbortController();
    const signal = AbortSignal.any([store.lost, broken.signal, ...(options.signal ? [options.signal] : [])]);
    const tenants = store.tenants();
    const worker = async (): Promise<void> => {
      for (;;) {
        if (signal.aborted) return;
        const next = await tenants.next();
        if (next.done) return;
        await visitTenant(next.value, { fn, options, onProblem, job, store, signal, ...limits });
      }
    };
    const workers = Array.from({ length: concurrency }, () =>
      worker().catch((error: unknown) => {
        broken.abort(error);
        throw error;
      }),
    );
    const failed = (await Promise.allSettled(workers)).find((settled) => settled.status === 'rejected');
    if (store.lost.aborted) throw store.lost.reason;
    if (failed) throw interrupted(job, failed.reason);
    return await store.end();
  } finally {
    await store.close();
  }
}

interface Turn {
  readonly fn: (visit: JobVisit) => unknown;
  readonly options: JobOptions;
  readonly onProblem: NonNullable<JobOptions['onProblem']>;
  readonly job: string;
  readonly store: JobStore;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  readonly attemptsMax: number;
}

/** A tenant whose visit is broken off with the run stays to be visited. */
async function visitTenant(tenant: string, turn: Turn): Promise<void> {
  const { store, signal, attemptsMax, onProblem } = turn;
  const begun = performance.now();
  for (let attempt = 1; ; attempt += 1) {
    const visit = new Visit();
    const outcome = await attemptVisit({ tenant, attempt, visit }, turn);
    if (signal.aborted) return;
    const { rowsRead, rowsWritten } = visit;
    const counted = { tenant, attempts: attempt, milliseconds: Math.round(performance.now() - begun) };
    if (outcome.kind === 'succeeded') {
      const done: EndedVisit = { ...counted, outcome: 'succeeded', reason: null, rowsRead, rowsWritten };
      await store.ended(done);
      return;
    }
    if (outcome.kind === 'skipped' || !outcome.retry || attempt >= attemptsMax) {
      // What was written in an attempt that failed is rolled back, or in doubt.
      await store.ended({ ...counted, outcome: outcome.kind, reason: outcome.reason, rowsRead: 0, rowsWritten: 0 });
      onProblem({ tenant, outcome: outcome.kind, reason: outcome.reason, error: outcome.error });
      return;
    }
    const pause = Math.min(backoffMs * 2 ** (attempt - 1), backoffMsMax) * (0.5 + Math.random());
    await delay(pause, undefined, { signal }).catch(() => undefined);
  }
}

type Attempted = { readonly kind: 'succeeded' } | (AttemptOutcome & { readonly error: unknown });

/** Ends when the function has ended and all that it sent is answered, or when its time is over and what it sent has been stopped. */
async function attemptVisit({ tenant, attempt, visit }: { tenant: string; attempt: number; visit: Visit }, turn: Turn): Promise<Attempted> {
  const { fn, options, job, timeoutMs } = turn;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), timeoutMs);
  const signal = AbortSignal.any([turn.signal, late.signal]);
  const { promise: stopped, resolve: stop } = Promise.withResolvers<'stopped'>();
  const onAbort = (): void => stop('stopped');
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  const context = { tenant, user: options.user ?? `job:${job}` };
  const work = inScope({ kind: 'none', visit }, () => run(context, async () => await fn({ tenant, attempt, signal }))).then(async () => {
    await visit.idle();
    return undefined;
  });
  try {
    const first = await Promise.race([work, stopped]);
    if (first === undefined) return { kind: 'succeeded' };
    work.catch(() => undefined); // it has been given up
    const ended = await visit.stop();
    const reason = ended ? 'timeout' : 'timeout, and the server has not said that its statements ended';
    return { kind: 'failed', reason, retry: false, error: new StatementRefusedError({ message: `visiting tenant ${JSON.stringify(tenant)}: ${reason}` }) };
  } catch (error) {
    // The error comes just before the end of its statement; what else the function left running is not to go on beside the next attempt.
    await Promise.race([visit.idle(), delay(settleMs)]);
    await visit.stop();
    return { ...attemptOutcome(error), error };
  } finally {
    visit.close();
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

function within(name: string, value: number, most: number): number {
  if (!Number.isInteger(value) || value < 1 || value > most) throw new TypeError(`${name} of a job is ${value}: a whole number from 1 to ${most}`);
  return value;
}
