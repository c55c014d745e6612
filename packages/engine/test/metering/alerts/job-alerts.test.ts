import { evaluateAlerts, listAlerts } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { query } = fixture.database;
const operation = fixture.operation();
await query("update partywall_control.alert_rules set enabled = name = 'jobs'");

const open = async (): Promise<string[]> => {
  await evaluateAlerts(operation);
  return (await listAlerts(operation, { limit: 100 })).map(({ message }) => message).sort();
};

async function begun(job: string, key: string): Promise<string> {
  const { rows } = await query<{ run: string }>('select run from partywall.begin_job_run($1, $2)', [job, key]);
  return rows[0]?.run ?? '';
}

async function ran(job: string, key: string, outcome: 'succeeded' | 'failed', rowsRead: number): Promise<void> {
  const run = await begun(job, key);
  await query("update partywall.job_visits set outcome = $2, rows_read = $3 where run = $1 and outcome = 'pending'", [run, outcome, rowsRead]);
  await query('select partywall.end_job_run($1)', [run]);
}

test('a job in trouble opens an alert of its own, critical at the third run, that ends with a good run', async () => {
  await query("insert into partywall.registry (tenant_id) values ('00000000-0000-0000-0000-000000000001') on conflict do nothing");
  await ran('purge', '1', 'succeeded', 5);
  await ran('reports', '1', 'succeeded', 5);
  expect(await open()).toEqual([]);
  await ran('purge', '2', 'succeeded', 0);
  expect(await open()).toEqual(['System: Job over all tenants purge at 1 runs (warning at 1 runs)']);
  await ran('purge', '3', 'failed', 0);
  await ran('purge', '4', 'succeeded', 0);
  expect(await open()).toEqual(['System: Job over all tenants purge at 3 runs (critical at 3 runs)']);
  await ran('purge', '5', 'succeeded', 5);
  expect(await open()).toEqual([]);
});

test('a run whose process died is in trouble, one that goes on is not', async () => {
  await query("select pg_advisory_lock(hashtextextended('partywall:job:nightly', 0))");
  await begun('nightly', '1');
  expect(await open()).toEqual([]);
  await query("select pg_advisory_unlock(hashtextextended('partywall:job:nightly', 0))");
  expect(await open()).toEqual(['System: Job over all tenants nightly at 1 runs (warning at 1 runs)']);
});
