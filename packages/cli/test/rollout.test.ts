import { expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal('contract');
const acme = '11111111-1111-4111-8111-111111111111';
const operator = { cwd: on.cwd, env: { ...on.env, PARTYWALL_OPERATOR: 'kari' } };
const run = (...args: string[]) => partywall(['rollout', ...args], operator);
const modes = async () =>
  (await on.database.query("select scope || ' ' || target || ' ' || mode as mode from partywall.rollout order by 1")).rows.map(({ mode }) => mode);

test('a dry run prints what the run does, and changes nothing', async () => {
  const dry = await run('observe', '--dry-run', '--json');
  expect([dry.status, await modes()]).toEqual([0, []]);
  const done = await run('observe', '--reason', 'first look', '--json');
  const { dryRun: _, ...planned } = json(dry) as Record<string, unknown>;
  expect(json(done)).toEqual({ ...planned, dryRun: false });
  expect(await modes()).toEqual(['all  observe']);
  expect(await run('observe')).toMatchObject({ status: 0, stdout: 'rollout: nothing to change\n' });
});

test('a canary, a tenant and a table each have their mode, the status shows it, and enforcing ends all of it', async () => {
  expect(await run('canary', '10', '--reason', 'first tenants')).toMatchObject({ status: 0, stdout: 'set canary of 10 %: enforce\n' });
  expect(await run('enforce', '--tenant', acme)).toMatchObject({ status: 0, stdout: `set tenant ${acme}: enforce\n` });
  expect(await run('observe', '--table', 'public.notes')).toMatchObject({ status: 0 });
  const shown = await run('status');
  expect(shown).toMatchObject({ status: 0, stderr: '' });
  expect(shown.stdout).toContain(
    `all: observe  (first look)\ncanary of 10 %: enforce  (first tenants)\ntable public.notes: observe\ntenant ${acme}: enforce\n`,
  );
  expect(shown.stdout).toMatch(/^tenants: \d enforced, \d observed, of 2$/m);
  expect(shown.stdout).toContain('open to the application: public.notes\n');
  expect(json(await run('status', '--hours', '1', '--json'))).toMatchObject({ openTables: ['public.notes'], unwatchedTables: [], tenants: { of: 2 } });
  expect((await run('enforce', '--reason', 'done')).status).toBe(0);
  expect(await modes()).toEqual(['all  enforce']);
  expect((await on.database.query("select from pg_policies where policyname = 'partywall_observe'")).rowCount).toBe(0);
  expect((await on.database.query("select from pg_trigger where tgname like '%pw_observe%'")).rowCount).toBe(0);
});

test('each change is in the audit log, under the operator’s name', async () => {
  const { rows } = await on.database.query(
    "select action, actor_id, tenant_id from partywall_control.audit_records where action like 'rollout.%' order by at, tenant_id",
  );
  expect(rows.map(({ action, actor_id, tenant_id }) => [action, actor_id, tenant_id])).toEqual([
    ['rollout.observe', 'kari', ''],
    ['rollout.canary', 'kari', ''],
    ['rollout.enforce', 'kari', acme],
    ['rollout.observe', 'kari', ''],
    ['rollout.enforce', 'kari', ''],
  ]);
});

test('the service role is enough to go back at night, and the command says what is left to do', async () => {
  const night = await partywall(['rollout', 'observe', '--reason', 'errors'], { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: on.service } });
  expect(night.status).toBe(1);
  expect(night.stdout).toMatch(/^set all: observe\ntables followed up: 0 of 3\n(not done: log writes .*\n){3}$/);
  expect(await modes()).toEqual(['all  observe']);
  expect((await run('status')).status).toBe(1);
  expect((await run('observe')).stdout).toBe('tables followed up: 3 of 3\n');
  expect((await run('enforce')).status).toBe(0);
});

test('what makes no sense is refused before anything is asked', async () => {
  for (const args of [
    ['canary', '101'],
    ['canary', 'x'],
    ['observe', '--tenant', acme, '--table', 'public.notes'],
    ['observe', '--tenant', 'nobody'],
    ['enforce', '--table', 'public.countries'],
  ]) {
    expect([args, (await run(...args)).status]).toEqual([args, 2]);
  }
  expect(await modes()).toEqual(['all  enforce']);
});
