import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { forEachTenant, type JobReceipt } from '../../src/jobs/for-each-tenant.ts';
import { type ScheduleOptions, schedule, type Tick } from '../../src/jobs/schedule.ts';
import { warnings } from '../warnings.ts';
import { jobDatabase } from './job-database.ts';

const wall = await jobDatabase();
const pool = wall.pool({ max: 5 });
const job = 'ticking';
const everySecond = { cron: '* * * * * *', timezone: 'Europe/Berlin', system: wall.system, job };

const errors: unknown[] = [];

beforeEach(() => wall.database.query('truncate partywall.job_runs, partywall.job_visits'));
afterEach(() => expect(errors).toEqual([]));

function started(input: typeof everySecond, work: (tick: Tick) => Promise<JobReceipt>, options: Partial<ScheduleOptions> = {}): void {
  const made = schedule(input, work, { onError: (error) => errors.push(error), ...options });
  onTestFinished(() => made.stop());
}

test('each time is worked on once, however many processes have the schedule', async () => {
  const visits: string[] = [];
  const receipts: JobReceipt[] = [];
  const work = ({ runKey, signal }: Tick): Promise<JobReceipt> =>
    forEachTenant({ pool, system: wall.system, job }, ({ tenant }) => visits.push(`${runKey} ${tenant}`), { runKey, signal });
  for (let process = 0; process < 3; process += 1) started(everySecond, work, { onReceipt: (receipt) => receipts.push(receipt) });
  await vi.waitFor(() => expect(new Set(receipts.map(({ runKey }) => runKey)).size).toBeGreaterThanOrEqual(2), { timeout: 15_000 });
  expect(new Set(visits).size).toBe(visits.length);
  for (const { runKey, status } of receipts)
    expect([new Date(runKey).toISOString(), new Date(runKey).getMilliseconds(), status]).toEqual([runKey, 0, 'complete']);
});

test('times at which nothing ran are said once', async () => {
  const last = new Date(Date.now() - 3 * 86_400_000);
  await wall.database.query('insert into partywall.job_runs (job, run_key, started_at) values ($1, $2, now())', [job, last.toISOString()]);
  const missed: Date[][] = [];
  const never = (): Promise<JobReceipt> => Promise.reject(new Error('not yet'));
  started({ ...everySecond, cron: '0 3 * * *' }, never, { onMissed: (times) => missed.push([...times]) });
  await vi.waitFor(() => expect(missed).toHaveLength(1));
  const hours = missed[0]?.map((time) => time.toLocaleTimeString('en-GB', { timeZone: 'Europe/Berlin' }));
  expect(hours).toEqual(['03:00:00', '03:00:00', '03:00:00']);
  expect(missed[0]?.every((time) => time > last && time < new Date())).toBe(true);
});

test('stopping ends the run that goes on, and waits for it', async () => {
  const begun = Promise.withResolvers<void>();
  const receipts: JobReceipt[] = [];
  const made = schedule(
    everySecond,
    ({ runKey, signal }) =>
      forEachTenant(
        { pool, system: wall.system, job },
        async () => {
          begun.resolve();
          await pool.query('select pg_sleep(600)');
        },
        { runKey, signal },
      ),
    { onError: (error) => errors.push(error), onReceipt: (receipt) => receipts.push(receipt) },
  );
  await begun.promise;
  await made.stop();
  expect(receipts).toMatchObject([{ status: 'incomplete', notVisited: 60 }]);
});

test('what a listener throws stops no run, and is said once', async () => {
  const warned = warnings();
  const last = new Date(Date.now() - 3_600_000);
  await wall.database.query('insert into partywall.job_runs (job, run_key, started_at) values ($1, $2, now())', [job, last.toISOString()]);
  let receipts = 0;
  started(everySecond, ({ runKey, signal }) => forEachTenant({ pool, system: wall.system, job }, () => undefined, { runKey, signal }), {
    onReceipt: () => {
      receipts += 1;
      throw new Error('the receipt was not taken');
    },
    onMissed: () => Promise.reject(new Error('nobody was told')),
  });
  let failures = 0;
  const onError = (): void => {
    failures += 1;
    throw new Error('the log is full');
  };
  const broken = schedule({ ...everySecond, job: 'broken' }, () => Promise.reject(new Error('not yet')), { onError });
  onTestFinished(() => broken.stop());
  await vi.waitFor(() => expect(Math.min(receipts, failures)).toBeGreaterThanOrEqual(2), { timeout: 15_000 });
  expect(warned.map((message) => message.split('\n', 1)[0]).sort()).toEqual([
    'onError of the schedule of job "broken" failed, which is said once: Error: the log is full',
    'onMissed of the schedule of job "ticking" failed, which is said once: Error: nobody was told',
    'onReceipt of the schedule of job "ticking" failed, which is said once: Error: the receipt was not taken',
  ]);
});

test('a pattern or a time zone that is none is refused', () => {
  const work = (): Promise<JobReceipt> => Promise.reject(new Error('never'));
  for (const wrong of [{ cron: '61 * * * *' }, { timezone: 'Berlin' }])
    expect(() => schedule({ ...everySecond, ...wrong }, work, { onError: () => undefined })).toThrow();
});
