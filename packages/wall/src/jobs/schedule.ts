import { Cron } from 'croner';
import type pg from 'pg';
import { JobError } from '../errors.ts';
import { listener } from '../listener.ts';
import type { JobReceipt } from './for-each-tenant.ts';
import { lastRunKey } from './job-store.ts';

export interface ScheduleInput {
  /** Five fields, or six with seconds in front. */
  readonly cron: string;
  /** IANA name: `Europe/Berlin`. Said, because servers differ. */
  readonly timezone: string;
  /** The system pool, and the name that the work gives `forEachTenant`. */
  readonly system: pg.Pool;
  readonly job: string;
}

export interface Tick {
  /** The same in every process: who comes second finds the run going on, or complete. */
  readonly runKey: string;
  readonly scheduledFor: Date;
  /** Aborts when the schedule is stopped. */
  readonly signal: AbortSignal;
}

export interface ScheduleOptions {
  /** Hears of a run that could not be made, and of a schedule that could not look. */
  readonly onError: (error: unknown) => void;
  /** Hears of each run's receipt; look at `status` and `alerts`. */
  readonly onReceipt?: (receipt: JobReceipt) => void;
  /** Hears of times at which nothing ran since the job last did, once per process: nobody was up, or the run before took too long. At most `missedMax`. */
  readonly onMissed?: (times: readonly Date[]) => void;
}

export interface Schedule {
  next(): Date | null;
  /** Starts nothing more, ends what runs, and resolves when it has ended. */
  stop(): Promise<void>;
}

export const missedMax = 100;

/**
 * Runs `work` at the times of a cron pattern. Every process may have the schedule: the run key is the time, and `forEachTenant` holds the job's lock,
 * so each time is worked on once, and two runs never overlap. What was missed is said, not made up for: that is `forEachTenant` with its key.
 *
 * @throws TypeError or RangeError where croner takes neither pattern nor time zone
 * @example
 * const job = 'monthly reports';
 * schedule({ cron: '0 3 1 * *', timezone: 'Europe/Berlin', system: systemPool, job },
 *   ({ runKey, signal }) => forEachTenant({ pool, system: systemPool, job }, () => processMonthlyReports(), { runKey, signal }),
 *   { onError: (error) => log.error(error) });
 */
export function schedule({ cron, timezone, system, job }: ScheduleInput, work: (tick: Tick) => Promise<JobReceipt>, options: ScheduleOptions): Schedule {
  const stopping = new AbortController();
  const running = new Set<Promise<void>>();
  const named = (option: keyof ScheduleOptions): string => `${option} of the schedule of job ${JSON.stringify(job)}`;
  const onError = listener(named('onError'), options.onError);
  const onReceipt = listener(named('onReceipt'), options.onReceipt);
  const onMissed = listener(named('onMissed'), options.onMissed);
  let saidUntil = 0;

  const sayMissed = async (times: Cron, before: Date): Promise<void> => {
    const since = Math.max(timeOf(await lastRunKey(system, job)), saidUntil);
    if (Number.isNaN(since)) return;
    const missed = times.nextRuns(missedMax, new Date(since)).filter((time) => time < before);
    saidUntil = before.getTime() - 1;
    if (missed.length > 0) onMissed(missed);
  };
  const runAt = async (times: Cron, scheduledFor: Date): Promise<void> => {
    try {
      await sayMissed(times, scheduledFor);
      onReceipt(await work({ runKey: scheduledFor.toISOString(), scheduledFor, signal: stopping.signal }));
    } catch (error) {
      // Another process has this time, or the run before goes on, which the next one says.
      if (!(error instanceof JobError && error.code === 'job_running')) onError(error);
    }
  };
  const kept = (promise: Promise<void>): void => {
    running.add(promise);
    promise.finally(() => running.delete(promise));
  };

  const times = new Cron(cron, { timezone }, (self) => {
    const [scheduledFor] = self.previousRuns(1, new Date(Date.now() + 1_000));
    if (scheduledFor) kept(runAt(self, scheduledFor));
  });
  kept(sayMissed(times, new Date()).catch(onError));
  return {
    next: () => times.nextRun(),
    stop: async () => {
      times.stop();
      stopping.abort();
      await Promise.all(running);
    },
  };
}

/** Of a run key that a schedule made; NaN of any other. */
function timeOf(runKey: string | undefined): number {
  return runKey !== undefined && /^\d{4}-\d{2}-\d{2}T[\d:.]+Z$/.test(runKey) ? Date.parse(runKey) : Number.NaN;
}
