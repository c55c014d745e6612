import { inProcess, runBackup, worksOf } from '@partywall/engine';
import { expect, inject, test } from 'vitest';
import { archiveFixture } from '../../../test/support/archive.ts';
import { schedules } from '../src/schedules.ts';
import { serverFixture } from './server.ts';

const base = await archiveFixture();
let keyring = '';
const archive = { open: () => base.open({ keyring }), staging: { url: inject('clusterUrl') } };
const { server, person, tenant, control, operation, database } = await serverFixture(undefined, { archive });
keyring = control.keyring;
const tenants = [await tenant('Own AS', 'enterprise'), await tenant('Other AS', 'free')];
const operator = await person({ superAdmin: true });

const due = async (changes: { readonly clock?: () => Date } = {}): Promise<void> => {
  const durable = inProcess(control, worksOf({ archive }));
  await schedules({ ...control, ...changes }, { archive })
    .find(({ name }) => name === 'backup.drill')
    ?.run(durable)
    .finally(() => durable.stop());
};

async function drills(): Promise<{ outcome: string; tenants: number }[]> {
  return (await database.query<{ outcome: string; tenants: number }>('select outcome, tenants from partywall_control.drills order by started_at')).rows;
}

async function proved(): Promise<Record<string, unknown>> {
  const answer = await server.inject({ url: '/api/admin/backups/status', headers: operator.headers });
  const { items } = answer.json<{ items: { tenant: string; proved: unknown }[] }>();
  return Object.fromEntries(items.map((item) => [item.tenant, item.proved]));
}

test('who is due by tier is drilled at night, once, and the status says what was proved', async () => {
  await due();
  expect(await drills()).toEqual([]);
  const opened = await archive.open();
  const { id, at } = await runBackup(operation(), opened, { reason: 'test' });
  expect(await proved()).toEqual(Object.fromEntries(tenants.map((each) => [each, null])));

  await due();
  await due();
  expect(await drills()).toEqual([{ outcome: 'passed', tenants: 2 }]);
  expect(await proved()).toEqual(
    Object.fromEntries(tenants.map((each) => [each, { backup: id, at: new Date(at).toISOString(), provedAt: expect.any(String) }])),
  );

  // A week later it is time for the enterprise tenant, and the other one is there to attack it.
  await due({ clock: () => new Date(Date.now() + 7 * 86_400_000) });
  expect((await drills()).at(-1)).toEqual({ outcome: 'passed', tenants: 2 });
});

test('one that fails is an error of the schedule, and proves nothing', async () => {
  await database.query('delete from partywall_control.proved_points');
  await database.query('alter table customers no force row level security');
  const opened = await archive.open();
  await runBackup(operation(), opened, { reason: 'test' });
  await database.query('alter table customers force row level security');
  await expect(due()).rejects.toMatchObject({ code: 'archive_damaged', message: expect.stringContaining('public.customers') });
  expect((await drills()).filter(({ outcome }) => outcome === 'failed')).toEqual([{ outcome: 'failed', tenants: 2 }]);
  expect(await proved()).toEqual(Object.fromEntries(tenants.map((each) => [each, null])));
});
