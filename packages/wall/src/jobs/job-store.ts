import type pg from 'pg';
import { system } from '../context.ts';
import { JobError } from '../errors.ts';
import type { JobReceipt } from './receipt.ts';

export interface EndedVisit {
  readonly tenant: string;
  readonly outcome: 'succeeded' | 'failed' | 'skipped';
  readonly reason: string | null;
  readonly attempts: number;
  readonly rowsRead: number;
  readonly rowsWritten: number;
  readonly milliseconds: number;
}

/** The record of one run, on a connection of the system login that holds the job's lock as long as it is open. */
export interface JobStore {
  /** The receipt where the run was complete before. */
  readonly done: JobReceipt | undefined;
  /** Aborts when the connection, and with it the lock, is lost. */
  readonly lost: AbortSignal;
  /** Tenants to visit, each once. */
  tenants(): AsyncGenerator<string, undefined>;
  ended(visit: EndedVisit): Promise<void>;
  end(): Promise<JobReceipt>;
  close(): Promise<void>;
}

const pageTenants = 200;

/** @throws JobError job_running where another run of the job holds its lock */
export async function openJobStore(pool: pg.Pool, job: string, runKey: string): Promise<JobStore> {
  const purpose = `job ${job}`;
  const client = await system(purpose, () => pool.connect());
  const lost = new AbortController();
  const onLost = (cause: Error): void => lost.abort(interrupted(job, cause));
  client.on('error', onLost);
  // One at a time: workers share the connection.
  let last: Promise<unknown> = Promise.resolve();
  const ask = <Row extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<Row[]> => {
    const asked = last.then(() => system(purpose, () => client.query<Row>(text, [...values]))).then(({ rows }) => rows);
    last = asked.catch(() => undefined);
    return asked;
  };
  const close = async (unlock: boolean): Promise<void> => {
    await last;
    const unlocked =
      unlock && !lost.signal.aborted && (await ask('select pg_advisory_unlock(hashtextextended($1, 0))', [lockName(job)]).then(isThere, () => false));
    client.off('error', onLost);
    // Else the lock would stay with a connection that somebody else is given.
    client.release(!unlocked && unlock);
  };

  let locked = false;
  try {
    const [lock] = await ask<{ locked: boolean }>('select pg_try_advisory_lock(hashtextextended($1, 0)) as locked', [lockName(job)]);
    locked = lock?.locked ?? false;
    if (!locked) throw new JobError('job_running', { message: `running job ${JSON.stringify(job)}: it is running already` });
    const [begun] = await ask<{ run: string; receipt: JobReceipt | null }>('select run, receipt from partywall.begin_job_run($1, $2)', [job, runKey]);
    if (!begun) throw interrupted(job, new Error('the run was not begun'));
    const { run } = begun;
    return {
      done: begun.receipt ?? undefined,
      lost: lost.signal,
      tenants: async function* () {
        let after = '';
        for (;;) {
          const page = await ask<{ tenant: string }>('select tenant from partywall.next_job_visits($1, $2, $3) tenant', [run, after, pageTenants]);
          for (const { tenant } of page) yield tenant;
          const end = page.at(-1);
          if (!end) return undefined;
          after = end.tenant;
        }
      },
      ended: async (visit) => {
        await ask('select partywall.end_job_visit($1, $2)', [run, JSON.stringify(visit)]);
      },
      end: async () => {
        const [ended] = await ask<{ receipt: JobReceipt }>('select partywall.end_job_run($1) as receipt', [run]);
        if (!ended) throw interrupted(job, new Error('the run was not ended'));
        return ended.receipt;
      },
      close: () => close(true),
    };
  } catch (error) {
    await close(locked);
    throw error;
  }
}

/** The key of the job's latest run, complete or not. */
export async function lastRunKey(pool: pg.Pool, job: string): Promise<string | undefined> {
  const { rows } = await system(`job ${job}`, () => pool.query<{ key: string | null }>('select partywall.last_job_run($1) as key', [job]));
  return rows[0]?.key ?? undefined;
}

export function interrupted(job: string, cause: unknown): JobError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new JobError('job_interrupted', { message: `running job ${JSON.stringify(job)}: ${why}`, cause });
}

function lockName(job: string): string {
  return `partywall:job:${job}`;
}

function isThere(rows: readonly unknown[]): boolean {
  return rows.length > 0;
}
