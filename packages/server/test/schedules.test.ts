import { inProcess, works } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../test/support/control-database.ts';
import { schedules } from '../src/schedules.ts';

const { control, database, tenant } = await controlDatabase();
await tenant('Alder');

test('everything that is done by itself works, and is recorded as the work of the system', async () => {
  const durable = inProcess(control, works);
  for (const { run } of schedules(control)) await run(durable);
  await durable.stop();
  const surveys = await database.query('select from partywall_control.usage_surveys where finished_at is not null');
  expect(surveys.rowCount).toBe(1);
  const { rows } = await database.query<{ actor: string }>(
    `select distinct actor_kind || ':' || actor_id as actor from partywall_control.audit_records where action like 'audit.%'`,
  );
  expect(rows).toEqual([{ actor: 'system:schedule' }]);
});

test('each has a name of its own and a time that can be read', () => {
  const all = schedules(control);
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
  for (const { cron } of all) expect(cron).toMatch(/^(\*|\d+) (\*|\d+) \* \* \*$/);
});
