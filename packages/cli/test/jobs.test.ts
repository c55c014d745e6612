import { expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal();
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service } };
const run = (...args: string[]) => partywall(['jobs', ...args], operator);
const { query } = on.database;

/** A run of the job in which every tenant that may be visited saw so many rows. */
async function ran(key: string, rows: number, failed?: string): Promise<void> {
  const { rows: begun } = await query<{ run: string }>('select run from partywall.begin_job_run($1, $2)', ['reports', key]);
  const of = begun[0]?.run;
  await query(`update partywall.job_visits set outcome = 'succeeded', attempts = 1, rows_read = $2 where run = $1 and outcome = 'pending'`, [of, rows]);
  if (failed)
    await query(`update partywall.job_visits set outcome = 'failed', reason = $3, attempts = 3 where run = $1 and tenant_id = $2`, [
      of,
      failed,
      'database error 40P01',
    ]);
  await query('select partywall.end_job_run($1)', [of]);
}

test('a job is listed with who was visited, and with exit 1 where tenants were left out or what never was zero is', async () => {
  expect(await run('list')).toMatchObject({ status: 0, stdout: 'no job has run\n' });
  await ran('2026-09', 5);
  expect((await run('list')).stdout).toMatch(/^reports: \S+Z {2}2026-09 {2}complete, visited (\d+) of \1: /);
  expect((await run('list')).status).toBe(0);
  await ran('2026-10', 0);
  const alerting = await run('list');
  expect([alerting.status, alerting.stdout]).toEqual([1, expect.stringContaining('\n  ALERT: rowsRead is 0 and never was\n')]);
  const { rows } = await query<{ tenant: string }>('select min(tenant_id::text) as tenant from partywall.registry');
  const tenant = rows[0]?.tenant ?? '';
  await ran('2026-11', 5, tenant);
  const failed = await run('show', 'reports');
  expect([failed.status, failed.stdout]).toEqual([1, expect.stringContaining(`  ${tenant}  failed: database error 40P01 after 3 attempts\n`)]);
  expect(json(await run('show', 'reports', '--run', '2026-09', '--json'))).toMatchObject({ runs: [{ runKey: '2026-09', status: 'complete', alerts: [] }] });
});

test('a run that has not ended is running while its lock is held, and else broken off', async () => {
  await query('select partywall.begin_job_run($1, $2)', ['nightly', 'k']);
  expect(await run('show', 'nightly')).toMatchObject({ status: 1, stdout: expect.stringContaining('broken off, visited 0 of ') });
  await query("select pg_advisory_lock(hashtextextended('partywall:job:nightly', 0))");
  expect(await run('show', 'nightly')).toMatchObject({ status: 0, stdout: expect.stringContaining('running, visited 0 of ') });
  await query("select pg_advisory_unlock(hashtextextended('partywall:job:nightly', 0))");
});

test('a job that has not run is a mistake', async () => {
  expect(await run('show', 'nothing')).toMatchObject({ status: 2, stderr: expect.stringContaining('it has not run') });
});
